"""The content coding gzip (RFC 9110 8.4.1): who takes it, bodies coded as they pass, and undone.

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
_EITHER_WINDOW: Final = 47
"""zlib's `wbits` for what has gzip's head, or that of `deflate` (RFC 9110 8.4.1.2)."""
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


async def decoded(content: bytes, codings: bytes, most_bytes: int) -> bytes:
    """The content without its codings. Raises ValueError for one that isn't known, broken or larger."""
    named = [coding.strip().lower() for coding in codings.split(b",")]
    applied = [coding for coding in named if coding not in {b"", b"identity"}]
    if not applied:
        return content
    if len(applied) > 1 or applied[0] not in {b"gzip", b"x-gzip", b"deflate"}:
        raise ValueError("it is neither gzip nor deflate")
    coder, found, view = zlib.decompressobj(_EITHER_WINDOW), bytearray(), memoryview(content)
    try:
        for start in range(0, len(content), _SLICE_BYTES):
            rest: bytes | memoryview = view[start : start + _SLICE_BYTES]
            while len(rest) and not coder.eof:
                found += coder.decompress(rest, _SLICE_BYTES)
                rest = coder.unconsumed_tail
                if len(found) > most_bytes:
                    raise ValueError(f"it has more than {most_bytes} bytes")
                await asyncio.sleep(0)
        found += coder.flush()
    except zlib.error:
        raise ValueError("it is broken") from None
    if not coder.eof or coder.unused_data:
        raise ValueError("it is broken")
    return bytes(found)
