"""How much was used when, in quarters of an hour: enough to count any calendar period of any time zone.

Time zones differ from UTC by whole quarters of an hour, and a month begins within fifteen hours of
that of UTC. So quarters are kept of the last two days and around the beginnings of months; what lies
between is one number for each month.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from typing import Final

from gateway.limits.calendar import Window

_QUARTER_S: Final = 900
_KEPT_S: Final = 63 * 86_400
"""A month and the one before, should the clock step back into it."""
_FINE_S: Final = 50 * 3600
_SET_BACK_S: Final = 86_400
_ZONES_S: Final = 15 * 3600
_MOST_QUARTERS: Final = 512


class Counts:
    """What was used of one quota, by quarters of an hour of Unix time."""

    __slots__ = ("_before", "_quarters", "_totals", "_window")

    def __init__(self) -> None:
        self._quarters = array("q")
        self._totals = array("q")
        self._window: Window | None = None
        """The period that was asked for last, as long as what was counted before it does not change."""
        self._before = 0

    @property
    def newest(self) -> int:
        """When the latest quarter began that anything was counted in."""
        return self._quarters[-1] if self._quarters else 0

    def add(self, amount: int, at: float) -> None:
        """Count more at a moment, or less, but never less than nothing."""
        quarters, totals = self._quarters, self._totals
        if quarters and amount > 0 and 0 <= at - quarters[-1] < _QUARTER_S:
            totals[-1] += amount
            return
        self._window = None
        if len(quarters) > _MOST_QUARTERS:
            self._fold(at)
            quarters, totals = self._quarters, self._totals
        quarter = int(at // _QUARTER_S) * _QUARTER_S
        if not quarters or quarters[-1] < quarter:
            quarters.append(quarter)
            totals.append(totals[-1] if totals else 0)
        index = bisect_left(quarters, quarter)
        if quarters[index] != quarter:  # the clock was set back
            quarters.insert(index, quarter)
            totals.insert(index, totals[index - 1] if index else 0)
        amount = max(amount, (totals[index - 1] if index else 0) - totals[index])
        for later in range(index, len(totals)):
            totals[later] += amount

    def within(self, window: Window) -> int:
        """How much was used in a period.

        What is counted for the day after it counts, too: the clock was set back since, and that must
        not begin a period anew.
        """
        quarters, totals = self._quarters, self._totals
        if window is self._window:
            return totals[-1] - self._before
        if not quarters or quarters[-1] < window.begins:
            return 0
        ends = window.ends + _SET_BACK_S
        first = bisect_left(quarters, window.begins)
        before = totals[first - 1] if first else 0
        if quarters[-1] < ends:
            self._window, self._before = window, before
            return totals[-1] - before
        last = bisect_left(quarters, ends)
        return totals[last - 1] - before if first < last else 0

    def _fold(self, now: float) -> None:
        """Forget what is older than any period, and make one number of what lies amid a month."""
        quarters, totals = array("q"), array("q")
        oldest = bisect_right(self._quarters, now - _KEPT_S)
        before, amid = (self._totals[oldest - 1] if oldest else 0), None
        for quarter, total in zip(self._quarters[oldest:], self._totals[oldest:], strict=True):
            month = None if quarter > now - _FINE_S else _amid(quarter)
            if month is not None and month == amid:
                totals[-1] = total - before
            else:
                quarters.append(quarter)
                totals.append(total - before)
            amid = month
        self._quarters, self._totals = quarters, totals


def _amid(quarter: int) -> int | None:
    """The month that a moment is in wherever one is; None where it depends on the time zone."""
    months = {_month(quarter - _ZONES_S), _month(quarter + _ZONES_S)}
    return months.pop() if len(months) == 1 else None


def _month(at: int) -> int:
    day = datetime.fromtimestamp(at, UTC)
    return day.year * 12 + day.month
