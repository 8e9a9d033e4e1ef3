"""Bodies in pieces: watched as they pass, or gathered up to a bound and put together again past it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from enum import Enum

from gateway.http.header_fields import Fields, joined
from gateway.http.messages import Response
from gateway.http.wire import has_no_body
from gateway.problems import Rejected


def is_event_stream(headers: Fields) -> bool:
    """True when the answer is one that never ends by itself."""
    return (joined(headers, b"content-type") or "").lower().startswith("text/event-stream")


def is_stream(method: str, response: Response, *, may_stream: bool) -> bool:
    """True for an answer that may take as long as it likes, whether it is here already or not.

    `may_stream` is the endpoint's word: then an answer without a declared length is one, too.
    """
    if is_event_stream(response.headers):
        return True
    if not may_stream or has_no_body(method, response.status):
        return False
    return joined(response.headers, b"content-length") is None


async def gather(response: Response, most_bytes: int) -> bytes | None:
    """The answer's body as bytes; None when it has more, and then it comes in pieces as before.

    Raises Rejected `upstream_invalid` for a body that is shorter or longer than its length.
    """
    body = response.body
    if isinstance(body, bytes):
        return body if len(body) <= most_bytes else None
    if response.length is not None and response.length > most_bytes:
        return None
    got, size_bytes = [], 0
    async for piece in body:
        got.append(piece)
        size_bytes += len(piece)
        if size_bytes > most_bytes:
            response.body = _Rejoined(got, body)
            return None
    if response.length not in {None, size_bytes}:
        raise Rejected("upstream_invalid", "The answer is not as long as it says.")
    response.body, response.length = b"".join(got), None
    return response.body


async def give_up(pieces: AsyncIterator[bytes]) -> None:
    """Nobody reads on: whoever makes the pieces is told, where there is a way to."""
    if (end := getattr(pieces, "aclose", None)) is not None:
        await end()


class End(Enum):
    """How pieces came to their end: as they should, by an error, or because nobody read on."""

    COMPLETE = "complete"
    FAILED = "failed"
    GIVEN_UP = "given up"


class Watched:
    """A body's pieces as they pass.

    `on_piece` is called with each, and what it raises breaks them off. `on_end` is called once: before the
    reader knows of the end, with the error where there is one. A reader that is cancelled has to give
    up, as the server does.
    """

    __slots__ = ("_has_ended", "_on_end", "_on_piece", "_pieces")

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        on_piece: Callable[[bytes], None] | None,
        on_end: Callable[[End, Exception | None], None],
    ) -> None:
        self._pieces = pieces
        self._on_piece = on_piece
        self._on_end = on_end
        self._has_ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._pieces.__anext__()
            if self._on_piece is not None:
                self._on_piece(piece)
        except StopAsyncIteration:
            self._end(End.COMPLETE)
            raise
        except Exception as error:
            self._end(End.FAILED, error)
            raise
        return piece

    async def aclose(self) -> None:
        """The reader is done, and has given up if this is not the end."""
        try:
            self._end(End.GIVEN_UP)
        finally:
            await give_up(self._pieces)

    def _end(self, end: End, error: Exception | None = None) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._on_end(end, error)


class _Rejoined:
    """The pieces that were taken already, then the rest as it comes."""

    def __init__(self, got: list[bytes], rest: AsyncIterator[bytes]) -> None:
        self._got = got[::-1]
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return self._got.pop() if self._got else await self._rest.__anext__()

    async def aclose(self) -> None:
        """Nobody reads on."""
        await give_up(self._rest)
