"""Days and months of a time zone begin once, whatever becomes of midnight."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.calendar import window_of

ODD_ZONES = [
    "America/Havana", "Atlantic/Azores", "America/Santiago", "Africa/Cairo", "Asia/Beirut",
    "America/Scoresbysund", "America/Nuuk", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Kathmandu",
]  # fmt: skip


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("zone", "at", "begins", "ends"),
    [
        # midnight does not exist
        ("America/Havana", "2026-03-08T12:00Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z"),
        ("America/Havana", "2026-03-08T04:59Z", "2026-03-07T05:00Z", "2026-03-08T05:00Z"),
        ("Atlantic/Azores", "2026-03-29T00:59Z", "2026-03-28T01:00Z", "2026-03-29T01:00Z"),
        # midnight exists twice
        ("America/Havana", "2026-11-01T04:30Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
        ("America/Havana", "2026-11-01T05:30Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
        ("Atlantic/Azores", "2026-10-25T00:30Z", "2026-10-25T00:00Z", "2026-10-26T01:00Z"),
        ("Atlantic/Azores", "2026-10-25T01:30Z", "2026-10-25T00:00Z", "2026-10-26T01:00Z"),
        # the clock is set forward over midnight, or back over it
        ("America/Toronto", "1919-03-31T04:45Z", "1919-03-31T04:30Z", "1919-04-01T04:00Z"),
        ("America/Toronto", "2000-03-31T12:45Z", "2000-03-31T05:00Z", "2000-04-01T05:00Z"),
        ("America/St_Johns", "2006-10-29T02:45Z", "2006-10-29T02:30Z", "2006-10-30T03:30Z"),
        # a day that never was
        ("Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z"),
        ("Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
    ],
)  # fmt: skip
def test_day_begins_at_its_first_moment(zone: str, at: str, begins: str, ends: str) -> None:
    assert window_of("day", zone, seconds(at)) == (seconds(begins), seconds(ends))


@given(
    st.sampled_from(ODD_ZONES), st.integers(0, 4 * 366 * 24 * 4), st.sampled_from(["day", "month"])
)
def test_periods_follow_each_other_without_a_gap(zone: str, quarters: int, period: str) -> None:
    at = seconds("2025-01-01T00:00Z") + quarters * 900
    window = window_of(period, zone, at)  # type: ignore[arg-type] # one of two words

    assert window.begins <= at < window.ends
    assert window_of(period, zone, window.ends).begins == window.ends  # type: ignore[arg-type] # as above
    assert window_of(period, zone, window.begins) == window  # type: ignore[arg-type] # as above
    before = datetime.fromtimestamp(window.begins - 1, ZoneInfo(zone)).date()
    assert before < datetime.fromtimestamp(window.begins, ZoneInfo(zone)).date()
    assert window.begins % 900 == 0
