"""Sizes, media types, header fields and bodies against the endpoint's rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import pytest

from filters.validate import Options, Validate
from gateway.exchange import Body, Exchange
from gateway.model import Plan
from gateway.problems import Rejected
from gateway.runtime import Runtime
from tests.dataplane import (
    answering,
    assert_honest,
    caller,
    connector,
    endpoint,
    exchange,
    refusal_of,
)
from tests.loopback import Fields

STAGE = Validate(Options(), cast("Runtime", None))
SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


class Arriving:
    """A body that comes piece by piece."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def at_eof(self) -> bool:
        return not self.pieces

    def is_eof(self) -> bool:
        return not self.pieces

    async def readany(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def read_nowait(self, _most: int = -1, /) -> bytes:
        whole, self.pieces = b"".join(self.pieces), []
        return whole


def asking(
    body: bytes | None = None, fields: Fields = (), plan: int = 100, **rules: Any
) -> Exchange:
    at = connector("http://127.0.0.1", endpoint("POST", "/x", **rules))
    request = exchange("POST", fields=fields, body=body, at=at)
    request.caller = caller(plan=dataclasses.replace(Plan("p", "p"), max_request_size=plan))
    return request


@pytest.mark.parametrize(("plan", "own", "most"), [(9, None, 9), (9, 5, 5), (9, 50, 9), (0, 5, 0)])
async def test_smaller_of_two_sizes_counts(plan: int, own: int | None, most: int) -> None:
    fits = asking(plan=plan, max_request_size=own)
    fits.body = Body(Arriving(), declared_bytes=most)
    await STAGE(fits, answering())
    over = asking(plan=plan, max_request_size=own)
    over.body = Body(Arriving(), declared_bytes=most + 1)
    refused = await refusal_of(STAGE, over)

    assert (refused.code, refused.status) == ("payload_too_large", 413)
    assert f"at most {most} bytes" in refused.detail


async def test_body_of_unknown_size_is_refused_at_the_limit_wherever_it_is_read() -> None:
    ruled = asking(plan=4, body_pattern="a")
    ruled.body = Body(Arriving(b"aaa", b"aa", b"never read"), None)
    refused = await refusal_of(STAGE, ruled)
    passing = asking(plan=4)
    source = Arriving(b"aaa", b"aa", b"never read")
    passing.body = Body(source, None)
    await STAGE(passing, answering())
    with pytest.raises(Rejected) as later:
        async for _ in passing.body.pieces():
            pass

    assert refused.code == later.value.code == "payload_too_large"
    assert source.pieces == [b"never read"]


async def test_body_is_not_read_where_no_rule_needs_it() -> None:
    source = Arriving(b"a")
    request = asking(required_headers=["X-A"], media_types=["text/plain"],
                     fields=[("x-a", "1"), ("content-type", "text/plain")])  # fmt: skip
    request.body = Body(source, None)
    await STAGE(request, answering())

    assert source.pieces == [b"a"]


async def test_body_that_was_checked_goes_on_whole() -> None:
    request = asking(body_schema=SCHEMA)
    request.body = Body(Arriving(b'{"a"', b": 1}"), None)
    await STAGE(request, answering())

    assert request.body.arrived() == b'{"a": 1}'
    assert [piece async for piece in request.body.pieces()] == [b'{"a": 1}']


@pytest.mark.parametrize(
    ("rules", "fields", "body", "code", "pointers"),
    [
        ({"required_headers": ["X-A", "X-B"]}, [("x-b", "1")], b"", "validation_failed", ["x-a"]),
        ({"required_headers": ["X-A"]}, [("X-A", "  ")], b"", "validation_failed", ["x-a"]),
        ({"media_types": ["text/plain"]}, [("Content-Type", "text/html; a=text/plain")], b"x",
         "unsupported_media_type", []),
        ({"body_schema": SCHEMA}, [], b'{"a": "x", "b": 1}', "validation_failed", ["/a"]),
        ({"body_schema": SCHEMA}, [], b"{}", "validation_failed", [""]),
        ({"body_schema": SCHEMA}, [], b"{", "bad_request", []),
        ({"body_schema": SCHEMA}, [], b"", "bad_request", []),
        ({"body_schema": SCHEMA}, [], b'{"a": NaN}', "bad_request", []),
        ({"body_pattern": "^[a-c]+$"}, [], b"abd", "validation_failed", [""]),
        ({"body_pattern": "a"}, [], b"", "validation_failed", [""]),
        ({"body_pattern": "a"}, [], b"a\xff", "bad_request", []),
        ({"body_blacklist": ["DROP"]}, [], b"please drop, now", "validation_failed", [""]),
        ({"body_blacklist": ["DROP"]}, [("Content-Type", "application/json")],
         rb'{"q": "DR\u004fP"}', "validation_failed", [""]),
        ({"body_blacklist": ["DROP"]}, [("Content-Type", "text/plain; charset=utf-16")],
         "drop".encode("utf-16"), "unsupported_media_type", []),
        ({"body_pattern": "a"}, [("Content-Encoding", "br")], b"a", "unsupported_media_type", []),
    ],
)  # fmt: skip
async def test_broken_rule_is_told_with_its_place(
    rules: dict[str, Any], fields: Fields, body: bytes, code: str, pointers: Sequence[str]
) -> None:
    refused = await refusal_of(STAGE, asking(body, fields, **rules))

    assert refused.code == code
    assert [fault.pointer for fault in refused.errors] == list(pointers)


@pytest.mark.parametrize(
    ("rules", "fields", "body"),
    [
        ({"required_headers": ["X-A"]}, [("x-A", "1")], b""),
        ({"media_types": ["Text/Plain"]}, [("Content-Type", "text/PLAIN; charset=x")], b"x"),
        ({"media_types": ["text/plain"]}, [], b""),
        ({"body_schema": SCHEMA}, [], b'{"a": 1}'),
        ({"body_pattern": "b"}, [], b"abc"),
        ({"body_blacklist": ["drop"]}, [], b"droplet"),
    ],
)
async def test_request_that_keeps_the_rules_goes_on(
    rules: dict[str, Any], fields: Fields, body: bytes
) -> None:
    assert (await STAGE(asking(body, fields, **rules), answering())).body == b"inner"


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(STAGE, asking(b"{}", body_schema={}))
