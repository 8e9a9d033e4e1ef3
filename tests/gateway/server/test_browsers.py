"""Credentials among subprotocols and in the query: found, taken out, and nothing else touched."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.exchange import Response
from gateway.server.browsers import Offer, take_offer, take_parameter
from tests.dataplane import exchange

CREDENTIAL = "gw_abcdefgh_secret"
OFFERED = f"service-gateway.key.{CREDENTIAL}"
BENT = f"Service-GATEWAY.Key.{CREDENTIAL}"
NAME = "Sec-WebSocket-Protocol"


@pytest.mark.parametrize(
    ("fields", "left", "choice"),
    [
        ([OFFERED], None, OFFERED),
        ([f"chat, {OFFERED}"], "chat", ""),
        ([f"{OFFERED},chat , other"], "chat, other", ""),
        (["chat", OFFERED, "other"], "chat, other", ""),
        ([f"service-gateway, {OFFERED}"], None, "service-gateway"),
        ([f"service-gateway, {OFFERED}, chat"], "chat", "service-gateway"),
        ([f"{OFFERED}, {OFFERED}x"], None, OFFERED),
        ([f"chat, {BENT}"], "chat", ""),
        ([BENT], None, BENT),
        ([f"Service-Gateway, {BENT}, {OFFERED}"], None, "Service-Gateway"),
    ],
)
def test_credential_is_taken_out_of_the_subprotocols(
    fields: list[str], left: str | None, choice: str
) -> None:
    asked = exchange(fields=[("X-A", "1"), *((NAME, value) for value in fields), ("X-B", "2")])
    offer = take_offer(asked)

    assert offer == Offer(CREDENTIAL, choice)
    assert asked.headers.get(NAME) == left
    own = [(name, value) for name, value in asked.raw_headers if name not in {b"X-A", b"X-B"}]
    assert own == ([] if left is None else [(NAME.encode(), left.encode())])
    assert (asked.headers["X-A"], asked.headers["X-B"]) == ("1", "2")
    assert CREDENTIAL not in repr(offer)


@pytest.mark.parametrize("value", ["chat", "service-gateway", "x, service-gateway.keys.x", ""])
def test_subprotocols_without_a_credential_are_left_as_they_are(value: str) -> None:
    asked = exchange(fields=[(NAME, value)])

    assert take_offer(asked) is None
    assert asked.raw_headers == ((NAME.encode(), value.encode()),)


@pytest.mark.parametrize(
    ("choice", "fields", "tunnel", "chosen"),
    [
        ("own", [], True, [b"own"]),
        ("", [], True, []),
        ("own", [(b"sec-websocket-protocol", b"chat")], True, [b"chat"]),
        ("own", [], False, []),
    ],
)
def test_choice_is_ours_only_where_the_upstream_made_none(
    choice: str, fields: list[tuple[bytes, bytes]], tunnel: bool, chosen: list[bytes]
) -> None:
    opened = cast("Any", object()) if tunnel else None
    response = Response(101 if tunnel else 200, fields, tunnel=opened)
    Offer(CREDENTIAL, choice).answer(response)

    assert [value for _, value in response.headers] == chosen


@pytest.mark.parametrize(
    ("query", "found", "left"),
    [
        ("key=a", "a", ""),
        ("x=1&key=a%2Bb&y=%2f", "a+b", "x=1&y=%2f"),
        ("key=a&key=b&x", "a", "x"),
        ("k%65y=a", "a", ""),
        ("key", "", ""),
        ("KEY=a&xkey=b", "a", "xkey=b"),
        ("x=1&K%45y=a&key=b", "a", "x=1"),
        ("", "", ""),
        ("a&&b=", "", "a&&b="),
    ],
)
def test_parameter_is_taken_out_of_the_query(query: str, found: str, left: str) -> None:
    asked = exchange(path=f"/up/x?{query}")

    assert take_parameter(asked, "key") == found
    assert asked.query == left
