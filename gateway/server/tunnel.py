"""WebSockets on their way through: bytes both ways after a 101, as they come, with back-pressure.

The client's bytes are written to the upstream at once; the upstream's are the answer's pieces, so
that they pass the filters that count. A connection that was a tunnel is never anything else again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from gateway.http import messages, wire
from gateway.http.pieces import give_up
from gateway.http.websocket import GOING_AWAY, POLICY_VIOLATION, SWITCHING, Frames
from gateway.problems import Rejected
from gateway.upstream.answer import Answer
from gateway.upstream.protocol import Broken

if TYPE_CHECKING:
    from gateway.exchange import Body
    from gateway.http.messages import Response
    from gateway.metrics import Metrics
    from gateway.server.connection import Inbound

log = logging.getLogger(__name__)

_LAST_WORDS_S: Final = 1.0
"""How long a client that may not go on has to take its Close frame."""


class Tunnel:
    """One WebSocket between a client and an upstream.

    The bytes that the client sends count as read of `body`, the request's.
    """

    def __init__(self, answer: Answer, body: Body) -> None:
        self._loop = asyncio.get_running_loop()
        self._answer = answer
        self._body = body
        self._upstream = answer.protocol
        self._client: Inbound | None = None
        self._frames = Frames()
        self._has_left = False
        self._is_leaving = False
        self._is_refused = False
        self._farewell = GOING_AWAY
        self._last_s = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._upstream.on_room = self._go_on

    @property
    def is_closing(self) -> bool:
        """True when the client was sent a Close frame, the upstream's or ours, or should have been."""
        return self._frames.is_closing or self._has_left or self._is_refused

    async def pieces(self) -> AsyncIterator[bytes]:
        """What the upstream says, as it comes.

        Raises Rejected `upstream_timeout` when neither side has said anything for the endpoint's
        idle time, and `upstream_invalid` when the upstream was gone without a Close frame. After
        one, a reset is as good an end as any.
        """
        self._look()
        try:
            while piece := await self._upstream.read():
                self._last_s = self._loop.time()
                yield piece
        except TimeoutError:
            raise Rejected("upstream_timeout", "Neither side said anything any more.") from None
        except Broken:
            if not self.is_closing:
                self._answer.tell_broken()
                raise Rejected("upstream_invalid", "The upstream broke it off.") from None
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if not self.is_closing:
            raise Rejected("upstream_invalid", "The upstream left without a Close frame.")

    def _look(self) -> None:
        """See whether it was silent for too long, and when it could be next."""
        left_s = self._last_s + self._answer.idle_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self._upstream.fail(TimeoutError())

    def open(self, client: Inbound) -> None:
        """The client was answered: from here on its bytes are the upstream's, early ones as well."""
        self._client = client
        client.protocol.set_parser(cast("Any", _Taker(self._take, self.end)))

    def _take(self, piece: bytes) -> None:
        """What comes from the client; nothing more of one that may not go on."""
        if self._is_refused:
            return
        self._last_s = self._loop.time()
        self._body.read_bytes += len(piece)
        if not self._upstream.is_closing():
            self._upstream.write(piece)
            if self._upstream.writing_paused and self._client is not None:
                self._client.protocol.pause_reading()

    def _go_on(self) -> None:
        """The upstream has room again."""
        if self._client is not None:
            self._client.protocol.resume_reading()

    def pass_on(self, piece: bytes) -> None:
        """Send the client a piece; ConnectionError when it is gone. After a Close nothing follows."""
        if self._client is None or self._has_left:
            return
        if not self._is_leaving:
            self._frames.skip(piece)
            self._client.write(piece)
        else:
            self._client.write(piece[: self._frames.skip(piece, most=1)])
            self.leave()

    def leave(self) -> None:
        """Tell the client that the gateway goes away, at the end of the frame that is on its way.

        The client's own Close is passed on, so that the upstream ends the WebSocket as usual.
        """
        self._is_leaving = True
        has_closed = self._frames.is_closing or self._has_left
        if self._client is not None and self._frames.is_between and not has_closed:
            self._has_left = True
            with suppress(ConnectionError):
                self._client.write(self._farewell)

    def refuse(self) -> None:
        """Tell the client that it may not go on, with 1008; a moment later neither side is left."""
        self._is_refused, self._farewell = True, POLICY_VIOLATION
        self.leave()
        self._loop.call_later(_LAST_WORDS_S, self._cut)

    def _cut(self) -> None:
        self.end()
        if self._client is not None and (transport := self._client.protocol.transport) is not None:
            transport.abort()

    def end(self) -> None:
        """One side is gone: nothing more is read."""
        self._upstream.on_room = None
        self._upstream.finish()


class _Taker:
    """What aiohttp's protocols call with bytes that are not HTTP any more, by its names."""

    def __init__(self, take: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._take = take
        self.feed_data = self._feed
        self.feed_eof = end

    def _feed(self, piece: bytes) -> tuple[bool, bytes]:
        self._take(piece)
        return False, b""


class Tunnels:
    """The open ones of one server."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: set[messages.Tunnel] = set()
        self._are_leaving = False

    async def run(self, inbound: Inbound, response: Response, date: bytes) -> None:
        """Answer 101, then pass bytes until one side ends; afterwards the connection is to be closed."""
        tunnel, pieces = response.tunnel, response.body
        assert tunnel is not None
        assert not isinstance(pieces, bytes)
        self._metrics.stream_opened()
        self._open.add(tunnel)
        try:
            inbound.write(wire.head(response, date, SWITCHING, close=False))
            tunnel.open(inbound)
            if self._are_leaving:
                tunnel.leave()
            async for piece in pieces:
                tunnel.pass_on(piece)
                await inbound.drain()
        except Exception as error:
            expected = isinstance(error, (ConnectionError, Rejected))
            level = logging.INFO if expected else logging.ERROR
            log.log(level, "tunnel broken off", exc_info=not expected, extra={"reason": str(error)})
            if isinstance(error, Rejected) and error.code == "upstream_timeout":
                tunnel.leave()
            inbound.cut()
        finally:
            self._metrics.stream_closed()
            self._open.discard(tunnel)
            await asyncio.shield(_end(tunnel, pieces))

    def leave(self) -> None:
        """Tell every client, and those who are still to come, that the gateway goes away."""
        self._are_leaving = True
        for tunnel in list(self._open):
            tunnel.leave()


async def _end(tunnel: messages.Tunnel, pieces: AsyncIterator[bytes]) -> None:
    """Close the iterator. A client that goes after a Close frame has not gone before the end."""
    tunnel.end()
    if tunnel.is_closing:
        with suppress(Rejected):
            async for _ in pieces:
                pass
    await give_up(pieces)
