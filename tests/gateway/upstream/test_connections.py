"""The upstream's side of HTTP, byte for byte, and the names of aiohttp that it rests on."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.streams import StreamReader

from gateway.exchange import Body, Outgoing
from gateway.problems import Rejected
from gateway.upstream.connections import Upstreams
from tests.gateway.sending import LARGE, ask, sent, to, whole
from tests.loopback import Call, Upstream, saying

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Arriving:
    """A caller's body that comes when the test says so."""

    def __init__(self) -> None:
        self.reader = StreamReader(_Flow(), 1 << 16, loop=asyncio.get_running_loop())  # type: ignore[arg-type] # all that it asks
        self.feed, self.end = self.reader.feed_data, self.reader.feed_eof


class _Flow:
    connected = True

    def pause_reading(self) -> None: ...
    def resume_reading(self, resume_parser: bool = True) -> None: ...


async def test_request_is_what_was_asked_for_and_nothing_else(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    fields = [(b"b", b"1"), (b"A", b"2"), (b"b", b"3"), (b"X-Odd", b"\xe9\xff")]
    async with sent(upstreams, upstream, Outgoing("GET", "/a%2fb//?x=%41+#", fields)):
        pass

    host = f"Host: 127.0.0.1:{upstream.port}\r\n".encode()
    assert upstream.call.head == (
        b"GET /a%2fb//?x=%41+# HTTP/1.1\r\n" + host
        + b"b: 1\r\nA: 2\r\nb: 3\r\nX-Odd: \xe9\xff\r\n\r\n"
    )  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "HEAD", "POST", "PUT", "PATCH"])
async def test_request_without_a_body_says_so_where_one_is_expected(
    upstreams: Upstreams, upstream: Upstream, method: str
) -> None:
    async with sent(upstreams, upstream, ask(method)):
        pass

    expected = "0" if method in {"POST", "PUT", "PATCH"} else None
    assert upstream.call.field("content-length") == expected
    assert upstream.call.field("transfer-encoding") is None


async def test_body_that_is_here_goes_in_one_block_with_its_length(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    content = gzip.compress(b"content", mtime=0)
    encoded = (b"Content-Encoding", b"gzip")
    async with sent(upstreams, upstream, ask("POST", encoded), Body.of(content)):
        pass
    async with sent(upstreams, upstream, ask("POST", body=b"static"), Body.of(b"callers")):
        pass

    first, second = upstream.calls
    assert (first.body, first.field("content-length")) == (content, str(len(content)))
    assert first.field("content-encoding") == "gzip"
    assert second.body == b"static"


@pytest.mark.parametrize("declared", [None, 300_003])
async def test_body_that_comes_in_pieces_goes_on_as_it_comes(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, declared: int | None
) -> None:
    source = Arriving()

    async def feed() -> None:
        source.feed(b"one")
        await eventually(lambda: declared or (upstream.calls and upstream.call.chunks))
        source.feed(b"x" * 300_000)
        source.end()

    body = Body(source.reader, declared)
    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        async with sent(upstreams, upstream, ask("POST"), body) as answer:
            assert await whole(answer) == b"ok"

    call = upstream.call
    assert call.body == b"one" + b"x" * 300_000
    assert body.read_bytes == 300_003
    assert call.field("content-length") == (None if declared is None else str(declared))
    assert call.field("transfer-encoding") == ("chunked" if declared is None else None)


async def test_upload_is_whole_when_the_upstream_reads_slowly(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    """The end comes while the piece before it waits for room."""
    begin = asyncio.Event()

    async def slow(call: Call) -> None:
        await begin.wait()
        await call.answer()

    upstream.script = slow
    source = Arriving()

    async def feed() -> None:
        source.feed(b"a" * 20_000_000)
        await eventually(lambda: upstream.calls)
        source.feed(b"the end")
        source.end()
        begin.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        async with sent(upstreams, upstream, ask("POST"), Body(source.reader, None)) as answer:
            assert answer.status == 200

    assert upstream.call.body.removeprefix(b"a" * 20_000_000) == b"the end"


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (CHUNKED + b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n", b"hello"),
        (CHUNKED + b"5\r\nhello\r\n0\r\nX-Trailer: dropped\r\n\r\n", b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\n\x00\xff\x01",
         b"\x00\xff\x01"),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", b"a"),
    ],
)  # fmt: skip
async def test_answers_body_is_byte_for_byte_and_its_connection_kept(
    upstreams: Upstreams, upstream: Upstream, raw: bytes, body: bytes
) -> None:
    for script in (saying(raw), bit_by_bit(raw)):
        upstream.script = script
        async with sent(upstreams, upstream, ask()) as answer:
            assert (answer.status, await whole(answer)) == (200, body)

    assert upstream.connections == 1


def bit_by_bit(raw: bytes) -> Callable[[Call], Awaitable[None]]:
    async def script(call: Call) -> None:
        for start in range(0, len(raw), 7):
            await call.send(raw[start : start + 7])
            await asyncio.sleep(0)

    return script


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", CHUNKED),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\n\r\n"),
        (
            "GET",
            b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 304 x\r\n\r\n",
        ),
    ],
    ids=["head", "head-chunked", "204", "304", "100", "103"],
)
async def test_answer_without_a_body_ends_with_its_head_and_interim_ones_are_passed_over(
    upstreams: Upstreams, upstream: Upstream, method: str, raw: bytes
) -> None:
    upstream.script = saying(raw)
    for _ in range(2):
        async with sent(upstreams, upstream, ask(method)) as answer:
            assert answer.status >= 200
            assert await whole(answer) == b""

    assert upstream.connections == 1


async def test_pools_are_apart_by_owner_and_closed_ones_are_not_used(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    for owner in ("a", "b", "a", "b"):
        answer = await upstreams.send(to(upstream, owner), ask(), Body(None), LARGE)
        answer.release()
    assert [call.connection for call in upstream.calls] == [1, 2, 1, 2]
    for call in upstream.calls[:2]:
        call.end()
    await eventually(lambda: upstream.open == 0)
    async with sent(upstreams, upstream, ask("POST")) as answer:
        assert answer.status == 200


async def test_fetch_gives_a_small_document_or_says_why_not(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    upstream.script = saying(CHUNKED + b"2\r\n{}\r\n0\r\n\r\n")
    assert await upstreams.fetch(f"{upstream.url}/keys?a=b") == b"{}"
    upstream.script = saying(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(Rejected, match="status 404"):
        await upstreams.fetch(upstream.url)

    assert [call.target for call in upstream.calls] == ["/keys?a=b", "/"]
