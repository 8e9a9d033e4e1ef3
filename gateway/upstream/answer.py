"""What comes from an upstream: the protocol that reads it, and the answer it becomes.

aiohttp's protocol is used directly, as in `upstream.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NamedTuple, cast

from aiohttp import ClientError
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from gateway.exchange import RawHeaders
from gateway.http import wire
from gateway.problems import Rejected

BROKEN: Final = (ClientError, ConnectionError, HttpProcessingError)
"""What aiohttp raises when an upstream is gone or sends what is not HTTP."""
_SWITCHED: Final = 101


class Blameless(Rejected):
    """An attempt that failed by the caller's pace or limits: of the upstream it says nothing."""


class DeadlinePassed(Exception):
    """The head of the answer did not come in time."""


class Bounds(NamedTuple):
    """Seconds: for the whole exchange (None for a stream's body), and between two pieces."""

    total_s: float
    idle_s: float
    most_bytes: int
    streaming: bool = False


class UpstreamProtocol(ResponseHandler):
    """aiohttp's, which also knows whether it has served a request before."""

    served = False
    on_room: Callable[[], None] | None = None
    """Called when the upstream has taken enough for more to be written."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by aiohttp after every read of a body; only after a pause is there anything to do."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def resume_writing(self) -> None:
        """Called when the upstream has taken most of what was written."""
        super().resume_writing()
        if self.on_room is not None:
            self.on_room()

    def expire(self) -> None:
        """The deadline for the head of the answer has passed: whoever reads is told."""
        self.set_exception(DeadlinePassed())

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        """Tell who reads the body, too: when its framing breaks, aiohttp doesn't."""
        super().set_exception(exc, *(() if exc_cause is None else (exc_cause,)))
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        """A body that ends with its connection has not ended when that was reset."""
        if exc is not None and self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError("reset"))
        super().connection_lost(exc)


class Answer:
    """The upstream's answer: its head, and a body that is here already or comes in pieces."""

    __slots__ = (
        "_connection", "_deadline", "_limits", "_payload", "_upload", "body", "headers", "length",
        "on_broken", "status", "streaming",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        head: tuple[Any, StreamReader],
        limits: Bounds,
        deadline: float | None,
        upload: asyncio.Task[None] | None,
    ) -> None:
        message, payload = head
        self.status: int = message.code
        self.headers: RawHeaders = list(message.raw_headers)
        self._connection = connection
        self._payload = payload
        self._limits = limits
        self._deadline = deadline
        self._upload = upload
        self.length = wire.declared_length(message)
        self.streaming = limits.streaming or message.headers.get(
            "content-type", ""
        ).lower().startswith("text/event-stream")
        """True when the body may take as long as it likes: only silence ends it."""
        self.on_broken: Callable[[], None] | None = None
        """Called when the upstream, and not its reader, is why the body does not come to its end."""
        self.body: bytes | None = None
        if payload.is_eof() and payload.exception() is None and message.code != _SWITCHED:
            self.body = payload.read_nowait(-1)
        most = limits.most_bytes
        if max(self.length or 0, len(self.body or b"")) > most and not self.streaming:
            raise Blameless("upstream_invalid", f"The answer has more than {most} bytes.")

    @property
    def is_switched(self) -> bool:
        """True when the connection is no longer HTTP's: a tunnel reads it."""
        return self.status == _SWITCHED

    @property
    def protocol(self) -> UpstreamProtocol:
        """The connection's protocol, for a tunnel."""
        return cast("UpstreamProtocol", self._connection.protocol)

    @property
    def idle_s(self) -> float:
        """How long nothing may be said, in seconds."""
        return self._limits.idle_s

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body piece by piece as it comes.

        Raises Rejected `upstream_timeout` or `upstream_invalid`, after which the message to the
        caller can only be broken off: its head is gone.
        """
        payload, limits = self._payload, self._limits
        protocol = self.protocol
        protocol.read_timeout = limits.idle_s
        protocol.start_timeout()
        passed = 0
        # is_eof() is true before the last piece is read, and at_eof() after a reset, too
        while payload.exception() is not None or not payload.at_eof():
            try:
                async with asyncio.timeout_at(None if self.streaming else self._deadline):
                    piece = await payload.readany()
            except TimeoutError as error:
                if isinstance(error, ClientError):  # silence; the deadline ends slow readers, too
                    self.tell_broken()
                raise Rejected("upstream_timeout", "The upstream stopped in its answer.") from None
            except BROKEN:
                self.tell_broken()
                raise Rejected("upstream_invalid", "The upstream broke its answer off.") from None
            passed += len(piece)
            if passed > limits.most_bytes and not self.streaming:
                raise Rejected("upstream_invalid", "The answer is over the size limit.")
            if piece:
                yield piece

    def tell_broken(self) -> None:
        """It is the upstream that broke its answer off."""
        if self.on_broken is not None:
            self.on_broken()

    def release(self) -> None:
        """Give the connection back, or close it when the answer or the upload isn't complete."""
        upload = self._upload
        if self.status == _SWITCHED and self.protocol.writing_paused:
            self.protocol.abort()  # it does not read: it would be waited for
        if upload is not None and (
            not upload.done() or upload.cancelled() or upload.exception() is not None
        ):
            upload.cancel()
            self._connection.close()
        else:
            self._connection.release()
