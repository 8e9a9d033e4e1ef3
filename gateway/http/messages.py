"""What goes out: a request for an upstream, and an answer for a caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Outgoing:
    """The request for the upstream, complete but for the connection.

    `target` is the origin-form request target (RFC 9112 3.2.1). `headers` hold neither framing
    fields nor `Host`. `body` is None when the caller's own body passes through. `sent` counts how
    often it was sent; with `needs_new` it goes on a new connection, as a kept one was closed instead
    of answering it. `websocket_key` is that of a handshake: then the upstream may answer 101.
    """

    method: str
    target: str = field(repr=False)  # this and the next may hold secrets
    headers: RawHeaders = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    sent: int = 0
    needs_new: bool = False
    websocket_key: bytes | None = None


class Tunnel(Protocol):
    """A WebSocket's way through, once the answer has opened it."""

    @property
    def is_closing(self) -> bool:
        """True when the client was sent a Close frame."""

    def open(self, client: Any, /) -> None:
        """The client was answered: its connection is the tunnel's from here on."""

    def pass_on(self, piece: bytes, /) -> None:
        """Send the client a piece; ConnectionError when it is gone."""

    def leave(self) -> None:
        """Tell the client that the gateway goes away."""

    def refuse(self) -> None:
        """Tell the client that it may not go on, and end it."""

    def end(self) -> None:
        """One side is gone: nothing more is read."""


@dataclass(slots=True)
class Response:
    """An answer: status, raw header fields, and a body that is bytes or an iterator of bytes.

    `length` is the body's size when it is an iterator and the size is known: the message is then
    framed by Content-Length, else chunked. The server adds the framing fields, nobody else does.
    An answer without a body (HEAD, 304) may have a `length` (RFC 9110 8.6). With a `tunnel` the status
    is 101 and the body what the upstream says in it.
    """

    status: int
    headers: RawHeaders = field(default_factory=list)
    body: bytes | AsyncIterator[bytes] = b""
    length: int | None = None
    tunnel: Tunnel | None = None
