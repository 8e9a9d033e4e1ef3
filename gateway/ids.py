"""Ids: UUIDv7 (RFC 9562 5.7), request ids, and base62 text, from a buffered random source."""

from __future__ import annotations

import os
import re
import time
import uuid
from typing import Final

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
_TRACEPARENT: Final = re.compile(
    r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
).fullmatch


class Random:
    """Random hexadecimal digits from the operating system, asked for 4 KiB at a time."""

    def __init__(self) -> None:
        self._block = ""
        self._used = 0
        self._ms = 0
        self._moment = ""

    def digits(self, count: int) -> str:
        """`count` digits that nobody had before."""
        start = self._used
        end = start + count
        if end > len(self._block):
            self._block = os.urandom(max(4096, count)).hex()
            start, end = 0, count
        self._used = end
        return self._block[start:end]

    def request_id(self) -> str:
        """A UUIDv7 as text: 48 bits of milliseconds, then random."""
        ms = time.time_ns() // 1_000_000
        if ms != self._ms:
            text = f"{ms:012x}"
            self._ms, self._moment = ms, f"{text[:8]}-{text[8:]}-7"
        random = self.digits(19)
        return f"{self._moment}{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:]}"

    def traceparent(self) -> str:
        """The beginning of a trace (W3C Trace Context): version, trace id, span id, not sampled."""
        random = self.digits(48)
        return f"00-{random[:32]}-{random[32:]}-00"


def is_request_id(text: str) -> bool:
    """True for a request id of the caller's that may be kept."""
    return _ACCEPTABLE(text) is not None


def is_traceparent(text: str) -> bool:
    """True for a well-formed version 00 `traceparent`."""
    return _TRACEPARENT(text) is not None


def uuid7() -> uuid.UUID:
    """A new UUIDv7, for the ids of objects."""
    return uuid.UUID(Random().request_id())


def base62(number: int, width: int) -> str:
    """A number as base62 text of a fixed width."""
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))
