"""The one place that asks the operating system what time it is, for logic that tests turn forward."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time in Unix seconds, and a monotonic time in seconds."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


def utc_now() -> datetime:
    """The wall time as an aware datetime."""
    return datetime.now(UTC)  # noqa: TID251 - this is the clock
