"""The machine's clock: the right units, and a monotonic time that is one."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from gateway.clock import Clock, SystemClock, utc_now


def test_system_clock_gives_unix_seconds_and_a_time_that_only_grows() -> None:
    clock: Clock = SystemClock()
    readings = [clock.monotonic() for _ in range(100)]

    assert abs(clock.now() - time.time()) < 5
    assert readings == sorted(readings)


def test_moment_knows_its_zone() -> None:
    now = utc_now()

    assert now.utcoffset() == timedelta(0)
    assert abs((datetime.fromtimestamp(time.time(), UTC) - now).total_seconds()) < 5
