"""One connection to an upstream: it takes from it what the exchange in progress is owed, and no more.

While nobody is owed anything, the first byte closes it; so does a byte behind the end of an answer.
Bodies are framed here (RFC 9112 6.3) and held up to a bound, past which the upstream is not read.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, cast

from gateway.http.chunks import Chunks, Malformed
from gateway.http.wire import declared_length, has_no_body
from gateway.problems import Rejected
from gateway.upstream.heads import FieldLimits, Heads
from gateway.upstream.tls import after_the_handshake

if TYPE_CHECKING:
    from gateway.upstream.resolver import Name

HELD_BYTES: Final = 1 << 17
"""How much of a body is held for a reader that is slower; one read of the transport's may be more."""
_MOST_INTERIM: Final = 8
_MOST_INTERIM_BYTES: Final = 1 << 16
_SWITCHED: Final = 101
_NO_LIMITS: Final = FieldLimits()


class Broken(ConnectionError):
    """The upstream is gone before the end of what it owed, or sent what is no body."""


class DeadlinePassed(Exception):
    """What was waited for did not come in time."""


class Owed(IntEnum):
    """What the upstream still owes."""

    NOTHING = 0
    HEAD = 1
    COUNTED = 2
    CHUNKED = 3
    ALL = 4
    """A body that ends with the connection: TLS says that it does, or it was cut (RFC 9112 9.8)."""
    TUNNEL = 5
    """Whatever it says until the connection ends, however that is."""


class UpstreamProtocol(asyncio.Protocol):
    """A connection, used for one exchange at a time: `begin`, `write`, `head`, `read` to the end.

    One task at a time waits in `head` or `read`, and one in `drain`.
    """

    on_room: Callable[[], None] | None = None
    """Called when the upstream has taken enough for more to be written."""
    on_lost: Callable[[UpstreamProtocol], None] | None = None
    name: Name | None = None
    """What was resolved to connect; None for an address."""
    address = ""
    port = 0
    key: tuple[str, int, bool, str] = ("", 0, False, "")
    """Who may use it: connections are shared by exchanges with the same host, port, TLS and owner."""
    retire_at = 0.0
    idle_since = 0.0
    message: Any = None
    length: int | None = None
    served = 0
    wrote = False
    """True when something of this exchange's request was written."""
    received = False
    """True when something of this exchange's answer was received."""
    is_complete = True
    """True when all that was owed is here."""
    is_open = False
    writing_paused = False
    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: FieldLimits = _NO_LIMITS) -> None:
        self._loop = loop
        self._heads = Heads(loop, limits)
        self._owed = Owed.NOTHING
        self._left = 0
        self._chunks: Chunks | None = None
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._is_head = self._may_follow = False
        self._interim = self._interim_bytes = 0
        self._error: Exception | None = None
        self._lost: Exception = Broken("there is no connection")
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._fd = -1
        self._tls: ssl.SSLObject | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP and TLS are there."""
        self.transport = cast("asyncio.Transport", transport)
        self._fd = transport.get_extra_info("socket").fileno()
        self._tls = transport.get_extra_info("ssl_object")
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Take what is owed; with more, or with what is none, the connection is over."""
        self.received = True
        try:
            if self._owed is Owed.HEAD:
                data = self._take_head(data)
            if data and self._owed > Owed.HEAD:
                data = self._take_body(data)
        except Rejected as refused:
            self.fail(refused)
        except Malformed:
            self.fail(Broken("not a body in chunks"))
        else:
            if data and self._owed is Owed.NOTHING:
                self.abort()

    def eof_received(self) -> None:
        """The upstream says nothing more: some bodies end so."""
        if self._owed is Owed.TUNNEL or (self._owed is Owed.ALL and _is_end(self._tls)):
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, with an error when it was reset."""
        self.is_open = False
        if exc is None and self._owed is Owed.TUNNEL:
            self._end()
        why = None if self.received else after_the_handshake(exc)
        self._lost = why or Broken(f"the connection was {'reset' if exc else 'closed'}")
        self.fail(self._lost)
        self._make_room()
        if self.on_lost is not None:
            self.on_lost(self)

    def pause_writing(self) -> None:
        """The upstream does not take what is written."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """The upstream has taken most of what was written."""
        self.writing_paused = False
        self._make_room()
        if self.on_room is not None:
            self.on_room()

    # Called by whoever has an exchange.

    def begin(self, *, is_head: bool) -> None:
        """From here on an answer is owed; `is_head` when it is one to HEAD. Raises as `head` does."""
        self.message = None
        self.wrote = self.received = self.is_complete = False
        self._is_head, self._may_follow = is_head, False
        self._interim = self._interim_bytes = 0
        self._pieces.clear()
        self._held_bytes = 0
        self.served += 1
        if not self.is_open:
            raise self._lost
        self._owed = Owed.HEAD

    def is_closing(self) -> bool:
        """True when nothing can be written any more."""
        return not self.is_open or self.transport.is_closing()

    def write(self, block: bytes) -> None:
        """Send some of the request."""
        self.wrote = True
        self.transport.write(block)

    async def drain(self) -> None:
        """Wait until the upstream has taken enough of what was written, or is gone."""
        if self.writing_paused and self.is_open:
            self._room = self._loop.create_future()
            await self._room

    async def head(self) -> Any:
        """The head of the final answer.

        Raises Rejected `upstream_invalid`, Broken, or what it was failed with.
        """
        while self.message is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self.message

    async def read(self) -> bytes:
        """What has come of the body; nothing at its end. Raises as `head` does, but only then."""
        while not self._pieces:
            if self.is_complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        return self.take()

    @property
    def is_ready(self) -> bool:
        """True when `read` would not wait."""
        return bool(self._pieces) or self.is_complete or self._error is not None

    def take(self) -> bytes:
        """What is here of the body, and is not read yet."""
        pieces, self._pieces = self._pieces, []
        self._held_bytes = 0
        self.resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def resume(self) -> None:
        """Read on, if the upstream is not read."""
        if self._reading_paused:
            self._reading_paused = False
            if not self.is_closing():
                self.transport.resume_reading()

    def finish(self) -> None:
        """Nothing more is read: the body ends here."""
        if self._owed is not Owed.NOTHING:
            self._end()

    def fail(self, error: Exception) -> None:
        """Whoever waits for what is owed gets the error, and the connection is over."""
        if self._owed is not Owed.NOTHING:
            self._owed = Owed.NOTHING
            self._error = error
            self._wake()
        self.abort()

    def expire(self) -> None:
        """The deadline has passed for what is waited for."""
        self.fail(DeadlinePassed())

    @property
    def may_serve(self) -> bool:
        """True when another exchange may follow the one that is over."""
        return (
            self.is_complete
            and self.is_open
            and self._error is None
            and self._may_follow
            and not self.transport.is_closing()
        )

    @property
    def is_full(self) -> bool:
        """True while the upstream has not taken what was written to it."""
        return self.is_open and self.transport.get_write_buffer_size() > 0

    def is_quiet(self) -> bool:
        """Ask the system whether the upstream has said or ended something that was not read yet."""
        look = select.poll()
        look.register(self._fd, select.POLLIN | select.POLLHUP | select.POLLERR)
        return self.is_open and not look.poll(0)

    def close(self) -> None:
        """End the connection; what the upstream doesn't take at once is not waited for."""
        self._owed = Owed.NOTHING
        if self.is_full:
            self.abort()
        elif self.is_open:
            self.transport.close()

    def abort(self) -> None:
        """End the connection now."""
        if self.is_open:
            self.transport.abort()

    # What comes in.

    def _take_head(self, data: bytes) -> bytes:
        """Take the head from these bytes, and interim ones before it; the rest is not the head's."""
        while data:
            message, end = self._heads.feed(data)
            data = data[end:]
            if message is not None and not _is_interim(message.code):
                self.message = message
                self._frame(message)
                self._wake()
                break
            if message is not None or self._interim:
                self._count_interim(message, end)
        return data

    def _count_interim(self, message: Any, size_bytes: int) -> None:
        """Few interim answers are taken, and not many bytes of them (RFC 9110 15.2)."""
        self._interim += message is not None
        self._interim_bytes += size_bytes
        if self._interim > _MOST_INTERIM or self._interim_bytes > _MOST_INTERIM_BYTES:
            raise Rejected("upstream_invalid", "The upstream sends too many interim answers.")

    def _frame(self, message: Any) -> None:
        """Find out how the body ends (RFC 9112 6.3)."""
        self.length = declared_length(message)
        if message.code == _SWITCHED:
            self._owed = Owed.TUNNEL
        elif self._is_head or has_no_body("", message.code) or self.length == 0:
            self._end()
        elif message.chunked:
            self._owed = Owed.CHUNKED
            self._chunks = Chunks()
        elif self.length is not None:
            self._owed = Owed.COUNTED
            self._left = self.length
        else:
            self._owed = Owed.ALL
        self._may_follow = not message.should_close and self._owed < Owed.ALL

    def _take_body(self, data: bytes) -> bytes:
        """Take of these bytes what is the body's; the rest is behind its end."""
        rest = b""
        if self._owed is Owed.COUNTED:
            left = self._left - len(data)
            if left < 0:
                data, rest = data[:left], data[left:]
            self._left = max(left, 0)
            is_end = left <= 0
        elif self._chunks is not None:
            data = self._chunks.feed(data)
            is_end = self._chunks.rest is not None
            rest = self._chunks.rest or b""
        else:
            is_end = False
        if data:
            self._pieces.append(data)
            self._held_bytes += len(data)
        if is_end:
            self._end()
        elif self._held_bytes > HELD_BYTES and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()
        if data:
            self._wake()
        return rest

    def _end(self) -> None:
        """All that was owed is here."""
        self.is_complete = True
        self._owed = Owed.NOTHING
        self._chunks = None
        self._wake()

    # Who waits.

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)


def _is_interim(status: int) -> bool:
    """True for an answer that another one follows (RFC 9110 15.2)."""
    return 100 <= status < 200 and status != _SWITCHED


def _is_end(tls: ssl.SSLObject | None) -> bool:
    """True when the peer has ended TLS with close_notify (RFC 8446 6.1), and not only TCP below it."""
    try:
        return tls is None or not tls.read(1)
    except ssl.SSLError:
        return False
