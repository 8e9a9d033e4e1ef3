"""A described request: what may be said of it, and the exchange that it is."""

from __future__ import annotations

from typing import Any

import pytest

from admin.described_requests import DescribedRequest, exchange_of, path_field
from admin.fields import Wire
from gateway.exchange import Exchange
from gateway.ids import is_traceparent
from tests.admin.client import refused_at

SCHEMA = DescribedRequest()


def exchange(body: dict[str, Any], more: tuple[tuple[str, str], ...] = ()) -> Exchange:
    given = SCHEMA.load(body)
    return exchange_of(
        given, "POST", "/up/x", client_address="192.0.2.1", request_id="r", more=more
    )


async def test_exchange_is_what_is_described() -> None:
    made = exchange({"query": "a=1", "headers": {"X-Mine": "é"}, "body": {"n": 1}}, (("A", "b"),))

    assert (made.method, made.path, made.query) == ("POST", "/up/x", "a=1")
    assert (made.headers["x-mine"], made.headers["a"]) == ("é", "b")
    assert made.raw_headers == (
        (b"X-Mine", "é".encode()), (b"A", b"b"), (b"Content-Type", b"application/json"),
    )  # fmt: skip
    assert await made.body.read() == b'{"n":1}'
    assert is_traceparent(made.traceparent)
    assert (made.client_address, made.request_id) == ("192.0.2.1", "r")


@pytest.mark.parametrize(
    ("body", "content", "kind"),
    [
        ({}, b"", None),
        ({"body": None}, b"null", "application/json"),
        ({"body": "a"}, b'"a"', "application/json"),
        ({"bodyText": "a"}, b"a", None),
        ({"bodyText": ""}, b"", None),
        ({"body": [], "headers": {"content-type": "a/b"}}, b"[]", "a/b"),
    ],
)
async def test_body_is_json_or_text(body: dict[str, Any], content: bytes, kind: str | None) -> None:
    made = exchange(body)

    assert await made.body.read() == content
    assert made.headers.get("Content-Type") == kind


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"query": "a b"}, ["/query"]),
        ({"query": "a#b"}, ["/query"]),
        ({"query": "ä"}, ["/query"]),
        ({"headers": {"": "b"}}, ["/headers/"]),
        ({"headers": {"a:": "b"}}, ["/headers/a:"]),
        ({"headers": {"a": "b\r\nc: d"}}, ["/headers/a"]),
        ({"headers": {"a": 1}}, ["/headers/a"]),
        ({"body": 1, "bodyText": "1"}, ["/bodyText"]),
        ({"bodyText": None}, ["/bodyText"]),
    ],
)
def test_what_would_be_another_request_is_refused(
    body: dict[str, Any], pointers: list[str]
) -> None:
    assert refused_at(SCHEMA, body) == pointers


@pytest.mark.parametrize("path", ["x", "/a b", "/a?b", "/a#b", "/ä", "/a\n", ""])
def test_path_is_below_the_connector_without_a_query(path: str) -> None:
    schema = Wire.from_dict({"path": path_field()})()

    assert refused_at(schema, {"path": path}) == ["/path"]
