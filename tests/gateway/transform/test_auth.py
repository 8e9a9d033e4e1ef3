"""How connectors prove themselves: what goes into the request, and what would break it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.exchange import Body, Exchange, Outgoing
from gateway.identity.keys import make as make_key
from gateway.model import Caller, Plan
from gateway.problems import Rejected
from gateway.transform.auth import TYPES, AuthFault, Injection, check_field, fill, make, names_in
from gateway.transform.sigv4 import MADE, Credentials, Signer

SECRETS = {"token": "t0ken", "username": "Aladdin", "password": "open sesame", "other": "0ther"}
SECRETS |= {"access_key": "AKIAEXAMPLE", "secret_key": "s3cret"}
MINIMAL: dict[str, dict[str, str]] = {"aws-sigv4": {"region": "us-east-1"}}


@pytest.mark.parametrize(
    ("auth_type", "config", "names", "injection"),
    [
        pytest.param("none", {}, (), Injection(), id="none"),
        pytest.param(
            "bearer", {}, ("token",), Injection((("Authorization", "Bearer t0ken"),)), id="bearer"
        ),
        pytest.param(
            "bearer",
            {"token_ref": "other"},
            ("other",),
            Injection((("Authorization", "Bearer 0ther"),)),
            id="bearer with another secret",
        ),
        pytest.param(
            "basic",
            {},
            ("username", "password"),
            Injection((("Authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),)),
            id="basic, the example of RFC 7617 2",
        ),
        pytest.param(
            "header",
            {
                "headers": {
                    "X-Key": "{{secrets.token}}",
                    "X-Sum": "a {{ secrets.other }}",
                    "X-B": "b",
                }
            },
            ("token", "other"),
            Injection((("X-Key", "t0ken"), ("X-Sum", "a 0ther"), ("X-B", "b"))),
            id="header",
        ),
        pytest.param(
            "query",
            {"param_name": "api key", "secret_ref": "other"},
            ("other",),
            Injection(query=(("api key", "0ther"),)),
            id="query",
        ),
        pytest.param(
            "aws-sigv4",
            {"region": "us-east-1"},
            ("access_key", "secret_key"),
            Injection(
                finish=Signer(
                    Credentials("AKIAEXAMPLE", "s3cret", "us-east-1", "s3"),
                    None,
                    sign_payload=False,
                ),
                replaces=MADE,
                for_host=True,
            ),
            id="aws-sigv4",
        ),
        pytest.param(
            "aws-sigv4",
            {
                "access_key_ref": "other",
                "session_token_ref": "token",
                "region": "auto",
                "service": "execute-api",
                "sign_payload": True,
            },
            ("other", "secret_key", "token"),
            Injection(
                finish=Signer(
                    Credentials("0ther", "s3cret", "auto", "execute-api"),
                    b"t0ken",
                    sign_payload=True,
                ),
                replaces=MADE,
                for_host=True,
                needs_body=True,
            ),
            id="aws-sigv4 with a session and a signed body",
        ),
    ],
)
def test_each_type_names_its_secrets_and_puts_them_in(
    auth_type: str, config: dict[str, Any], names: tuple[str, ...], injection: Injection
) -> None:
    auth = make(auth_type, config)

    assert auth.secret_names() == names
    assert auth.inject(SECRETS) == injection


def test_basic_credentials_are_utf_8() -> None:
    injection = make("basic", {}).inject({"username": "test", "password": "123£"})

    assert injection.headers == (("Authorization", "Basic dGVzdDoxMjPCow=="),)  # RFC 7617 2.1


def test_basic_user_with_a_colon_is_refused_unseen() -> None:
    with pytest.raises(AuthFault) as caught:
        make("basic", {}).inject({"username": "hush:x", "password": "p"})
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("auth_type", TYPES)
def test_unknown_setting_is_refused(auth_type: str) -> None:
    with pytest.raises(AuthFault, match=f'{auth_type} has no setting "colour"'):
        make(auth_type, {"colour": "red"})


def test_unknown_type_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(AuthFault, match='"magic"; known: none, bearer, basic, header, query'):
        make("magic", {})


@pytest.mark.parametrize("value", ["", "us east", "a/b", "a,b", "é", "a\n", "x" * 65])
@pytest.mark.parametrize("setting", ["region", "service"])
def test_what_is_no_part_of_a_signatures_scope_is_refused(setting: str, value: str) -> None:
    with pytest.raises(AuthFault, match=f"needs a {setting}"):
        make("aws-sigv4", {"region": "us-east-1", setting: value})


def test_region_has_no_default() -> None:
    with pytest.raises(AuthFault, match="needs a region"):
        make("aws-sigv4", {})


@pytest.mark.parametrize(
    ("name", "value"),
    [("access_key", bad) for bad in ("hush/x", "hush,x", "hush x", "hush\n", "húsh", "h" * 129)]
    + [("token", "hush\r\nX: y")],
)
def test_aws_secret_that_would_break_the_fields_is_refused_unseen(name: str, value: str) -> None:
    auth = make("aws-sigv4", {"region": "us-east-1", "session_token_ref": "token"})

    with pytest.raises(AuthFault) as caught:
        auth.inject({**SECRETS, name: value})
    assert "hush" not in str(caught.value)


KEY = make_key().value
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbmEifQ.c2lnbmF0dXJl"


def passing(kind: str, *fields: tuple[str, str], name: str = "Authorization") -> None:
    """Finish a request with these fields for a connector that passes one of them."""
    exchange = Exchange(
        "GET", "/x", "", CIMultiDict(fields), (), Body(None), client_address="", request_id="r"
    )
    exchange.caller = Caller(kind, "id", "name", "team", Plan("p", "p"))
    injection = make("passthrough", {"header_name": name}).inject({})
    assert (injection.passes, injection.headers, injection.finish is None) == (name, (), False)
    sent = [(n.encode(), v.encode("utf-8", "surrogateescape")) for n, v in fields]
    if injection.finish is not None:
        injection.finish(exchange, Outgoing("GET", "/x", sent), b"h")


@pytest.mark.parametrize(
    "value", ["Bearer the.callers.own", "Basic dTpw", "", "gw_short", f"{JWT}x"]
)
@pytest.mark.parametrize("kind", ["key", "user"])
def test_callers_own_field_passes(kind: str, value: str) -> None:
    used = ("X-API-Key", KEY) if kind == "key" else ("Authorization", f"Bearer {JWT[:-1]}0")
    name = "Authorization" if kind == "key" else "X-Own"

    passing(kind, used, (name, value), name=name)


@pytest.mark.parametrize(
    ("kind", "name", "fields"),
    [
        ("key", "Authorization", [("authorization", f"Bearer {KEY}")]),
        ("key", "Authorization", [("Authorization", KEY), ("X-API-Key", KEY)]),
        ("key", "X-Own", [("Authorization", f"Bearer {KEY}"), ("X-Own", f"x {KEY}")]),
        ("key", "X-Own", [("X-API-Key", KEY), ("x-own", make_key().value)]),
        ("user", "Authorization", [("Authorization", f"Bearer {JWT}")]),
        ("user", "X-Own", [("Authorization", f"bearer  {JWT}"), ("X-Own", JWT)]),
        ("user", "X-Own", [("X-API-Key", JWT), ("X-Own", f"Bearer {JWT}")]),
        ("user", "X-Own", [("X-Goog-Api-Key", JWT), ("X-Own", JWT)]),
    ],
)
def test_credential_for_the_gateway_never_passes(
    kind: str, name: str, fields: list[tuple[str, str]]
) -> None:
    with pytest.raises(Rejected, match="for the gateway") as caught:
        passing(kind, *fields, name=name)
    assert (caught.value.code, [fault.pointer for fault in caught.value.errors]) == (
        "validation_failed", [name],
    )  # fmt: skip
    assert not any(secret in str(caught.value) for secret in (KEY, JWT))


@pytest.mark.parametrize("fields", [[], [("X-Own", "1"), ("x-own", "2")]])
def test_field_that_is_to_pass_must_be_there_once(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(Rejected, match="needs the header X-Own once") as caught:
        passing("key", ("X-API-Key", KEY), *fields, name="X-Own")
    assert caught.value.code == "validation_failed"


@pytest.mark.parametrize("name", ["Host", "Content-Length", "a b", ""])
def test_name_that_cannot_pass_is_refused(name: str) -> None:
    with pytest.raises(AuthFault):
        make("passthrough", {"header_name": name})


FRAMING = [
    "Connection", "Content-Length", "Expect", "HOST", "Keep-Alive", "Proxy-Connection", "TE",
    "Trailer", "transfer-encoding", "Upgrade",
]  # fmt: skip


@pytest.mark.parametrize("name", FRAMING)
def test_fields_that_frame_the_message_cannot_be_set(name: str) -> None:
    with pytest.raises(AuthFault, match="made by the gateway"):
        make("header", {"headers": {name: "x"}})


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", "a\r\nb", "a\n", "é", "a\x00", "a/b", "(a)", "a\t", '"a"']
)
def test_names_that_are_no_tokens_are_refused(name: str) -> None:
    with pytest.raises(AuthFault, match="not a header field's name"):
        make("header", {"headers": {name: "x"}})


@pytest.mark.parametrize("octet", [*range(9), *range(10, 32), 127])
def test_control_characters_in_values_are_refused_unseen(octet: int) -> None:
    for value in (f"hush{chr(octet)}", f"{chr(octet)}hush", f"hush{chr(octet)}X: y"):
        with pytest.raises(AuthFault) as caught:
            check_field("X", value)
        assert "hush" not in str(caught.value)


@given(st.text())
def test_a_value_is_sent_as_it_is_or_refused(value: str) -> None:
    try:
        name, octets = check_field("X-Any", value)
    except AuthFault:
        assert any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in value)
    else:
        assert (name, octets.decode()) == (b"X-Any", value.strip(" \t"))
        assert not set(octets) & {0, 10, 13}


def test_placeholder_in_a_secret_is_not_filled_again() -> None:
    secrets = {"a": "{{secrets.b}}", "b": "hush"}

    assert fill("{{secrets.a}}/{{secrets.a}}", secrets) == "{{secrets.b}}/{{secrets.b}}"


def test_backslashes_in_a_secret_are_kept() -> None:
    assert fill("{{secrets.a}}", {"a": r"\1 \g<0> \\"}) == r"\1 \g<0> \\"


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{{secrets.a}}{{secrets.b}}{{secrets.a}}", ("a", "b")),
        ("{{  secrets.a-b_1  }}", ("a-b_1",)),
        ("{secrets.a} {{secret.a}} {{secrets.}} {{secrets.a b}} {{env.a}}", ()),
    ],
)
def test_placeholders_are_found_once_in_order(template: str, names: tuple[str, ...]) -> None:
    assert names_in([template]) == names


@pytest.mark.parametrize("auth_type", ["bearer", "basic", "query", "aws-sigv4"])
def test_no_repr_shows_a_secret(auth_type: str) -> None:
    shown = repr(make(auth_type, MINIMAL.get(auth_type, {})).inject(SECRETS))

    assert not any(value in shown for value in [*SECRETS.values(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ"])
