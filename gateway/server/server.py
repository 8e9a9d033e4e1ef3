"""The server: aiohttp's low-level one, with an exchange for each request of the data plane.

The admin application shares the port: its runner's server makes and handles the requests whose
path says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from yarl import URL

from gateway.exchange import Body, Exchange, Proceed, Response, refusal
from gateway.http import wire
from gateway.http.batching import SMALL_BYTES, WriteBatch
from gateway.http.pieces import give_up
from gateway.ids import Random, is_request_id, is_traceparent
from gateway.networks import hops
from gateway.planes import ADMIN_PLANE, DATA_PLANE, UI
from gateway.problems import Rejected, internal
from gateway.server.aiohttp_inside import (
    EMPTY_PAYLOAD,
    HttpVersion10,
    HttpVersion11,
    RawRequestMessage,
    RequestHandler,
    StreamReader,
)
from gateway.server.connection import CLOSE, KEEP, Bounds, Connection, Done, Inbound, Patience
from gateway.server.open_answers import OpenAnswers, is_open_ended
from gateway.server.pacing import Pacing
from gateway.server.request_target import settle
from gateway.server.tunnel import Tunnels

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.networks import Network

log = logging.getLogger(__name__)

_CUT_S: Final = 0.1
_BELOW_DATA_PLANE: Final = f"{DATA_PLANE}/"
MOST_IN_FLIGHT: Final = 10_000
_COME_BACK_S: Final = 1.0


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
        patience: Patience | None = None,
        bounds: Bounds | None = None,
        most_in_flight: int = MOST_IN_FLIGHT,
        recheck_s: float = 5.0,
        guards_origin: bool = True,
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
        self._patience = patience or Patience()
        self._bounds = bounds or Bounds()
        self._random = Random()
        self._date = wire.DateClock()
        self._batch = WriteBatch(asyncio.get_running_loop())
        self._pacing = Pacing(asyncio.get_running_loop())
        self._most_in_flight = most_in_flight
        self._active = 0
        metrics.watch_server(lambda: self._active)
        self._idle = asyncio.Event()
        self._tunnels = Tunnels(metrics)
        self._guards_origin = admin is not None and guards_origin
        self._open_answers = OpenAnswers(recheck_s)
        self._exchanges: set[Exchange] = set()
        self._is_cutting = False
        self.draining = False

    def __call__(self) -> RequestHandler:
        return Connection(self, self._loop, self._patience, self._bounds)

    def inbound(
        self, message: RawRequestMessage, payload: StreamReader, protocol: RequestHandler
    ) -> Inbound | None:
        """A request of the data plane, or one to refuse; None for one of the admin plane."""
        settled = settle(message)
        if settled is None:
            message = message._replace(should_close=True)
            return Inbound(message, payload, protocol, self._patience, is_fit=False)
        message = settled
        target = self._own_target(message.path)
        if self._admin is not None and _is_of_admin(target):
            return None
        if target is not message.path:
            message = message._replace(path=target)
        return Inbound(message, payload, protocol, self._patience)

    def _receive(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: Any,
        task: Any,
    ) -> Any:
        """aiohttp's request factory: the path decides which plane makes the request."""
        if (inbound := self.inbound(message, payload, protocol)) is not None:
            return inbound
        assert self._admin is not None
        asked, message = message.path, settle(message) or message
        target = self._own_target(message.path)
        if target is not asked:
            message = message._replace(path=target, url=URL(target, encoded=True))
        return self._admin.request_factory(message, payload, protocol, writer, task)

    def _own_target(self, target: str) -> str:
        """What of a target is below the base path; the root for what is not."""
        if not (base := self._base_path):
            return target
        if target == base or target.startswith((f"{base}/", f"{base}?")):
            return target[len(base) :] or "/"
        return "/"

    async def _handle(self, request: Any) -> Any:
        """What aiohttp calls with what `_receive` made."""
        if isinstance(request, Inbound):
            return await self.serve(request)
        self._begin()
        try:
            return await self._handle_admin(request)
        finally:
            self._end()

    async def serve(self, inbound: Inbound) -> Done:
        """One request of the data plane from its exchange to the last byte of its answer."""
        is_one_too_many = self._active >= self._most_in_flight
        self._begin()
        exchange: Exchange | None = None
        try:
            if not self._pacing.begin():
                await self._pacing.wait()
            request_id = inbound.message.headers.get("x-request-id", "")
            if not request_id or not is_request_id(request_id):
                request_id = self._random.request_id()
            try:
                if is_one_too_many:
                    self._refuse()
                exchange = self._exchange(inbound, request_id)
                self._exchanges.add(exchange)
                response = await cast("Proceed", self.pipeline)(exchange)
            except Rejected as rejected:
                response = refusal(rejected, request_id)
            except asyncio.CancelledError:
                if self._is_cutting:
                    self._tell_cut(inbound, request_id)
                raise
            except Exception:
                log.exception("request failed", extra={"request_id": request_id})
                response = refusal(internal(), request_id)
            if exchange is not None and is_open_ended(exchange, response):
                return await self._write_on(inbound, exchange, response)
            return await self._write(inbound, response)
        finally:
            if exchange is not None:
                self._exchanges.discard(exchange)
                exchange.close()
            self._end()

    def refused(self, code: str) -> None:
        """Count what is answered outside of the pipeline."""
        self._metrics.rejected("server", code)

    def _refuse(self) -> None:
        self.refused("overloaded")
        detail = "The gateway has as many requests in flight as it may have."
        raise Rejected("overloaded", detail, retry_after_s=_COME_BACK_S)

    async def _write_on(self, inbound: Inbound, exchange: Exchange, response: Response) -> Done:
        """Write an answer that goes on for as long as its caller may have it."""
        if response.tunnel is not None:
            self.flush()
            with self._open_answers.watched(exchange, response.tunnel.refuse):
                await self._tunnels.run(inbound, response, self._date.field())
            return CLOSE
        try:
            async with asyncio.timeout(None) as until:
                with self._open_answers.watched(exchange, lambda: until.reschedule(0)):
                    return await self._write(inbound, response)
        except TimeoutError:
            self.flush()
            inbound.cut()
            return CLOSE

    def _begin(self) -> None:
        self._active += 1

    def _end(self) -> None:
        self._active -= 1
        if self.draining and not self._active:
            self._idle.set()

    async def _handle_admin(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._admin is not None
        response = await self._admin.request_handler(request)
        protocol = cast("Connection", request.protocol)
        is_last = "transfer-encoding" in request.headers and not protocol.ended_plainly
        if is_last:
            protocol.close()
        if (is_last or self.draining) and not response.prepared:
            response.force_close()
        return response

    def _exchange(self, inbound: Inbound, request_id: str) -> Exchange:
        message = inbound.message
        if message.version is not HttpVersion11 and message.version is not HttpVersion10:
            inbound.message = message._replace(should_close=True)
            raise Rejected("bad_request", "The request is neither HTTP/1.1 nor HTTP/1.0.")
        if not inbound.is_fit:
            raise Rejected("bad_request", "The request does not name one host.")
        path, _, query = message.path.partition("?")
        if self.pipeline is None or not path.startswith(_BELOW_DATA_PLANE):
            raise Rejected("not_found", "There is nothing here.")
        headers = message.headers
        traceparent = headers.get("traceparent", "")
        if not traceparent or not is_traceparent(traceparent):
            traceparent = self._random.traceparent()
        peer = inbound.protocol.peername
        way = hops(peer, headers.getall("x-forwarded-for", ()), self._trusted)
        exchange = Exchange(
            message.method,
            path[len(DATA_PLANE) :],
            query,
            headers,
            message.raw_headers,
            self._body(inbound),
            client_address=way[0],
            request_id=request_id,
            traceparent=traceparent,
        )
        if len(way) > 1:
            exchange.proxies = way[1:]
        if self._guards_origin:
            exchange.guards_origin = True
        if message.upgrade:
            exchange.may_switch = inbound.may_switch
        return exchange

    def _body(self, inbound: Inbound) -> Body:
        message, payload = inbound.message, inbound.payload
        if payload is EMPTY_PAYLOAD:
            return Body(None)
        declared = message.headers.get("content-length")
        on_first_read: Callable[[], None] | None = None
        expects = message.headers.get("expect", "").lower() == "100-continue"
        if expects and message.version >= HttpVersion11 and not payload.is_eof():
            on_first_read = partial(self._continue, inbound)
        length = None if declared is None else int(declared)
        return Body(payload, length, on_first_read, self._patience.body_s)

    def flush(self) -> None:
        """Send the answers that wait for the end of the turn: another write comes after them."""
        self._batch.flush()

    def _continue(self, inbound: Inbound) -> None:
        self.flush()
        inbound.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _write(self, inbound: Inbound, response: Response) -> Done:
        message = inbound.message
        close = message.should_close or self.draining or not inbound.payload.is_eof()
        close = close or inbound.may_have_trailers
        date = self._date.field()
        old = message.version is HttpVersion10
        block = wire.whole(
            response, method=message.method, date=date, close=close, says_kept=old and not close
        )
        try:
            if block is None:
                return await self._stream(inbound, response, date, close=close)
            if not isinstance(response.body, bytes):
                await give_up(response.body)
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
            return CLOSE
        return CLOSE if close else KEEP

    async def _stream(
        self, inbound: Inbound, response: Response, date: bytes, *, close: bool
    ) -> Done:
        """Write an answer piece by piece; its iterator is closed whatever happens."""
        chunks = inbound.message.version >= HttpVersion11
        close = close or (not chunks and response.length is None)
        self._metrics.stream_opened()
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
            self._metrics.stream_closed()
            await asyncio.shield(give_up(cast("AsyncIterator[bytes]", response.body)))
        return CLOSE if close else KEEP

    def leave(self) -> None:
        """From now on each answer is the last one of its connection."""
        self.draining = True

    async def drain(self, seconds: float) -> None:
        """Let requests in flight finish, then cut what is left; listeners are closed before."""
        self.leave()
        self._tunnels.leave()
        for connection in self.connections:
            if cast("Connection", connection).is_between_requests:
                connection.force_close()
        await self._become_idle(seconds)
        self._is_cutting = True
        for exchange in self._exchanges:
            exchange.outcome.error_code = exchange.outcome.error_code or "draining"
        for connection in self.connections:
            cast("Connection", connection).give_up()
        await self._become_idle(_CUT_S)
        await self.shutdown(_CUT_S)

    async def _become_idle(self, within_s: float) -> None:
        self._idle.clear()
        if self._active:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._idle.wait()

    def _tell_cut(self, inbound: Inbound, request_id: str) -> None:
        """The answer of a request that had none when its time was up."""
        response = refusal(Rejected("draining", "The gateway is shutting down."), request_id)
        date = self._date.field()
        self.flush()
        with suppress(ConnectionError):
            block = wire.whole(response, method=inbound.message.method, date=date, close=True)
            inbound.write(block or b"")


def _is_of_admin(target: str) -> bool:
    for root in (ADMIN_PLANE, UI):
        if target.startswith(root) and (len(target) == len(root) or target[len(root)] in "/?"):
            return True
    return False
