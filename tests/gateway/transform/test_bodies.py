"""The body for the upstream: what is made of the caller's, and what can't be made is said where."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.exchange import Body, Exchange
from gateway.model import EndpointDefinition
from gateway.problems import Rejected
from gateway.transform.bodies import DEEPEST, BodyFault, MadeBody, compile_body


def kind(transform: str, **own: Any) -> MadeBody:
    compiled = compile_body(EndpointDefinition(body_transform=transform, **own), ("id",))
    assert compiled is not None
    return compiled


def made(transform: str, content: bytes, **own: Any) -> bytes:
    """The upstream's body for one of a caller's."""
    exchange = Exchange(
        "POST", "/x", "", CIMultiDict(), (), Body.of(content), client_address="", request_id="r"
    )
    return kind(transform, **own).make(exchange)


def refused(transform: str, content: bytes) -> tuple[str, list[str]]:
    """The code and the pointers with which a caller's body is refused."""
    with pytest.raises(Rejected) as caught:
        made(transform, content)
    return caught.value.code, [fault.pointer for fault in caught.value.errors]


def test_body_that_passes_is_not_made() -> None:
    assert compile_body(EndpointDefinition(), ()) is None


@pytest.mark.parametrize(
    ("text", "content_type"),
    [('{"é": 1}', "application/json"), ("null", "application/json"), ("<a/>", None), (None, None)],
)
def test_static_body_is_the_text_whatever_comes(text: str | None, content_type: str | None) -> None:
    static = kind("static", upstream_static_body=text)

    assert made("static", b"ignored", upstream_static_body=text) == (text or "").encode()
    assert (static.needs_body, static.content_type) == (False, content_type)


def test_template_is_compiled_with_the_endpoints_media_type() -> None:
    own = {"upstream_static_body": "<a>{{body.v}}</a>", "upstream_content_type": "text/xml"}

    assert made("template", b'{"v": "<"}', **own) == b"<a>&lt;</a>"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", b'{"b":[1.10,null]}'), ("a.b.0", b"1.10"), ("a.b.1", b"null"), ("s", b'"\\"x"'),
        ("big", b"123456789012345678901234567890"),
    ],
)  # fmt: skip
def test_extract_is_the_value_as_json(path: str, found: bytes) -> None:
    body = b'{"a": {"b": [1.10, null]}, "s": "\\"x", "big": 123456789012345678901234567890}'

    assert made(f"extract:{path}", body) == found
    assert kind(f"extract:{path}").content_type == "application/json"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [("a.b", b'{"a": 1}', "/a/b"), ("a/b.0", b"[]", "/a~1b/0"), ("a~", b"1", "/a~0")],
)
def test_extract_names_the_place_where_nothing_is(path: str, body: bytes, pointer: str) -> None:
    assert refused(f"extract:{path}", body) == ("validation_failed", [pointer])


def form(value: Any) -> list[tuple[str, str]]:
    content = made("form", json.dumps(value).encode())
    return parse_qsl(content.decode("ascii"), keep_blank_values=True, strict_parsing=bool(content))


def test_form_has_brackets_for_places_and_leaves_null_out() -> None:
    document: dict[str, Any] = {
        "a": {"b": 1, "c": [True, False, None, {"d": "x y&z=é+"}]}, "n": None, "e": [], "o": {},
        "f": 1.5, "s": "",
    }  # fmt: skip

    assert form(document) == [
        ("a[b]", "1"), ("a[c][0]", "true"), ("a[c][1]", "false"), ("a[c][3][d]", "x y&z=é+"),
        ("f", "1.5"), ("s", ""),
    ]  # fmt: skip
    assert made("form", b'{"a": {"b": 1.10}, "c": 1e400}') == b"a%5Bb%5D=1.10&c=1e400"
    assert made("form", b"{}") == b""


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]"), min_size=1)


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_form_keeps_names_and_values(document: dict[str, str]) -> None:
    assert form(document) == list(document.items())


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"[]", ""), (b"null", ""), (b'"a=b"', ""), (b"1", ""),
        (b'{"a[b]": 1}', "/a[b]"), (b'{"a": {"b]": 1}}', "/a/b]"), (b'{"a": {"": 1}}', "/a/"),
        (b'{"": 1}', "/"), (b'{"a": [{"x[": 1}]}', "/a/0/x["),
    ],
)  # fmt: skip
def test_what_no_form_can_say_is_refused_at_its_place(body: bytes, pointer: str) -> None:
    assert refused("form", body) == ("validation_failed", [pointer])


def test_form_is_as_deep_as_is_allowed_and_no_deeper() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a":' * levels + b"1" + b"}" * levels

    assert made("form", nested(DEEPEST)) == b"a" + b"%5Ba%5D" * (DEEPEST - 1) + b"=1"
    assert refused("form", nested(DEEPEST + 1)) == ("validation_failed", ["/a" * DEEPEST])
    assert refused("form", b'{"a":' + b"[" * 500 + b"]" * 500 + b"}")[0] == "validation_failed"


@pytest.mark.parametrize("transform", ["form", "extract:a"])
@pytest.mark.parametrize(
    "body", [b"", b"a=b", b"\xff", b'{"a": NaN}', b"[" * 100_000, b'{"a": "\\ud800"}']
)
def test_body_that_is_not_json_is_refused(transform: str, body: bytes) -> None:
    assert refused(transform, body) == ("bad_request", [])


def test_name_that_is_half_a_surrogate_pair_is_refused() -> None:
    assert refused("form", b'{"\\ud800": 1}') == ("bad_request", [])


def test_last_of_a_name_that_is_there_twice_counts() -> None:
    assert made("form", b'{"a": 1, "a": 2}') == b"a=2"
    assert made("extract:a", b'{"a": 1, "a": 2}') == b"2"


@pytest.mark.parametrize(
    ("transform", "field", "why"),
    [
        ("magic", "body_transform", 'unknown body transform "magic"; known: passthrough, static'),
        ("Static", "body_transform", "unknown"), ("", "body_transform", "unknown"),
        ("extract", "body_transform", "unknown"), ("extract:", "body_transform", "not a path"),
        ("extract:a..b", "body_transform", "not a path"),
        ("extract:" + "a." * 40 + "a", "body_transform", "at most"),
        ("template", "upstream_static_body", "not JSON"),
    ],
)  # fmt: skip
def test_kind_that_does_not_compile_names_its_field(transform: str, field: str, why: str) -> None:
    with pytest.raises(BodyFault, match=why) as caught:
        compile_body(EndpointDefinition(body_transform=transform), ())
    assert caught.value.field == field
