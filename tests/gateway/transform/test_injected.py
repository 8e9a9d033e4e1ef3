"""What we put into a request does not come back in its answer's fields, in any form."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transform.compiling import compile_connector
from gateway.transform.injected import injected

SECRET = "s3cr3t/+ value"
ENCODED = "s3cr3t%2F%2B%20value"


def taken_out(value: str, auth_type: str = "query", **config: object) -> str:
    """What is left of a field's value in an answer to a connector's request."""
    own = {"id": "e", "name": "e", "method": "GET", "path": "/", "definition": {}}
    secrets = {
        "token": SECRET,
        "username": "admin",
        "password": SECRET,
        "access_key": "AKIA12345678",
    }
    snapshot = {
        "id": "c",
        "slug": "maps",
        "definition": {
            "upstream_base_url": "https://h", "auth_type": auth_type, "auth_config": config,
        },
        "endpoints": [own],
    }  # fmt: skip
    made = compile_connector(snapshot, team="t", secrets={**secrets, "secret_key": SECRET})
    mapped = made.router.match("GET", "/").route.mapped
    ((_, left),) = mapped.discreet([(b"X-Any", value.encode("utf-8"))])
    return left.decode("utf-8")


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (f"https://h/x?api_key={ENCODED}", "https://h/x"),
        (f"https://h/x?api_key={ENCODED}&page=2", "https://h/x?page=2"),
        (f"https://h/x?page=2&api_key={ENCODED}", "https://h/x?page=2"),
        (f"https://h/x?page=2&api_key={ENCODED}&z=1#a", "https://h/x?page=2&z=1#a"),
        (f"/x?api_key={ENCODED}#part", "/x#part"),
        (f"/x?api_key={quote_plus(SECRET)}", "/x"),
        (f"/x?api_key={ENCODED.lower()}", "/x"),
        (f"/x?api_key={SECRET}", "/x"),
        (f'<https://h/x?api_key={ENCODED}>; rel="next", </y?a=1&api_key={ENCODED}>; rel="last"',
         '<https://h/x>; rel="next", </y?a=1>; rel="last"'),
        (f"0; url=https://h/?api_key={ENCODED}", "0; url=https://h/"),
        (f"0;url='https://h/?api_key={ENCODED}'", "0;url='https://h/'"),
        (f"https://login/?next={quote('https://h/x?api_key=' + ENCODED, safe='')}",
         "https://login/?next=https%3A%2F%2Fh%2Fx%3Fapi_key%3D***"),
        (f"https://h/{ENCODED}/x", "https://h/***/x"),
        (f"https://u:{ENCODED}@h/", "https://u:***@h/"),
        (f"key={SECRET}; path=/", "key=***; path=/"),
        ("https://h/x?api_key=theirs", "https://h/x?api_key=theirs"),
        ("https://h/x?page=2", "https://h/x?page=2"),
        ("/%73%33cr3t%2f%2b%20value", "***"),
        ("/%2573%2533cr3t%252f%252b%2520value", "***"),
    ],
)  # fmt: skip
def test_parameter_is_left_out_and_the_rest_stays(value: str, left: str) -> None:
    assert taken_out(value, param_name="api_key") == left


@pytest.mark.parametrize(
    ("auth_type", "config", "value", "left"),
    [
        ("bearer", {}, f"Bearer {SECRET}", "Bearer ***"),
        ("header", {"headers": {"X-Key": "a {{secrets.token}}"}}, f"a {SECRET}", "a ***"),
        ("basic", {}, base64.b64encode(f"admin:{SECRET}".encode()).decode(), "***"),
        ("basic", {}, f"admin {SECRET}", "admin ***"),
        ("basic", {}, "admin", "admin"),
        ("aws-sigv4", {"region": "r"}, f"AKIA12345678 {SECRET}", "AKIA12345678 ***"),
        ("none", {}, SECRET, SECRET),
    ],
)
def test_every_way_to_authenticate_keeps_its_secret(
    auth_type: str, config: dict[str, object], value: str, left: str
) -> None:
    assert taken_out(value, auth_type, **config) == left


CODERS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "quoted": lambda text: quote(text, safe=""),
    "twice": lambda text: quote(quote(text, safe=""), safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "each": lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
}


@pytest.mark.parametrize("code", CODERS.values(), ids=CODERS)
@given(secret=st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=4))
def test_secret_is_in_no_field_in_any_form(code: Callable[[str], str], secret: str) -> None:
    sent = code(secret)
    ((_, left),) = injected([secret], []).taken_out_of([(b"X", f"a {sent} b".encode())])
    assert sent.rstrip("=").encode() not in left or sent.rstrip("=") in "a *** b"


def test_fields_without_it_are_not_touched() -> None:
    fields = [(b"Location", b"/x?page=1"), (b"X", b"%41")]
    assert injected([SECRET], [("k", SECRET)]).taken_out_of(fields) is fields
    assert injected([], []).taken_out_of(fields) is fields
    assert injected(["abc"], [("k", "abc")]).taken_out_of([(b"X", b"abc /?k=abc")]) == [
        (b"X", b"abc /")
    ]


def test_what_is_looked_for_is_in_no_repr() -> None:
    assert "s3cr3t" not in repr(injected([SECRET], [("k", SECRET)]))
