"""Heads of answers by aiohttp's C parser, which gets them alone: never a body, never a trailer field.

The names used here (`HttpResponseParser`, its exceptions, the fields of a message) are public only by
custom: aiohttp is pinned to a minor version, and the contract tests in tests/gateway/upstream/test_heads.py
fail when their meaning changes.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple, cast

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpResponseParser

from gateway.problems import Rejected

TOO_MANY: Final = "Too many headers received"
"""What aiohttp says of it; there is no type for it."""


class FieldLimits(NamedTuple):
    """How many fields the head of an answer may have, and how many bytes each, its name included."""

    most: int = 128
    most_bytes: int = 16_384


class Heads:
    """The heads of one connection's answers, one after the other.

    One parser serves them all: each head is fed up to its last byte and not further, so that nothing
    of one message is left in it when the next begins.
    """

    __slots__ = ("_last", "_limits", "_parser")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: FieldLimits) -> None:
        self._limits = limits
        self._last = b""
        self._parser = HttpResponseParser(
            cast("Any", None),  # asked for flow control of bodies only
            loop,
            1,
            response_with_body=False,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=limits.most_bytes,
            max_field_size=limits.most_bytes,
            max_headers=limits.most,
        )

    def feed(self, data: bytes) -> tuple[Any, int]:
        """The message whose head ends in these bytes, None when none does; and how many were taken.

        Raises Rejected `upstream_invalid`.
        """
        end = self._end(data)
        try:
            messages, _, _ = self._parser.feed_data(data[:end])
        except LineTooLong:
            most = self._limits.most_bytes
            raise _invalid(f"has a line of more than {most} bytes in its head") from None
        except HttpProcessingError as error:
            if TOO_MANY in error.message:
                raise _invalid(f"has more than {self._limits.most} header fields") from None
            raise _invalid("is not HTTP") from error
        if messages and not self._last and len(messages) == 1:
            return messages[0][0], end
        if messages or not self._last:  # empty lines where a status line is due
            raise _invalid("is not HTTP")
        return None, end

    def _end(self, data: bytes) -> int:
        """Where the head ends: behind an empty line, of which either line end may lack its CR.

        That is where the parser ends it, too. Without one, all of the bytes are the head's.
        """
        before, seen = len(self._last), self._last + data if self._last else data
        end = seen.find(b"\n\r\n")
        bare = seen.find(b"\n\n", 0, len(seen) if end < 0 else end + 1)
        if end < 0 and bare < 0:
            self._last = seen[-2:]
            return len(data)
        self._last = b""
        return (end + 3 if bare < 0 else bare + 2) - before


def _invalid(what: str) -> Rejected:
    return Rejected("upstream_invalid", f"The upstream's answer {what}.")
