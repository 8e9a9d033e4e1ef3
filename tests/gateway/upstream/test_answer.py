"""The answer of an upstream: where its body ends, where it is cut off, and what it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.exchange import Body, Outgoing
from gateway.problems import Rejected
from gateway.upstream.answer import Bounds
from gateway.upstream.connections import Upstreams
from tests.gateway.sending import USUAL, ask, break_after, refused, sent, target, whole
from tests.loopback import Call, Upstream, chunked, saying

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
COUNTED = OK + b"Content-Length: 9\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_body_may_end_with_its_connection(
    upstreams: Upstreams, upstream: Upstream, version: bytes
) -> None:
    upstream.script = saying(b"HTTP/" + version + b" 200 OK\r\n\r\nhello", close=True)
    for _ in range(2):
        async with sent(upstreams, upstream, ask()) as answer:
            assert (answer.length, await whole(answer)) == (None, b"hello")

    assert upstream.connections == 2


async def test_big_answer_is_whole_for_a_caller_that_reads_slowly(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    """Its end comes while the caller has not taken what came before."""
    upstream.script = saying(CHUNKED + b"3\r\nabc\r\n")
    async with sent(upstreams, upstream, ask()) as answer:
        pieces = answer.pieces()
        got = await anext(pieces)
        await upstream.call.send(b"7\r\nthe end\r\n0\r\n\r\n")
        for _ in range(100):
            await asyncio.sleep(0)
        async for piece in pieces:
            got += piece

    assert got == b"abcthe end"


@pytest.mark.parametrize(
    ("raw", "how"),
    [
        (COUNTED + b"abc", "close"),
        (COUNTED + b"abc", "reset"),
        (COUNTED, "close"),
        (CHUNKED + b"3\r\nabc\r\n", "close"),
        (CHUNKED + b"3\r\nabc\r\n", "reset"),
        (CHUNKED + b"9\r\nabc", "close"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", "close"),
        (CHUNKED, "close"),
        (OK + b"\r\nabc", "reset"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_body_that_is_cut_off_is_told_from_one_that_ends(
    upstreams: Upstreams, upstream: Upstream, raw: bytes, how: str, streaming: bool
) -> None:
    upstream.script = break_after(raw, how)
    rejected, _ = await refused(upstreams, upstream.url, bounds=USUAL._replace(streaming=streaming))

    assert rejected.code in {"upstream_invalid", "upstream_unavailable"}


@pytest.mark.parametrize(
    "bad", [b"zz\r\nabc\r\n", b"-1\r\na\r\n", b"3\r\nabcd\r\n", b"1;\x00\r\na"]
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_chunk_that_is_not_one_ends_the_body_at_once(
    upstreams: Upstreams, upstream: Upstream, bad: bytes, streaming: bool
) -> None:
    upstream.script = saying(CHUNKED + b"3\r\nabc\r\n")
    outgoing, bounds = Outgoing("GET", "/", []), USUAL._replace(streaming=streaming)
    answer = await upstreams.send(target(upstream.url), outgoing, Body(None), bounds)
    pieces = answer.pieces()
    assert await anext(pieces) == b"abc"
    await upstream.call.send(bad)
    with pytest.raises(Rejected, match="upstream_invalid"):
        async for _ in pieces:
            pass
    answer.release()


async def test_body_over_the_limit_is_cut_off_unless_it_is_a_stream(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    body = chunked([b"x" * 600, b"y" * 600])
    upstream.script = saying(CHUNKED + body)
    rejected, _ = await refused(upstreams, upstream.url)
    events = OK + b"Content-Type: Text/Event-Stream; a=b\r\nTransfer-Encoding: chunked\r\n\r\n"
    upstream.script = saying(events + body)
    answer = await upstreams.send(target(upstream.url), Outgoing("GET", "/", []), Body(None), USUAL)
    got = await whole(answer)
    answer.release()

    assert rejected.code == "upstream_invalid"
    assert len(got) == 1200


async def test_stream_may_take_longer_than_the_total_as_long_as_it_says_something(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    async def trickle(call: Call) -> None:
        await call.send(CHUNKED)
        for _ in range(10):
            await asyncio.sleep(0.02)
            await call.send(b"1\r\na\r\n")
        await call.send(b"0\r\n\r\n")

    upstream.script = trickle
    bounds = Bounds(0.1, 5, 1000, streaming=True)
    answer = await upstreams.send(
        target(upstream.url), Outgoing("GET", "/", []), Body(None), bounds
    )
    got = [piece async for piece in answer.pieces()]
    answer.release()

    assert b"".join(got) == b"a" * 10
