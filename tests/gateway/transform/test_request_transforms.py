"""Made bodies, signatures and passed credentials as parts of the upstream request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.exchange import Outgoing
from gateway.model import ConnectorDefinition, EndpointDefinition
from gateway.problems import Rejected
from gateway.transform.compiling import compile_connector
from gateway.transform.request import AuthFault, Mapped, MappingFault, compile_mapping
from gateway.transform.sigv4 import Credentials, authorization
from gateway.upstream.dialling import Target
from tests.dataplane import TEAM, endpoint, exchange, snapshot
from tests.loopback import Fields

URL = "http://127.0.0.1:9000/base"
AWS: Mapping[str, Any] = {"auth_type": "aws-sigv4", "auth_config": {"region": "eu-west-3"}}
SECRETS = {"access_key": "AKIAEXAMPLE", "secret_key": "s3cret-k3y", "session": "s3ssion"}
ABOUT_THE_BODY: Fields = [
    ("Content-Type", "text/xml"), ("content-encoding", "gzip"), ("Content_Type", "x"),
    ("Content-MD5", "x"), ("Digest", "x"), ("Content-Digest", "x"), ("Repr-Digest", "x"),
]  # fmt: skip


def sent(
    own: Mapping[str, Any] | None = None,
    fields: Fields = (),
    body: bytes = b"{}",
    path: str = "/up/items/7",
    secrets: Mapping[str, str] = SECRETS,
    **connector: Any,
) -> Outgoing:
    """What goes upstream."""
    frozen = snapshot(URL, [endpoint("POST", "/items/:id", **(own or {}))], **connector)
    request = exchange(
        "POST", path, fields, body, compile_connector(frozen, team=TEAM, secrets=secrets)
    )
    return request.endpoint.mapped.outgoing(request)


def mapped(own: Mapping[str, Any] | None = None, secrets: Mapping[str, str] = SECRETS, **connector: Any) -> Mapped:  # fmt: skip
    definition = ConnectorDefinition(upstream_base_url=URL, **connector)
    return compile_mapping(definition, EndpointDefinition(**(own or {})), {"path": "/x"}, secrets)


def passed(outgoing: Outgoing) -> list[tuple[bytes, bytes]]:
    """The fields that the gateway doesn't always add."""
    usual = {b"x-request-id", b"traceparent", b"via"}
    return [entry for entry in outgoing.headers if entry[0].lower() not in usual]


def test_usual_request_needs_no_last_step() -> None:
    plain = mapped(auth_type="bearer", secrets={"token": "x"})

    assert (plain.body, plain.finish, plain.needs_body) == (None, None, False)


@pytest.mark.parametrize(
    ("own", "body", "content_type"),
    [
        ({"body_transform": "static", "upstream_static_body": "[1]"}, b"[1]", b"application/json"),
        ({"body_transform": "static", "upstream_static_body": "hi"}, b"hi", None),
        ({"body_transform": "static", "upstream_static_body": "hi",
          "upstream_content_type": "text/plain"}, b"hi", b"text/plain"),
        ({"body_transform": "static", "upstream_static_body": "[1]",
          "set_headers": {"content-type": "text/x"}}, b"[1]", b"text/x"),
        ({"body_transform": "extract:a"}, b'{"b":1.0}', b"application/json"),
        ({"body_transform": "form"}, b"a%5Bb%5D=1.0", b"application/x-www-form-urlencoded"),
        ({"body_transform": "form", "upstream_content_type": "application/x-other"},
         b"a%5Bb%5D=1.0", b"application/x-other"),
        ({"body_transform": "template", "upstream_static_body": '{"id":"{{params.id}}","b":{{body.a.b}}}'},
         b'{"id":"7","b":1.0}', b"application/json"),
    ],
)  # fmt: skip
def test_made_body_takes_the_place_of_the_callers_and_of_what_was_said_of_it(
    own: dict[str, Any], body: bytes, content_type: bytes | None
) -> None:
    outgoing = sent(own, [*ABOUT_THE_BODY, ("X-A", "1")], b'{"a": {"b": 1.0}}')
    types = [value for name, value in outgoing.headers if name.lower() == b"content-type"]

    assert outgoing.body == body
    assert types == ([content_type] if content_type else [])
    assert [name for name, _ in passed(outgoing) if name.lower() != b"content-type"] == [b"X-A"]


@pytest.mark.parametrize(
    ("own", "needed"),
    [
        ({"body_transform": "static", "upstream_static_body": "x"}, False),
        ({"body_transform": "template", "upstream_static_body": '"{{query.a}}"'}, False),
        ({"body_transform": "template", "upstream_static_body": "{{body}}"}, True),
        ({"body_transform": "form"}, True),
        ({"body_transform": "extract:a"}, True),
        ({}, False),
    ],
)
def test_body_is_needed_where_something_is_made_of_it(own: dict[str, Any], needed: bool) -> None:
    assert mapped(own).needs_body is needed
    assert mapped(own, auth_type="bearer").needs_body is False  # the secret is missing: not sent


@pytest.mark.parametrize(
    ("own", "field"),
    [
        ({"upstream_path": "x"}, "upstream_path"),
        ({"body_transform": "extract:"}, "body_transform"),
        ({"body_transform": "template", "upstream_static_body": "{"}, "upstream_static_body"),
        ({"body_transform": "template", "upstream_static_body": '"{{params.b}}"'},
         "upstream_static_body"),
    ],
)  # fmt: skip
def test_fault_names_the_field(own: dict[str, Any], field: str) -> None:
    with pytest.raises(MappingFault) as caught:
        mapped(own)
    assert caught.value.field == field


def test_mapped_answers_are_asked_for_unencoded() -> None:
    fields = [("Accept-Encoding", "br")]

    assert passed(sent({"field_map": {"a": "b"}}, fields)) == [(b"Accept-Encoding", b"identity")]
    assert passed(sent({"field_map": {}}, fields)) == [(b"Accept-Encoding", b"br")]


def value(outgoing: Outgoing, name: bytes) -> bytes:
    (found,) = [value for entry, value in outgoing.headers if entry.lower() == name]
    return found


def test_signature_covers_the_request_as_it_is_sent() -> None:
    config = {**AWS["auth_config"], "session_token_ref": "session"}
    callers = [
        ("Authorization", "AWS4-HMAC-SHA256 Credential=other"), ("X-Amz-Date", "19700101T000000Z"),
        ("X-Amz-Security-Token", "other"), ("x-amz-content-sha256", "other"), ("X_Amz_Date", "x"),
        ("X-Amz-Meta-A", "b  c"), ("Content-Type", "text/plain"), ("X-A", "1"),
    ]  # fmt: skip
    own = {"upstream_query_params": {"x": "a b"}, "set_headers": {"X-Amz-Acl": "private"}}
    outgoing = sent(
        own, callers, path="/up/items/a%2Bb?q=1+2", auth_type="aws-sigv4", auth_config=config
    )
    signature = value(outgoing, b"authorization").decode()
    covered = [
        entry
        for entry in outgoing.headers
        if entry[0].lower().startswith(b"x-amz-") or entry[0].lower() == b"content-type"
    ]
    credentials = Credentials("AKIAEXAMPLE", "s3cret-k3y", "eu-west-3", "s3")

    assert outgoing.target == "/base/items/a%2Bb?q=1%202&x=a%20b"
    assert value(outgoing, b"x-amz-security-token") == b"s3ssion"
    assert value(outgoing, b"x-amz-content-sha256") == b"UNSIGNED-PAYLOAD"
    assert (b"X-A", b"1") in outgoing.headers
    assert signature == authorization(
        "POST",
        outgoing.target,
        [(b"Host", b"127.0.0.1:9000"), *covered],
        "UNSIGNED-PAYLOAD",
        value(outgoing, b"x-amz-date").decode(),
        credentials,
    )


def test_signed_payload_is_read_and_the_made_one_is_signed() -> None:
    config = {**AWS["auth_config"], "sign_payload": True}
    signed: dict[str, Any] = {"auth_type": "aws-sigv4", "auth_config": config}
    static = {"body_transform": "static", "upstream_static_body": "fixed"}

    assert mapped(**signed).needs_body
    assert not mapped(**AWS).needs_body
    assert value(sent(body=b"Welcome to Amazon S3.", **signed), b"x-amz-content-sha256") == (
        b"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
    )
    assert value(sent(static, **signed), b"x-amz-content-sha256") != value(
        sent(**signed), b"x-amz-content-sha256"
    )


@pytest.mark.parametrize("gone", ["access_key", "secret_key"])
def test_half_a_key_stops_the_request(gone: str) -> None:
    secrets = {name: kept for name, kept in SECRETS.items() if name != gone}

    with pytest.raises(Rejected, match=f'"{gone}"') as caught:
        sent(secrets=secrets, **AWS)
    assert caught.value.code == "secret_missing"


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.eu-west-3.amazonaws.com", "https://S3.Example.COM/base", "http://127.0.0.1:9000",
        "http://example.com:80", "https://example.com:443", "https://example.com:8443/x",
        "http://[::1]:9000", "http://[2001:DB8::1]", "https://bücher.example", "https://xn--bcher-kva.example:1",
    ],
)  # fmt: skip
def test_host_that_is_signed_is_the_host_that_is_sent(url: str) -> None:
    definition = ConnectorDefinition(upstream_base_url=url, **AWS)
    compiled = compile_mapping(definition, EndpointDefinition(), {"path": "/x"}, SECRETS)
    assert compiled.finish is not None
    host = compiled.finish.keywords["host"]  # type: ignore[attr-defined] # a partial

    assert Target(urlsplit(url), "owner", 1).host_field == b"Host: " + host + b"\r\n"


def test_signature_is_for_the_one_host_that_the_targets_have() -> None:
    def signed(*urls: str) -> Any:
        targets = tuple({"url": url} for url in urls)
        return mapped(targets=targets, **AWS).finish

    same = signed("https://a.example", "https://A.example")
    assert same.keywords["host"] == b"a.example"
    with pytest.raises(AuthFault, match="for one host"):
        signed("https://a.example", "https://b.example")
    with pytest.raises(AuthFault, match="for one host"):
        signed("https://a.example", "https://a.example:8443")
    several = ({"url": "https://a.example"}, {"url": "https://b.example"})
    assert mapped(targets=several, auth_type="passthrough").finish is not None


def test_callers_own_credential_passes_and_everything_else_of_the_gateway_stays() -> None:
    fields = [
        ("Authorization", "Bearer of.the.caller"), ("X-API-Key", "gw_x"), ("X-Team-Id", "t"),
        ("Cookie", "a=1"),
    ]  # fmt: skip
    outgoing = sent(fields=fields, auth_type="passthrough")

    assert passed(outgoing) == [(b"Authorization", b"Bearer of.the.caller")]


def test_field_that_the_endpoint_sets_is_the_one_that_passes() -> None:
    own = {"set_headers": {"X-Own": "fixed"}}
    config: dict[str, Any] = {
        "auth_type": "passthrough",
        "auth_config": {"header_name": "X-Own"},
    }

    assert passed(sent(own, [("X-Own", "callers")], **config)) == [(b"X-Own", b"fixed")]
    with pytest.raises(Rejected, match="X-Own"):
        sent(fields=[("X_Own", "alias")], **config)


@pytest.mark.parametrize(
    "name",
    ["X-API-Key", "x-goog-api-key", "Cookie", "X-Team-Id", "X-Request-Id", "Proxy-Authorization",
     "X-Forwarded-For", "X-Forwarded-Anything", "Forwarded", "traceparent", "X-Real-IP"],
)  # fmt: skip
def test_field_of_the_gateways_own_is_never_passed(name: str) -> None:
    with pytest.raises(AuthFault, match="never passed on"):
        mapped(auth_type="passthrough", auth_config={"header_name": name})


def test_no_repr_shows_a_secret() -> None:
    shown = repr((mapped(**AWS), sent(**AWS)))

    assert "s3cret-k3y" not in shown
