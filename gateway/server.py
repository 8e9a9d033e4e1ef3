"""The server: aiohttp's low-level one, with an exchange for each request of the data plane.

The admin application shares the port: its runner's server makes and handles the requests whose
path says so. The names of aiohttp used here beyond its documentation (`RequestHandler`'s
`handle_error`, the five attributes of a request that it touches) are pinned by contract tests.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from socket import SO_LINGER, SOL_SOCKET
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from yarl import URL

from gateway import wire
from gateway.addresses import client_address
from gateway.batching import SMALL_BYTES, WriteBatch
from gateway.exchange import Body, Exchange, Proceed, Response, refusal
from gateway.ids import Random, is_request_id, is_traceparent, uuid7
from gateway.problems import Rejected

if TYPE_CHECKING:
    from gateway.addresses import Network
    from gateway.metrics import Metrics

log = logging.getLogger(__name__)

DATA_PLANE: Final = "/api/v1/gw"
ADMIN_PLANE: Final = "/api/v1/gw/admin"
UI: Final = "/ui"
FAULT: Final = "The gateway has a fault; its log has this request id."
_BELOW_DATA_PLANE: Final = f"{DATA_PLANE}/"
_ABSOLUTE: Final = re.compile(r"(?is)https?://[^/?]*(.*)").fullmatch
_LINGER_S: Final = 2.0
_KEEP_ALIVE_S: Final = 75.0
_HEAD_S: Final = 10.0
"""How long the head of a request may take from its first byte on."""
_SLOW_READER_S: Final = 60.0
"""How long a client may take to read what was written before the next piece."""


class _Done:
    """What aiohttp gets instead of a response: everything is written already."""

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, _request: Any) -> None:
        """Nothing is left to do."""

    async def write_eof(self) -> None:
        """Nothing is left to do."""


_KEEP: Final = _Done(keep_alive=True)
_CLOSE: Final = _Done(keep_alive=False)


class Inbound:
    """A request of the data plane as aiohttp's protocol sees it: just what it touches."""

    __slots__ = ("_task", "message", "payload", "protocol")

    def __init__(
        self, message: RawRequestMessage, payload: StreamReader, protocol: RequestHandler
    ) -> None:
        self.message = message
        self.payload = payload
        self.protocol = protocol
        self._task: Any = None

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
            async with asyncio.timeout(_SLOW_READER_S):
                await self.protocol._drain_helper()  # noqa: SLF001 - contract-tested
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


class _Connection(RequestHandler):
    """One client connection; its own error page reflects nothing of the request."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Whoever reads a body is told when its framing breaks; a head that began has its time."""
        super().data_received(data)
        if self._current_request is not None:
            if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
                _tell_broken(self._current_request)
        elif self._waiter is not None and not self._waiter.done():
            close_time = self._loop.time() + _HEAD_S
            if close_time < self._next_keepalive_close_time and self._keepalive_handle is not None:
                self._keepalive_handle.cancel()
                self._next_keepalive_close_time = close_time
                self._keepalive_handle = self._loop.call_at(close_time, self._process_keepalive)

    def handle_error(
        self,
        request: Any,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> Any:
        """The answer to what is not HTTP, or to a fault of ours outside the pipeline."""
        code = "bad_request" if status < 500 else "internal"
        if status >= 500:
            log.error("request failed outside the pipeline", exc_info=exc)
        rejected = Rejected(code, "The request is not HTTP/1.1." if status < 500 else "A fault.")
        response = refusal(rejected, str(uuid7()))
        date = wire.DateClock().field()
        if self.transport is not None:
            block = wire.whole(response, method="GET", date=date, close=True)
            cast("Server", self._manager).flush()
            self.transport.write(block or b"")
        return _CLOSE


def _tell_broken(request: Any) -> None:
    payload = request.payload if isinstance(request, Inbound) else request.content
    if not payload.is_eof():
        payload.set_exception(Rejected("bad_request", "The request's body is not framed right."))


class Server(web.Server):
    """Takes requests from listeners and gives each to its plane.

    `pipeline` is None on a listener of the admin plane alone; `admin` is None on one of the data
    plane alone.
    """

    def __init__(
        self,
        pipeline: Proceed | None,
        admin: web.Server | None,
        metrics: Metrics,
        *,
        base_path: str = "",
        trusted_proxies: tuple[Network, ...] = (),
    ) -> None:
        super().__init__(
            cast("Any", self._handle),
            request_factory=cast("Any", self._receive),
            handler_cancellation=True,
        )
        self.pipeline = pipeline
        self._admin = admin
        self._metrics = metrics
        self._base_path = base_path
        self._trusted = trusted_proxies
        self._random = Random()
        self._date = wire.DateClock()
        self._batch = WriteBatch(asyncio.get_running_loop())
        self._active = 0
        self._idle = asyncio.Event()
        self.draining = False

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=self._loop,
            access_log=cast("Any", None),
            auto_decompress=False,
            keepalive_timeout=_KEEP_ALIVE_S,
            lingering_time=_LINGER_S,
            max_line_size=16_384,
            max_field_size=16_384,
        )

    def _receive(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: Any,
        task: Any,
    ) -> Any:
        """aiohttp's request factory: the path decides which plane makes the request."""
        target = message.path
        if not target.startswith("/"):
            target = _origin_form(target)
        base = self._base_path
        if base and (target == base or target.startswith((f"{base}/", f"{base}?"))):
            target = target[len(base) :] or "/"
        elif base:
            target = "/"
        if self._admin is not None and _is_of_admin(target):
            if target != message.path:
                message = message._replace(path=target, url=URL(target, encoded=True))
            return self._admin.request_factory(message, payload, protocol, writer, task)
        if target != message.path:
            message = message._replace(path=target)
        return Inbound(message, payload, protocol)

    async def _handle(self, inbound: Any) -> Any:
        """One request from its exchange to the last byte of its answer."""
        self._metrics.in_flight += 1
        self._active += 1
        exchange: Exchange | None = None
        try:
            if not isinstance(inbound, Inbound):
                return await self._handle_admin(inbound)
            request_id = inbound.message.headers.get("x-request-id", "")
            if not request_id or not is_request_id(request_id):
                request_id = self._random.request_id()
            try:
                exchange = self._exchange(inbound, request_id)
                response = await cast("Proceed", self.pipeline)(exchange)
            except Rejected as rejected:
                response = refusal(rejected, request_id)
            except Exception:
                log.exception("request failed", extra={"request_id": request_id})
                response = refusal(Rejected("internal", FAULT), request_id)
            return await self._write(inbound, response)
        finally:
            if exchange is not None:
                exchange.close()
            self._metrics.in_flight -= 1
            self._active -= 1
            if self.draining and not self._active:
                self._idle.set()

    async def _handle_admin(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._admin is not None
        response = await self._admin.request_handler(request)
        if self.draining and not response.prepared:
            response.force_close()
        return response

    def _exchange(self, inbound: Inbound, request_id: str) -> Exchange:
        message = inbound.message
        if message.version is not HttpVersion11 and message.version is not HttpVersion10:
            inbound.message = message._replace(should_close=True)
            raise Rejected("bad_request", "The request is neither HTTP/1.1 nor HTTP/1.0.")
        path, _, query = message.path.partition("?")
        if self.pipeline is None or not path.startswith(_BELOW_DATA_PLANE):
            raise Rejected("not_found", "There is nothing here.")
        headers = message.headers
        traceparent = headers.get("traceparent", "")
        if not traceparent or not is_traceparent(traceparent):
            traceparent = self._random.traceparent()
        return Exchange(
            message.method,
            path[len(DATA_PLANE) :],
            query,
            headers,
            message.raw_headers,
            self._body(inbound),
            client_address=client_address(
                inbound.protocol.peername, headers.getall("x-forwarded-for", ()), self._trusted
            ),
            request_id=request_id,
            traceparent=traceparent,
        )

    def _body(self, inbound: Inbound) -> Body:
        message, payload = inbound.message, inbound.payload
        if payload is EMPTY_PAYLOAD:
            return Body(None)
        declared = message.headers.get("content-length")
        on_first_read: Callable[[], None] | None = None
        expects = message.headers.get("expect", "").lower() == "100-continue"
        if expects and message.version >= HttpVersion11 and not payload.is_eof():
            on_first_read = partial(self._continue, inbound)
        return Body(payload, None if declared is None else int(declared), on_first_read)

    def flush(self) -> None:
        """Send the answers that wait for the end of the turn: another write comes after them."""
        self._batch.flush()

    def _continue(self, inbound: Inbound) -> None:
        self.flush()
        inbound.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _write(self, inbound: Inbound, response: Response) -> _Done:
        message = inbound.message
        close = message.should_close or self.draining or not inbound.payload.is_eof()
        date = self._date.field()
        block = wire.whole(response, method=message.method, date=date, close=close)
        try:
            if block is None:
                return await self._stream(inbound, response, date, close=close)
            transport = inbound.protocol.transport
            if close or len(block) > SMALL_BYTES or transport is None or transport.is_closing():
                self.flush()
                inbound.write(block)
                await inbound.drain()
            else:
                self._batch.write(transport, block)
        except Exception as error:
            # The head may be gone: the only honest answer left is a cut connection.
            expected = isinstance(error, (ConnectionError, Rejected))
            level = logging.INFO if expected else logging.ERROR
            extra = {"reason": str(error)}
            log.log(level, "answer broken off", exc_info=not expected, extra=extra)
            self.flush()
            inbound.cut()
            return _CLOSE
        return _CLOSE if close else _KEEP

    async def _stream(
        self, inbound: Inbound, response: Response, date: bytes, *, close: bool
    ) -> _Done:
        """Write an answer piece by piece; its iterator is closed whatever happens."""
        chunks = inbound.message.version >= HttpVersion11
        close = close or (not chunks and response.length is None)
        self._metrics.streams_open += 1
        self.flush()
        try:
            await wire.write(
                inbound,
                response,
                method=inbound.message.method,
                date=date,
                close=close,
                chunks=chunks,
            )
        finally:
            self._metrics.streams_open -= 1
            if (end := getattr(response.body, "aclose", None)) is not None:
                await asyncio.shield(end())
        return _CLOSE if close else _KEEP

    async def drain(self, seconds: float) -> None:
        """Let requests in flight finish, then cut what is left; listeners are closed before."""
        self.draining = True
        for connection in self.connections:
            if connection._current_request is None:  # noqa: SLF001 - contract-tested
                connection.force_close()
        if not self._active:
            self._idle.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        await self.shutdown(0.1)


def _origin_form(target: str) -> str:
    """The path and query of a target in absolute form (RFC 9112 3.2.2); of others, the root."""
    absolute = _ABSOLUTE(target)
    path = absolute[1] if absolute else ""
    return path if path.startswith("/") else f"/{path}"


def _is_of_admin(target: str) -> bool:
    for root in (ADMIN_PLANE, UI):
        if target.startswith(root) and (len(target) == len(root) or target[len(root)] in "/?"):
            return True
    return False
