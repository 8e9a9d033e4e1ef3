"""Calendar periods of time zones, whatever daylight saving does to their midnights."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

Period = Literal["day", "month"]


class Window(NamedTuple):
    """A calendar period: when it begins and ends, in Unix seconds."""

    begins: float
    ends: float


def window_of(period: Period, time_zone: str, at: float) -> Window:
    """The period that a moment is in."""
    zone = ZoneInfo(time_zone)
    first = datetime.fromtimestamp(at, zone).date()
    window = _from(period, first, zone)
    if at >= window.ends:  # the clock was set back over midnight: the day has begun before
        window = _from(period, first + timedelta(days=1), zone)
    return window


def _from(period: Period, first: date, zone: ZoneInfo) -> Window:
    if period == "day":
        after = first + timedelta(days=1)
    else:
        first = first.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    return Window(_beginning(first, zone), _beginning(after, zone))


def _beginning(day: date, zone: ZoneInfo) -> float:
    """The first moment of a day: its midnight, the earlier one of two, or what comes in its place."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    latest = int(midnight.timestamp())
    earliest = int(midnight.replace(fold=1).timestamp())
    while earliest < latest:  # there is no midnight: the clock is set forward over it
        middle = (earliest + latest) // 2
        if datetime.fromtimestamp(middle, zone).date() < day:
            earliest = middle + 1
        else:
            latest = middle
    return float(latest)
