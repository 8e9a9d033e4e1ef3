"""An upstream that reads with h11, the strict second parser, and keeps all that came."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import h11

BREAKER = {"least_attempts": 1_000_000}
"""Upstreams that fail on purpose are not left alone."""
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]").search
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n").search


@dataclass
class Received:
    """A request that h11 takes for one, with its body."""

    target: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""


def echo(request: Received) -> bytes:
    """Answer with the target, so that whoever gets it can tell whose answer it is."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (
        len(request.target),
        request.target,
    )


@dataclass
class StrictUpstream:
    """What came, and what h11 would not take of it; `reply` makes the bytes of an answer."""

    port: int = 0
    reply: Callable[[Received], bytes] = echo
    requests: list[Received] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests and answer them until the connection ends."""
        parser = h11.Connection(h11.SERVER)
        self.writers.add(writer)
        with suppress(ConnectionError):
            while (request := await self._request(parser, reader)) is not None:
                self.requests.append(request)
                writer.write(self.reply(request))
                await writer.drain()
                parser = _next(parser)
        self.writers.discard(writer)
        writer.close()

    async def _request(
        self, parser: h11.Connection, reader: asyncio.StreamReader
    ) -> Received | None:
        request: Received | None = None
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                if not _is_cut(error):
                    self.faults.append(f"{error}: {request}")
                return None
            if event is h11.NEED_DATA:
                parser.receive_data(self._checked(await reader.read(65_536)))
            elif isinstance(event, h11.Request):
                request = Received(event.target, list(event.headers.raw_items()))
            elif isinstance(event, h11.Data) and request is not None:
                request.body += bytes(event.data)
            else:
                return request if isinstance(event, h11.EndOfMessage) else None

    def _checked(self, raw: bytes) -> bytes:
        """Bodies here are plain text, so that no byte of control has a place anywhere."""
        if _CONTROL(raw) or _BARE(raw):
            self.faults.append(f"control: {raw!r}")
        return raw


def _is_cut(error: h11.RemoteProtocolError) -> bool:
    """True for a request whose sender is gone before its end: no message, and no fault."""
    return "without sending complete" in str(error) or "unexpectedly closed" in str(error)


def _next(parser: h11.Connection) -> h11.Connection:
    """The connection's next message: h11 is not asked whether answers of ours allow one."""
    following = h11.Connection(h11.SERVER)
    following.receive_data(parser.trailing_data[0])
    return following


@asynccontextmanager
async def strict_upstream() -> AsyncIterator[StrictUpstream]:
    """A running one; at its end nothing that came may have been malformed."""
    upstream = StrictUpstream()
    server = await asyncio.start_server(upstream.converse, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
        for writer in upstream.writers:
            writer.close()
    assert not upstream.faults, upstream.faults
