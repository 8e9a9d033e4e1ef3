"""Sending to upstreams without a gateway around: bodies that come in pieces, and refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from gateway.exchange import Body, Outgoing
from gateway.problems import Rejected
from gateway.upstream.answer import Answer, Bounds
from gateway.upstream.connections import Upstreams
from gateway.upstream.dialling import Target
from tests.loopback import Call, Upstream

USUAL = Bounds(10, 10, 1000)
LARGE = Bounds(10, 10, 100 << 20)


class Source:
    """A caller's body: the pieces, or what is raised instead of one."""

    def __init__(self, *pieces: bytes | Exception, wait: asyncio.Event | None = None) -> None:
        self.pieces = list(pieces)
        self._wait = wait

    def at_eof(self) -> bool:
        return not self.pieces

    def is_eof(self) -> bool:
        return False

    def read_nowait(self, _most: int = -1, /) -> bytes:
        raise AssertionError("it has not all come")

    async def readany(self) -> bytes:
        if self._wait is not None and len(self.pieces) == 1:
            await self._wait.wait()
        if isinstance(piece := self.pieces.pop(0), Exception):
            raise piece
        return piece


def target(url: str, connect_s: float = 5, owner: str = "a") -> Target:
    return Target(urlsplit(url), owner, connect_s)


def ask(method: str = "GET", *fields: tuple[bytes, bytes], body: bytes | None = None) -> Outgoing:
    """A request for the upstream."""
    return Outgoing(method, "/x", list(fields), body)


def to(upstream: Upstream, owner: str = "a", connect_s: float = 5) -> Target:
    """Where it is sent."""
    return Target(urlsplit(upstream.url), owner, connect_s)


@asynccontextmanager
async def sent(
    upstreams: Upstreams,
    upstream: Upstream,
    outgoing: Outgoing,
    body: Body | None = None,
    bounds: Bounds = LARGE,
) -> AsyncIterator[Answer]:
    """The answer to a request, released afterwards."""
    answer = await upstreams.send(to(upstream), outgoing, body or Body(None), bounds)
    try:
        yield answer
    finally:
        answer.release()


async def use(upstreams: Upstreams, port: int, host: str = "127.0.0.1") -> int:
    """The status of an answer to a request at this port of a host, by name or address."""
    target = Target(urlsplit(f"http://{host}:{port}"), "a", 5)
    answer = await upstreams.send(target, ask(), Body(None), LARGE)
    answer.release()
    return answer.status


def break_after(raw: bytes, how: str) -> Callable[[Call], Awaitable[None]]:
    """A script that answers with this and goes."""

    async def script(call: Call) -> None:
        await call.read_body()
        await call.send(raw)
        await asyncio.sleep(0)
        call.close() if how == "close" else call.reset()

    return script


async def refused(
    upstreams: Upstreams,
    url: str,
    method: str = "GET",
    body: Body | None = None,
    bounds: Bounds = USUAL,
    connect_s: float = 5,
) -> tuple[Rejected, int]:
    """How sending is refused, whether before the head or in the body, and after how many tries."""
    outgoing = Outgoing(method, "/x", [])
    try:
        answer = await upstreams.send(target(url, connect_s), outgoing, body or Body(None), bounds)
        try:
            got = await whole(answer)
        finally:
            answer.release()
    except Rejected as rejected:
        return rejected, outgoing.sent
    raise AssertionError(f"it was not refused: {answer.status} {got!r}")


async def whole(answer: Answer) -> bytes:
    """The body of an answer."""
    if answer.body is not None:
        return answer.body
    return b"".join([piece async for piece in answer.pieces()])
