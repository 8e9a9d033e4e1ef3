"""Heads of answers, cut in any way, and the names of aiohttp that they rest on."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpResponseParser

from gateway.problems import Rejected
from gateway.upstream.heads import TOO_MANY, FieldLimits, Heads

OK = b"HTTP/1.1 200 OK\r\n"
LIMITS = FieldLimits(4, 300)


@pytest.fixture
def heads() -> Iterator[Heads]:
    loop = asyncio.new_event_loop()
    yield Heads(loop, LIMITS)
    loop.close()


def parser(**limits: int) -> Any:
    wanted = {"response_with_body": False, "read_until_eof": True, "auto_decompress": False}
    return HttpResponseParser(None, None, 1, **wanted, **limits)  # type: ignore[arg-type] # see heads.py


def test_parser_takes_what_it_is_given_and_is_the_compiled_one() -> None:
    """Public by custom only: aiohttp is pinned to a minor version."""
    assert aiohttp.__version__.startswith("3.14.")
    assert HttpResponseParser.__module__ == "aiohttp._http_parser"
    wanted = {"protocol", "loop", "limit", "response_with_body", "read_until_eof"}
    wanted |= {"auto_decompress", "max_line_size", "max_field_size", "max_headers"}
    signature = inspect.signature(HttpResponseParser.__init__)
    assert wanted <= signature.parameters.keys() or "kwargs" in signature.parameters
    with pytest.raises(HttpProcessingError) as many:
        parser(max_headers=2).feed_data(OK + b"A: b\r\n" * 3 + b"\r\n")
    assert many.value.message == TOO_MANY
    for long in (OK + b"A: " + b"b" * 300, b"HTTP/1.1 200 " + b"b" * 300 + b"\r\nA: b\r\n"):
        with pytest.raises(LineTooLong):
            parser(max_line_size=256, max_field_size=256).feed_data(long)


def test_parser_ends_a_message_with_its_head_and_begins_the_next_anew() -> None:
    """So one parser may serve all answers of a connection, as it never gets a body or a trailer."""
    own = parser()
    for status, fields in [(200, b"Content-Length: 5"), (200, b"Transfer-Encoding: chunked")] * 2:
        head = b"HTTP/1.1 %d x\r\n%b\r\n\r\n" % (status, fields)
        ((message, _),), upgraded, tail = own.feed_data(head)
        assert (message.code, upgraded, tail) == (status, False, b"")
        assert [b": ".join(field) for field in message.raw_headers] == [fields]
        assert message.chunked == (b"chunked" in fields)
        assert message.should_close is False


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    "raw",
    [
        OK + b"\r\n", OK + b"A: b\r\n\r\n", b"HTTP/1.1 200\r\nA: b\r\n\r\n", b"\r\n" + OK + b"A: b\r\n\r\n",
        OK + b"A: b\n\n", OK + b"A: b\r\n\n", OK + b"A: b\n\r\n", OK + b"A: b\r\n c\r\n\r\n",
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)  # fmt: skip
def test_head_ends_where_it_ends_however_it_comes(heads: Heads, raw: bytes, size: int) -> None:
    behind = b"\r\n\r\n" + OK
    for _ in range(2):
        stream, at = raw + behind, 0
        while at < len(stream):
            message, taken = heads.feed(stream[at : at + size])
            at += taken
            if message is not None:
                break
        assert (message.code, at) == (101 if b"Upgrade" in raw else 200, len(raw))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (OK + b"A: b\r\n" * 5 + b"\r\n", "more than 4 header fields"),
        (OK + b"A: " + b"b" * 300 + b"\r\n\r\n", "a line of more than 300 bytes"),
        (OK + b"A" * 301, "a line of more than 300 bytes"),
        (b"HTTP/1.1 200 " + b"b" * 301 + b"\r\n\r\n", "a line of more than 300 bytes"),
        (b"SSH-2.0-OpenSSH\r\n", "is not HTTP"),
        (b"\r\n\r\n" + OK + b"\r\n", "is not HTTP"),
        (b"\n\n" * 100, "is not HTTP"),
    ],
)
def test_refusal_says_what_is_wrong(heads: Heads, raw: bytes, said: str) -> None:
    with pytest.raises(Rejected, match="upstream_invalid") as caught:
        heads.feed(raw)

    assert said in caught.value.detail
    assert "bbb" not in caught.value.detail


def test_head_at_its_limits_is_taken(heads: Heads) -> None:
    raw = OK + b"A: b\r\n" * 3 + b"B: " + b"b" * 290 + b"\r\n\r\n"

    assert heads.feed(raw)[0].code == 200
