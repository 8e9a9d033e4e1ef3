"""The server: aiohttp's low-level one, with an exchange for each request of the data plane.

The admin application shares the port: its runner's server makes and handles the requests whose
path says so. The names of aiohttp used here beyond its documentation (`RequestHandler`'s
`handle_error`, the five attributes of a request that it touches) are pinned by contract tests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from gateway import wire
from gateway.exchange import Body, Exchange, Proceed, Response, refusal
from gateway.ids import Random, is_request_id, is_traceparent
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
_LINGER_S: Final = 2.0
_KEEP_ALIVE_S: Final = 75.0


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
        """Wait until the client has taken what was written."""
        await self.protocol._drain_helper()  # noqa: SLF001 - contract-tested

    def _cancel(self, error: BaseException) -> None:
        """Called by aiohttp when the client is gone: whoever reads the body is told."""
        self.payload.set_exception(error)

    def _finish(self) -> None:
        """Called by aiohttp when the answer is complete."""


class _Connection(RequestHandler):
    """One client connection; its own error page reflects nothing of the request."""

    __slots__ = ()

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
        response = refusal(rejected, "-")
        if self.transport is not None:
            body = cast("bytes", response.body)
            framing = b"Content-Length: %d\r\n" % len(body)
            self.transport.write(wire.head(response, b"", framing, close=True) + body)
        return _CLOSE


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
                url = message.url.build(path=target, encoded=True)
                message = message._replace(path=target, url=_url(target, url))
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
            client_address=self._client_address(inbound),
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
            on_first_read = partial(inbound.write, b"HTTP/1.1 100 Continue\r\n\r\n")
        return Body(payload, None if declared is None else int(declared), on_first_read)

    def _client_address(self, inbound: Inbound) -> str:
        """The peer, or the first untrusted hop of `X-Forwarded-For` counted from the right."""
        peer = inbound.protocol.peername
        address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        trusted = self._trusted
        if not trusted or not (address == "" or _is_in(address, trusted)):
            return address
        hops = ",".join(inbound.message.headers.getall("x-forwarded-for", ())).split(",")
        for hop in reversed([hop.strip() for hop in hops if hop.strip()]):
            if not _is_address(hop):
                break
            address = hop
            if not _is_in(hop, trusted):
                break
        return address

    async def _write(self, inbound: Inbound, response: Response) -> _Done:
        message = inbound.message
        close = message.should_close or self.draining or not inbound.payload.is_eof()
        date = self._date.field()
        block = wire.whole(response, method=message.method, date=date, close=close)
        try:
            if block is None:
                return await self._stream(inbound, response, date, close=close)
            inbound.write(block)
            if inbound.protocol.writing_paused:
                await inbound.drain()
        except (ConnectionError, Rejected) as error:
            # The head may be gone: the only honest answer left is a cut connection.
            log.info("answer broken off", extra={"reason": str(error)})
            inbound.protocol.force_close()
            return _CLOSE
        return _CLOSE if close else _KEEP

    async def _stream(
        self, inbound: Inbound, response: Response, date: bytes, *, close: bool
    ) -> _Done:
        """Write an answer piece by piece; its iterator is closed whatever happens."""
        chunks = inbound.message.version >= HttpVersion11
        close = close or (not chunks and response.length is None)
        self._metrics.streams_open += 1
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
        self.pre_shutdown()
        if not self._active:
            self._idle.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        await self.shutdown(0.1)


def _origin_form(target: str) -> str:
    """The path and query of a request target; absolute form is taken too (RFC 9112 3.2.2)."""
    if target.startswith("/"):
        return target
    lower = target[:8].lower()
    if lower.startswith(("http://", "https://")):
        _, _, rest = target.partition("://")
        slash = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        path = rest[slash:] or "/"
        return path if path.startswith("/") else f"/{path}"
    return "/"


def _url(target: str, url: Any) -> Any:
    path, _, query = target.partition("?")
    return type(url).build(path=path, query_string=query, encoded=True)


def _is_of_admin(target: str) -> bool:
    for root in (ADMIN_PLANE, UI):
        if target.startswith(root) and (len(target) == len(root) or target[len(root)] in "/?"):
            return True
    return False


def _is_in(address: str, networks: tuple[Network, ...]) -> bool:
    if not address:
        return True  # a unix socket: whoever may open it is trusted
    parsed = ip_address(address)
    return any(parsed.version == n.version and parsed in n for n in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
