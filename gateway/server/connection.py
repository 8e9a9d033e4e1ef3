"""A client's connection: aiohttp's protocol, with what it does on every request done for less.

What it takes of aiohttp beyond its documentation is told in aiohttp_inside.py.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import suppress
from dataclasses import dataclass
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Final, Protocol, cast

from aiohttp.web import RequestPayloadError

from gateway.exchange import refusal
from gateway.http import websocket, wire
from gateway.ids import uuid7
from gateway.problems import Rejected
from gateway.server.aiohttp_inside import (
    EMPTY_PAYLOAD,
    TOO_MANY_FIELDS,
    BadHttpMessage,
    HttpVersion10,
    HttpVersion11,
    LineTooLong,
    RawRequestMessage,
    RequestHandler,
    StreamReader,
)

log = logging.getLogger(__name__)

_PLAIN_END: Final = b"\r\n0\r\n\r\n"
"""How a body in chunks ends that no trailer fields follow (RFC 9112 7.1)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large the head of a request may be."""

    most_target_bytes: int = 16_384
    most_field_bytes: int = 16_384
    most_fields: int = 128

    @property
    def most_parsed_field_bytes(self) -> int:
        """Never the target's bound: by nothing else aiohttp's error tells which of the two it was."""
        return self.most_field_bytes + (self.most_field_bytes == self.most_target_bytes)

    def refusal(self, error: BaseException | None) -> Rejected:
        """Why the parser did not take a request."""
        if isinstance(error, LineTooLong) and error.args[1] == self.most_target_bytes:
            detail = f"The target is longer than {self.most_target_bytes} bytes."
            return Rejected("uri_too_long", detail)
        if isinstance(error, LineTooLong):
            detail = f"A header field is longer than {self.most_field_bytes} bytes."
            return Rejected("fields_too_large", detail)
        if isinstance(error, BadHttpMessage) and error.message == TOO_MANY_FIELDS:
            detail = f"There are more than {self.most_fields} header fields."
            return Rejected("fields_too_large", detail)
        return Rejected("bad_request", "The request is not HTTP/1.1.")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client is waited for, in seconds."""

    linger_s: float = 2.0
    """What a refused request still sends is read away: closing at once would cut the answer."""
    keep_alive_s: float = 75.0
    """A connection is kept between its requests."""
    head_s: float = 10.0
    """The head of a request may take from its first byte on."""
    body_s: float = 30.0
    """The body of a request may take, and more when it is large."""
    slow_reader_s: float = 60.0
    """A client may take to read what was written before the next piece."""


class Done:
    """What aiohttp gets instead of a response: everything is written already."""

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, _request: Any) -> None:
        """Nothing is left to do."""

    async def write_eof(self) -> None:
        """Nothing is left to do."""


KEEP: Final = Done(keep_alive=True)
CLOSE: Final = Done(keep_alive=False)


class Inbound:
    """A request of the data plane as aiohttp's protocol sees it: just what it touches."""

    __slots__ = ("_patience", "_task", "is_fit", "message", "payload", "protocol")

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        patience: Patience,
        *,
        is_fit: bool = True,
    ) -> None:
        self._patience = patience
        self.is_fit = is_fit
        """False for one that is to be refused: it does not name one host."""
        self.message = message
        self.payload = payload
        self.protocol = protocol
        self._task: Any = None

    @property
    def may_switch(self) -> bool:
        """True when the connection can become a WebSocket: the parser has stopped after this head."""
        return (
            self.message.version is HttpVersion11
            and self.payload is EMPTY_PAYLOAD
            and self.protocol._upgraded  # noqa: SLF001 - see aiohttp_inside
        )

    @property
    def may_have_trailers(self) -> bool:
        """True when fields may have come behind the body, so that no request may follow it.

        aiohttp's parser would put the last of them into the head of the connection's next request.
        """
        return self.message.chunked and not cast("Connection", self.protocol).ended_plainly

    def write(self, block: bytes) -> None:
        """Send bytes; ConnectionError when the client is gone."""
        transport = self.protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        transport.write(block)

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was written."""
        if not self.protocol.writing_paused:
            return
        try:
            async with asyncio.timeout(self._patience.slow_reader_s):
                await self.protocol._drain_helper()  # noqa: SLF001 - see aiohttp_inside
        except TimeoutError:
            raise ConnectionAbortedError("the client does not read") from None

    def cut(self) -> None:
        """End the connection before its message has ended.

        To HTTP/1.0 the end may be how a body ends, so that it has to be a reset.
        """
        transport = self.protocol.transport
        if transport is not None and self.message.version is HttpVersion10:
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
            transport.abort()
        self.protocol.force_close()

    def _cancel(self, error: BaseException) -> None:
        """Called by aiohttp when the client is gone: whoever reads the body is told."""
        self.payload.set_exception(error)

    def _finish(self) -> None:
        """Called by aiohttp when the answer is complete."""


class Owner(Protocol):
    """The server whose connection it is, as far as a connection needs it."""

    def inbound(
        self, message: RawRequestMessage, payload: StreamReader, protocol: RequestHandler
    ) -> Inbound | None: ...
    async def serve(self, inbound: Inbound) -> Done: ...
    def refused(self, code: str) -> None: ...
    def flush(self) -> None: ...


class Connection(RequestHandler):
    """One client connection; its own error page reflects nothing of the request."""

    __slots__ = ("_bounds", "_last", "_owner", "_patience")

    def __init__(
        self, owner: Any, loop: asyncio.AbstractEventLoop, patience: Patience, bounds: Bounds
    ) -> None:
        super().__init__(
            owner,
            loop=loop,
            access_log=cast("Any", None),
            auto_decompress=False,
            keepalive_timeout=patience.keep_alive_s,
            lingering_time=patience.linger_s,
            max_line_size=bounds.most_target_bytes,
            max_field_size=bounds.most_parsed_field_bytes,
            max_headers=bounds.most_fields,
        )
        self._owner: Owner = owner
        self._patience = patience
        self._bounds = bounds
        self._last = b""

    @property
    def is_between_requests(self) -> bool:
        """True while nothing of a request is in progress."""
        return self._current_request is None

    def give_up(self) -> None:
        """End the request in progress, if there is one."""
        if not self.is_between_requests and self._task_handler is not None:
            self._task_handler.cancel()

    @property
    def ended_plainly(self) -> bool:
        """True when all that came so far ends with a body in chunks, and no trailer fields."""
        return self._last == _PLAIN_END and not self._messages

    async def start(self) -> None:
        """Serve the data plane's requests in this task, the connection's own.

        aiohttp makes a task for each. It gets the rest of the connection from the first message on
        that is of another kind: the admin plane's, an upgrade, or what is not HTTP.
        """
        owner, messages = self._owner, self._messages
        while not self._force_close:
            if not messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = messages[0]
            if not isinstance(message, RawRequestMessage) or message.upgrade:
                return await super().start()
            inbound = owner.inbound(message, payload, self)
            if inbound is None:
                return await super().start()
            messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            if not await self._serve(inbound):
                break
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()
        return None

    async def _serve(self, inbound: Inbound) -> bool:
        """One request; False when it is the last of the connection."""
        self._current_request = cast("Any", inbound)
        self._request_in_progress = True
        try:
            done = await self._owner.serve(inbound)
        except BaseException:
            self.force_close()
            raise
        finally:
            self._current_request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)
        if not inbound.payload.is_eof() and not self._force_close:
            await self._linger(inbound.payload)
        if not done.keep_alive or self._close or self._force_close:
            return False
        self._next_keepalive_close_time = self._loop.time() + self._patience.keep_alive_s
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(
                self._next_keepalive_close_time, self._process_keepalive
            )
        return True

    async def _linger(self, payload: StreamReader) -> None:
        with suppress(TimeoutError, RequestPayloadError, Rejected):
            async with asyncio.timeout(self._patience.linger_s):
                while not payload.is_eof():
                    await payload.readany()
                    await asyncio.sleep(0)  # as Body does it
        if not payload.is_eof():
            self.close()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by aiohttp after every read of a body; only after a pause is there anything to do."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        """Whoever reads a body is told when its framing breaks; a head that began has its time."""
        before = self._last
        self._last = data[-7:] if len(data) > 6 else (before + data)[-7:]
        super().data_received(data)
        if self._messages and getattr(self._messages[-1][0], "upgrade", False):
            self._settle_upgrade(before[-3:] + data)
        if self._current_request is not None:
            if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
                _tell_broken(self._current_request)
        elif self._waiter is not None and not self._waiter.done():
            close_time = self._loop.time() + self._patience.head_s
            if close_time < self._next_keepalive_close_time and self._keepalive_handle is not None:
                self._keepalive_handle.cancel()
                self._next_keepalive_close_time = close_time
                self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def _settle_upgrade(self, came: bytes) -> None:
        """Make sure that no bytes are missed behind a request that asks to switch, which `came`.

        aiohttp's parser stops there, and drops the rest of a packet unless the field is just
        `websocket`. Where a rest cannot be ruled out, the request is the connection's last one.
        """
        message, payload = cast("tuple[RawRequestMessage, StreamReader]", self._messages[-1])
        if self._upgraded or message.method == "CONNECT" or websocket.is_all_asked(message.headers):
            return
        is_whole = payload is EMPTY_PAYLOAD and came.find(b"\r\n\r\n") == len(came) - 4
        if not is_whole or self._buffer_paused:
            self._messages[-1] = (message._replace(should_close=True), payload)
        elif websocket.is_asked(message.headers):
            self._upgraded = True

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """The answer to what is not HTTP, or to a fault of ours outside the pipeline."""
        if status >= 500:
            log.error("request failed outside the pipeline", exc_info=exc)
        rejected = self._bounds.refusal(exc) if status < 500 else Rejected("internal", "A fault.")
        self._owner.refused(rejected.code)
        response = refusal(rejected, str(uuid7()))
        date = wire.DateClock().field()
        if self.transport is not None:
            block = wire.whole(response, method="GET", date=date, close=True)
            self._owner.flush()
            self.transport.write(block or b"")
        return CLOSE


def _tell_broken(request: Any) -> None:
    payload = request.payload if isinstance(request, Inbound) else request.content
    if not payload.is_eof():
        payload.set_exception(Rejected("bad_request", "The request's body is not framed right."))
