"""When a request may be sent once more, how long to wait before, and how much of that is too much.

Three questions, each of which can say no: can a second time do harm, is the outcome one that may
pass, and is there still time and budget for it?
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.exchange import RawHeaders
from gateway.upstream.window import Window

IDEMPOTENT: Final = frozenset(["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
"""Methods that may be repeated (RFC 9110 9.2.2)."""
_KEY: Final = "idempotency-key"
_MAY_PASS: Final = frozenset([502, 503, 504])
_TOO_MANY: Final = 429
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 2.0
_LEAST_PER_S: Final = 3


def may_repeat(*, was_sent: bool, is_whole: bool, method: str, has_key: bool) -> bool:
    """True when sending the request once more can't make the upstream do something twice.

    `is_whole` is False for a body that was passed on as it came: what is gone can't be sent again.
    `has_key` is True when the upstream gets the caller's Idempotency-Key.
    """
    return not was_sent or (is_whole and (method in IDEMPOTENT or has_key))


def has_key(given: Mapping[str, str], passed_on: RawHeaders) -> bool:
    """True when the caller gave an Idempotency-Key and the upstream gets that very one."""
    key = given.get(_KEY, "").encode("utf-8", "surrogateescape")
    return bool(key) and [v for n, v in passed_on if n.lower() == _KEY.encode()] == [key]


def may_pass(status: int, told_s: float | None) -> bool:
    """True for an answer that a second try may better. `told_s` is what its Retry-After says."""
    if told_s is not None and told_s > _LONGEST_WAIT_S:
        return False
    return status in _MAY_PASS or (status == _TOO_MANY and told_s is not None)


def backoff_s(retry: int, chance: float) -> float:
    """How long to wait before the first, second … retry: exponential with full jitter.

    `chance` is evenly spread from 0 to 1.
    """
    return chance * min(_FIRST_WAIT_S * 2.0 ** (retry - 1), _LONGEST_WAIT_S)


def retry_after_s(headers: RawHeaders, wall: float) -> float | None:
    """What an answer's Retry-After says, in seconds from now (RFC 9110 10.2.3).

    None when there is none, or one that isn't of that form. `wall` is Unix time.
    """
    for name, value in headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            is_count = text.isascii() and text.isdigit()
            return float(text) if is_count else _seconds_to(text, wall)
    return None


def _seconds_to(date: str, wall: float) -> float | None:
    try:
        when = parsedate_to_datetime(date)
    except ValueError:
        return None
    if when.tzinfo is None:  # "-0000", which RFC 5322 has for UTC told by who knows no zone
        when = when.replace(tzinfo=UTC)
    return max(when.timestamp() - wall, 0.0)


class Budget:
    """How many retries one connector may have: a share of its requests, or a few a second."""

    __slots__ = ("_least", "_share", "_window")

    def __init__(self, percent: float, window_s: float) -> None:
        self._share = percent / 100
        self._least = _LEAST_PER_S * window_s
        self._window = Window(window_s)

    def take(self, attempts: int, now: float) -> bool:
        """Allow one retry. `attempts` ended within the window, earlier retries among them."""
        retries, _ = self._window.counts(now)
        if retries >= max((attempts - retries) * self._share, self._least):
            return False
        self._window.add(now)
        return True
