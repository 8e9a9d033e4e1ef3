"""Bodies in chunks, decoded strictly (RFC 9112 7.1); extensions and trailer fields are dropped.

Not the C parser's work: it would make an object of every chunk, and it puts the last trailer field
of one message into the head of the next.
"""

from __future__ import annotations

import re
from typing import Final

_EXTENSION: Final = rb"[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?"
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})" + _EXTENSION + rb"\r\n").match
_BEGUN_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{0,15}" + _EXTENSION + rb"\r?").fullmatch
_FIELD: Final = rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*)?"
_TRAILER: Final = re.compile(_FIELD + rb"\r\n").fullmatch
_MOST_LINE_BYTES: Final = 4096
"""The longest line that gives a size, its extensions included."""
_MOST_TRAILER_BYTES: Final = 16_384


class Malformed(ValueError):
    """This is no body in chunks."""


class Chunks:
    """One body on its way in; when it has ended, `rest` is what came behind it."""

    __slots__ = ("_begun", "_is_behind", "_left", "_trailer_bytes", "rest")

    def __init__(self) -> None:
        self._begun = b""
        self._left = 0
        self._is_behind = False
        self._trailer_bytes = -1
        self.rest: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """The content in these bytes. Raises Malformed."""
        if self._begun:
            data, self._begun = self._begun + data, b""
        got: list[bytes] = []
        at = 0
        while at < len(data) and self.rest is None:
            if self._left:
                piece = data[at : at + self._left]
                got.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._is_behind = not self._left
            else:
                end = self._line(data, at)
                if end < 0:
                    self._begun = data[at:]
                    break
                at = end
        if self.rest is not None:
            self.rest = data[at:]
        return got[0] if len(got) == 1 else b"".join(got)

    def _line(self, data: bytes, at: int) -> int:
        """Where the line that begins here ends, having taken what it says; -1 when it is not all here."""
        if self._is_behind:
            return self._behind(data, at)
        if self._trailer_bytes >= 0:
            return self._trailer(data, at)
        line = _SIZE(data, at)
        if line is None:
            begun = data[at:]
            if len(begun) > _MOST_LINE_BYTES or not _BEGUN_SIZE(begun):
                raise Malformed("not a chunk's size")
            return -1
        self._left = int(line[1], 16)
        if not self._left:
            self._trailer_bytes = 0
        return line.end()

    def _behind(self, data: bytes, at: int) -> int:
        """The line end that follows a chunk's content."""
        found = data[at : at + 2]
        if found == b"\r\n":
            self._is_behind = False
            return at + 2
        if found != b"\r":
            raise Malformed("a chunk is longer than its size")
        return -1

    def _trailer(self, data: bytes, at: int) -> int:
        """A trailer field, or the empty line that ends the body."""
        end = data.find(b"\n", at) + 1
        if self._trailer_bytes + (end or len(data)) - at > _MOST_TRAILER_BYTES:
            raise Malformed("too many bytes of trailer fields")
        if not end:
            return -1
        if not _TRAILER(data, at, end):
            raise Malformed("not a trailer field")
        self._trailer_bytes += end - at
        if end - at == 2:
            self.rest = b""
        return end
