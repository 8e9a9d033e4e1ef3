"""Limits in the memory of one process.

A rate is GCRA (ATM Forum TM 4.0; also called a leaky bucket as a meter): one number per counter,
exact waiting times, no ban beyond them. A quota counts a calendar day or month.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway.clock import Clock
from gateway.limits.contract import (
    PLACE_WAIT_S,
    Concurrency,
    Decision,
    Lease,
    Limit,
    Quota,
    Rate,
    Standing,
)

_MODE: Final = "memory"
_MOST_COUNTERS: Final = 1_000_000
_FORGET_EVERY: Final = 16
_NOTHING: Final = (0.0, 0)
_EPSILON_S: Final = 1e-6


class _Window(NamedTuple):
    """A calendar period: when it begins and ends, in Unix seconds."""

    begins: float
    ends: float


class _Held(NamedTuple):
    """A lease: one place of each key."""

    inside: dict[str, int]
    keys: Sequence[str]

    def release(self) -> None:
        """Give the places back."""
        inside = self.inside
        for key in self.keys:
            if (count := inside[key]) > 1:
                inside[key] = count - 1
            else:
                del inside[key]


class MemoryLimits:
    """Decides at once. Everything is in memory, so one process must see all requests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrivals: OrderedDict[str, float] = OrderedDict()
        self._counts: dict[str, OrderedDict[str, tuple[float, int]]] = {
            "day": OrderedDict(),
            "month": OrderedDict(),
        }
        self._windows: dict[tuple[str, str], _Window] = {}
        self._inside: dict[str, int] = {}
        self._taken = 0

    async def decide(self, limits: Sequence[Limit], amount: int = 1) -> Decision:
        """Take of every limit, or of none when one of them has no room."""
        return self.decide_now(limits, amount)

    def decide_now(self, limits: Sequence[Limit], amount: int = 1) -> Decision:
        """What `decide` does; there is nothing to wait for."""
        now, wall = self._clock.monotonic(), self._clock.now()
        standings, admitted = self._standings(limits, amount, now, wall)
        lease = self._take(standings, amount, now, wall) if admitted else None
        return Decision(admitted, tuple(standings), _MODE, wall, lease)

    async def peek(self, limits: Sequence[Limit], amount: int = 1) -> Decision:
        """What `decide` would decide now; nothing is taken."""
        now, wall = self._clock.monotonic(), self._clock.now()
        standings, admitted = self._standings(limits, amount, now, wall)
        return Decision(admitted, tuple(standings), _MODE, wall)

    async def charge(self, limits: Sequence[Limit], amount: int, at: float) -> None:
        """Correct what a decision took at this moment, but for what a later period does not know."""
        now, wall = self._clock.monotonic(), self._clock.now()
        for limit in limits:
            if isinstance(limit, Rate):
                if amount > 0 and limit.limit > 0:
                    arrival = max(self._arrivals.get(limit.key, now), now)
                    self._arrivals[limit.key] = arrival + limit.window_s / limit.limit * amount
                    self._arrivals.move_to_end(limit.key)
            elif isinstance(limit, Quota) and at >= self._window(limit, wall).begins:
                self._correct(limit, amount, wall)

    def restore(self, quota: Quota, used: int) -> None:
        """Add what was used of a quota before this process began."""
        self._correct(quota, used, self._clock.now())

    def _standings(
        self, limits: Sequence[Limit], amount: int, now: float, wall: float
    ) -> tuple[list[Standing], bool]:
        """How each limit stands with this request, and whether all of them have room."""
        standings, admitted = [], True
        for limit in limits:
            if isinstance(limit, Rate):
                standing = self._rate(limit, amount, now)
            elif isinstance(limit, Quota):
                standing = self._quota(limit, amount, wall)
            else:
                standing = self._concurrency(limit)
            standings.append(standing)
            if not standing.admitted:
                admitted = False
        return standings, admitted

    def _rate(self, rate: Rate, amount: int, now: float) -> Standing:
        if rate.limit <= 0 or rate.burst <= 0:
            return Standing(rate, 0, rate.window_s, False, rate.window_s)
        interval = rate.window_s / rate.limit
        ahead = max(self._arrivals.get(rate.key, now) - now, 0.0)
        room = interval * rate.burst - ahead + _EPSILON_S
        needed = interval * amount
        if room >= needed:
            return Standing(rate, int(room / interval) - amount, ahead + needed, True, 0.0)
        left = max(int(room / interval), 0)
        wait_s = needed - room + _EPSILON_S if amount <= rate.burst else rate.window_s
        return Standing(rate, left, ahead, False, wait_s)

    def _quota(self, quota: Quota, amount: int, wall: float) -> Standing:
        window = self._window(quota, wall)
        counted_until, count = self._counts[quota.period].get(quota.key, _NOTHING)
        left = quota.limit - (count if counted_until == window.ends else 0)
        reset = window.ends - wall
        if left < amount:
            return Standing(quota, max(left, 0), reset, False, reset)
        return Standing(quota, left - amount, reset, True, 0.0)

    def _concurrency(self, limit: Concurrency) -> Standing:
        left = limit.limit - self._inside.get(limit.key, 0)
        if left <= 0:
            return Standing(limit, 0, 0.0, False, PLACE_WAIT_S)
        return Standing(limit, left - 1, 0.0, True, 0.0)

    def _take(
        self, standings: Sequence[Standing], amount: int, now: float, wall: float
    ) -> Lease | None:
        """Make what the standings say come true."""
        places: list[str] = []
        for standing in standings:
            limit = standing.limit
            if isinstance(limit, Rate):
                self._arrivals[limit.key] = now + standing.reset_s
                self._arrivals.move_to_end(limit.key)
                self._taken += 1
                if self._taken % _FORGET_EVERY == 0:
                    self._forget(now)
            elif isinstance(limit, Quota):
                ends = self._windows[limit.period, limit.time_zone].ends
                counts, used = self._counts[limit.period], limit.limit - standing.remaining
                if used == amount:
                    self._forget_counts(counts, limit.key, wall)
                counts[limit.key] = (ends, used)
            else:
                self._inside[limit.key] = self._inside.get(limit.key, 0) + 1
                places.append(limit.key)
        return _Held(self._inside, places) if places else None

    def _forget(self, now: float) -> None:
        """Drop rates whose time has passed: they say what a missing one says."""
        arrivals = self._arrivals
        for _ in range(2 * _FORGET_EVERY):
            oldest = next(iter(arrivals), None)
            if oldest is None or (arrivals[oldest] > now and len(arrivals) <= _MOST_COUNTERS):
                return
            del arrivals[oldest]

    @staticmethod
    def _forget_counts(counts: OrderedDict[str, tuple[float, int]], key: str, wall: float) -> None:
        """A new count comes last; the oldest, whose periods are over, go."""
        counts.pop(key, None)
        for _ in range(4):
            oldest = next(iter(counts), None)
            if oldest is None or counts[oldest][0] > wall:
                return
            del counts[oldest]

    def _correct(self, quota: Quota, further: int, wall: float) -> None:
        """Count more in the current period, or less, but never less than nothing."""
        counts, ends = self._counts[quota.period], self._window(quota, wall).ends
        counted_until, count = counts.get(quota.key, _NOTHING)
        if counted_until != ends or not count:
            self._forget_counts(counts, quota.key, wall)
            count = 0
        counts[quota.key] = (ends, max(count + further, 0))

    def _window(self, quota: Quota, wall: float) -> _Window:
        """The period that it is now."""
        known = self._windows.get((quota.period, quota.time_zone))
        if known is None or not known.begins <= wall < known.ends:
            known = self._windows[quota.period, quota.time_zone] = _calendar(quota, wall)
        return known


def _calendar(quota: Quota, wall: float) -> _Window:
    """The period of the calendar that a moment is in."""
    zone = ZoneInfo(quota.time_zone)
    first = datetime.fromtimestamp(wall, zone).date()
    if quota.period == "day":
        after = first + timedelta(days=1)
    else:
        first = first.replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
    return _Window(_midnight(first, zone), _midnight(after, zone))


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
