"""The content coding gzip (RFC 9110 8.4.1.3): who takes it, bodies that are coded as they pass, or decoded.

zlib runs on the event loop, but never on more than 64 KiB at a time.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any, Final

from gateway.http.header_fields import TCHARS
from gateway.http.pieces import give_up

_GZIP_WINDOW: Final = 31
"""zlib's `wbits` for a window of 32 KiB and gzip's head and tail."""
_SLICE_BYTES: Final = 1 << 16
_WEIGHTED: Final = re.compile(
    rf"({TCHARS})(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{{0,3}})?|1(?:\.0{{0,3}})?))?"
).fullmatch


def takes_gzip(accept_encoding: str | None) -> bool:
    """True when gzip is accepted, and identity isn't liked better (RFC 9110 12.5.3).

    Without the field anything is accepted, but nobody asked for gzip. A malformed part is as if
    it weren't there.
    """
    weights: dict[str, float] = {}
    for part in (accept_encoding or "").lower().split(","):
        if match := _WEIGHTED(part.strip(" \t")):
            weights.setdefault(match[1].removeprefix("x-"), float(match[2] or 1))
    others = weights.get("*", 0.0)
    gzip = weights.get("gzip", others)
    return gzip > 0 and gzip >= weights.get("identity", others)


async def gzipped(content: bytes, level: int) -> bytes:
    """The content in gzip, whole."""
    coder = zlib.compressobj(level, wbits=_GZIP_WINDOW)
    return await _coded(coder, content) + coder.flush()


async def ungzipped(content: bytes, most_bytes: int) -> bytes | None:
    """What was put into gzip; None when that is malformed, incomplete, or more than so many bytes."""
    found, size, rest = [], 0, content
    try:
        while rest:  # one member after the other (RFC 1952 2.2)
            coder = zlib.decompressobj(wbits=_GZIP_WINDOW)
            while not coder.eof:
                piece = coder.decompress(rest, _SLICE_BYTES)
                rest = coder.unconsumed_tail
                size += len(piece)
                if size > most_bytes or (not piece and not rest and not coder.eof):
                    return None
                found.append(piece)
                await asyncio.sleep(0)
            rest = coder.unused_data
    except zlib.error:
        return None
    return b"".join(found)


class Gzipped:
    """A body's pieces in gzip, each complete enough to be read when it comes."""

    def __init__(self, pieces: AsyncIterator[bytes], level: int) -> None:
        self._pieces = pieces
        self._coder = zlib.compressobj(level, wbits=_GZIP_WINDOW)
        self._has_ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._has_ended:
            raise StopAsyncIteration
        try:
            piece = await self._pieces.__anext__()
        except StopAsyncIteration:
            self._has_ended = True
            return self._coder.flush()
        if not piece:
            return b""
        return await _coded(self._coder, piece) + self._coder.flush(zlib.Z_SYNC_FLUSH)

    async def aclose(self) -> None:
        """Nobody reads on."""
        await give_up(self._pieces)


async def _coded(coder: Any, content: bytes) -> bytes:
    """Put bytes into the coder, slice by slice; others have their turn in between."""
    view = memoryview(content)
    coded = [coder.compress(view[:_SLICE_BYTES])]
    for start in range(_SLICE_BYTES, len(content), _SLICE_BYTES):
        await asyncio.sleep(0)
        coded.append(coder.compress(view[start : start + _SLICE_BYTES]))
    return b"".join(coded)
