"""The answer of an upstream: its head, and a body that is here already or comes in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

from gateway.exchange import RawHeaders
from gateway.problems import Rejected
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.protocol import Broken, DeadlinePassed, UpstreamProtocol

_SWITCHED: Final = 101


class Blameless(Rejected):
    """An attempt that failed by the caller's pace or limits: of the upstream it says nothing."""


class Bounds(NamedTuple):
    """Seconds: for the whole exchange (None for a stream's body), and between two pieces."""

    total_s: float
    idle_s: float
    most_bytes: int
    streaming: bool = False


class Answer:
    """The upstream's answer: its head, and a body that is here already or comes in pieces."""

    __slots__ = (
        "_deadline", "_deadlines", "_give_back", "_limits", "_upload", "body", "headers", "length",
        "on_broken", "protocol", "status", "streaming",
    )  # fmt: skip

    def __init__(
        self,
        protocol: UpstreamProtocol,
        limits: Bounds,
        deadline: float,
        upload: asyncio.Task[None] | None,
        deadlines: Deadlines,
        give_back: Callable[[UpstreamProtocol], None],
    ) -> None:
        message = protocol.message
        self.protocol = protocol
        """The connection, for a tunnel."""
        self.status: int = message.code
        self.headers: RawHeaders = list(message.raw_headers)
        self.length = protocol.length
        self._limits = limits
        self._deadline = deadline
        self._upload = upload
        self._deadlines = deadlines
        self._give_back: Callable[[UpstreamProtocol], None] | None = give_back
        self.streaming = limits.streaming or message.headers.get(
            "content-type", ""
        ).lower().startswith("text/event-stream")
        """True when the body may take as long as it likes: only silence ends it."""
        self.on_broken: Callable[[], None] | None = None
        """Called when the upstream, and not its reader, is why the body does not come to its end."""
        self.body: bytes | None = protocol.take() if protocol.is_complete else None
        most = limits.most_bytes
        if max(self.length or 0, len(self.body or b"")) > most and not self.streaming:
            raise Blameless("upstream_invalid", f"The answer has more than {most} bytes.")

    @property
    def is_switched(self) -> bool:
        """True when the connection is no longer HTTP's: a tunnel reads it."""
        return self.status == _SWITCHED

    @property
    def idle_s(self) -> float:
        """How long nothing may be said, in seconds."""
        return self._limits.idle_s

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body piece by piece as it comes.

        Raises Rejected `upstream_timeout` or `upstream_invalid`, after which the message to the
        caller can only be broken off: its head is gone.
        """
        protocol, limits = self.protocol, self._limits
        passed = 0
        while True:
            try:
                piece = await (protocol.read() if protocol.is_ready else self._silence(protocol))
            except DeadlinePassed:
                if not self._is_late():  # silence; the deadline ends slow readers, too
                    self.tell_broken()
                raise Rejected("upstream_timeout", "The upstream stopped in its answer.") from None
            except Broken:
                self.tell_broken()
                raise Rejected("upstream_invalid", "The upstream broke its answer off.") from None
            if not piece:
                return
            passed += len(piece)
            if passed > limits.most_bytes and not self.streaming:
                raise Rejected("upstream_invalid", "The answer is over the size limit.")
            if self._is_late():
                raise Rejected("upstream_timeout", "The answer was not taken in time.")
            yield piece

    def _is_late(self) -> bool:
        return not self.streaming and asyncio.get_running_loop().time() >= self._deadline

    async def _silence(self, protocol: UpstreamProtocol) -> bytes:
        """The next piece, which is not here yet. Raises DeadlinePassed."""
        until = asyncio.get_running_loop().time() + self._limits.idle_s
        if not self.streaming:
            until = min(until, self._deadline)
        self._deadlines.watch(protocol, until)
        try:
            return await protocol.read()
        finally:
            self._deadlines.forget(protocol)

    def tell_broken(self) -> None:
        """It is the upstream that broke its answer off."""
        if self.on_broken is not None:
            self.on_broken()

    def release(self) -> None:
        """Give the connection back, or close it when the answer or the upload isn't complete."""
        give_back, self._give_back = self._give_back, None
        if give_back is None:
            return
        upload = self._upload
        if upload is not None and (
            not upload.done() or upload.cancelled() or upload.exception() is not None
        ):
            upload.cancel()
            self.protocol.close()
        else:
            give_back(self.protocol)
