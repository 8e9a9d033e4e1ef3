"""What was used when is enough for the periods of any time zone, and does not grow."""

from __future__ import annotations

from datetime import datetime
from itertools import cycle, islice
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.calendar import window_of
from gateway.limits.counts import Counts

ZONES = ["UTC", "Asia/Kolkata", "Pacific/Kiritimati", "Pacific/Niue", "America/Havana", "Atlantic/Azores"]  # fmt: skip
BEGAN = datetime.fromisoformat("2026-01-05T00:00Z").timestamp()


@given(
    st.lists(st.integers(60, 20_000), min_size=1, max_size=30),
    st.sampled_from(ZONES),
    st.sampled_from(["day", "month"]),
)
def test_every_period_of_every_zone_is_counted_exactly(
    pauses: list[int], zone: str, period: Literal["day", "month"]
) -> None:
    counts, moments, now = Counts(), [], BEGAN
    for pause in islice(cycle(pauses), 900):
        now += pause
        counts.add(1, now)
        moments.append(now)
    window = window_of(period, zone, now)

    assert counts.within(window) == sum(window.begins <= at for at in moments)


def test_what_is_kept_of_a_busy_caller_is_bounded() -> None:
    counts = Counts()
    for quarter in range(120 * 96):
        counts.add(3, BEGAN + quarter * 900)

    assert len(counts._quarters) < 600  # noqa: SLF001 - memory is what this is about
    month = window_of("month", "UTC", BEGAN + 120 * 86_400 - 1)
    assert counts.within(month) == 3 * (BEGAN + 120 * 86_400 - month.begins) / 900


def test_nothing_is_given_back_that_was_not_used() -> None:
    counts = Counts()
    counts.add(2, BEGAN)
    for _ in range(3):
        counts.add(-1, BEGAN + 900)
        counts.add(-1, BEGAN - 900)

    assert counts.within(window_of("day", "UTC", BEGAN)) == 2


def test_use_is_counted_when_it_was_though_the_clock_was_set_back() -> None:
    counts = Counts()
    counts.add(5, BEGAN + 3600)
    counts.add(2, BEGAN - 3600)

    assert counts.within(window_of("day", "UTC", BEGAN)) == 5
    assert counts.within(window_of("day", "UTC", BEGAN - 1)) == 7  # the day does not begin anew
    assert counts.within(window_of("day", "UTC", BEGAN - 90_000)) == 2
    assert Counts().newest == 0
