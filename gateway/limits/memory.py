"""Limits in the memory of one process.

A rate is GCRA (gcra.py): exact waiting times, no ban beyond them. A quota counts a calendar day or
month (counts.py). Kept is what was used, and it is read under the limits of today: who edits a plan, or
moves a key to another one, begins nothing anew and leaves nobody waiting for what was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from typing import Final, NamedTuple

from gateway.clock import Clock
from gateway.limits import gcra
from gateway.limits.calendar import Window, window_of
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
from gateway.limits.counts import Counts

_MODE: Final = "memory"
_MOST_COUNTERS: Final = 1_000_000
_FORGET_EVERY: Final = 16
_RATE_KEPT_S: Final = 3600.0
"""How long a rate is kept that is worked off: under the limit of tomorrow it may not be."""
_COUNTS_KEPT_S: Final = {"day": 2 * 86_400, "month": 63 * 86_400}
_EPSILON_S: Final = 1e-6


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
        self._rates: OrderedDict[str, gcra.Taken] = OrderedDict()
        self._counts: dict[str, OrderedDict[str, Counts]] = {
            "day": OrderedDict(),
            "month": OrderedDict(),
        }
        self._windows: dict[tuple[str, str], Window] = {}
        self._inside: dict[str, int] = {}
        self._decided = 0

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
        """Correct what a decision took at this moment."""
        now = self._clock.monotonic()
        for limit in limits:
            if isinstance(limit, Rate):
                if amount > 0 and limit.limit > 0:
                    self._rates[limit.key] = self._taken(limit, now).further(amount, now)
                    self._rates.move_to_end(limit.key)
            elif isinstance(limit, Quota):
                self._counts_of(limit).add(amount, at)

    def restore(self, quota: Quota, used: int, at: float | None = None) -> None:
        """Add what was used of a quota, at a moment before this process began, or now."""
        self._counts_of(quota).add(used, self._clock.now() if at is None else at)

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
        ahead = self._taken(rate, now).ahead_s(now)
        room = interval * rate.burst - ahead + _EPSILON_S
        needed = interval * amount
        if room >= needed:
            return Standing(rate, int(room / interval) - amount, ahead + needed, True, 0.0)
        left = max(int(room / interval), 0)
        wait_s = needed - room + _EPSILON_S if amount <= rate.burst else rate.window_s
        return Standing(rate, left, ahead, False, wait_s)

    def _quota(self, quota: Quota, amount: int, wall: float) -> Standing:
        window = self._window(quota, wall)
        counts = self._counts[quota.period].get(quota.key)
        left = quota.limit - (0 if counts is None else counts.within(window))
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
                self._rates[limit.key] = self._taken(limit, now).until(standing.reset_s, now)
                self._rates.move_to_end(limit.key)
                self._decided += 1
                if self._decided % _FORGET_EVERY == 0:
                    self._forget(now)
            elif isinstance(limit, Quota):
                self._counts_of(limit).add(amount, wall)
            else:
                self._inside[limit.key] = self._inside.get(limit.key, 0) + 1
                places.append(limit.key)
        return _Held(self._inside, places) if places else None

    def _taken(self, rate: Rate, now: float) -> gcra.Taken:
        """What was taken of a rate, under the limit of today."""
        taken = self._rates.get(rate.key)
        return gcra.never(rate, now) if taken is None else taken.under(rate)

    def _forget(self, now: float) -> None:
        """Drop rates whose time has long passed: they say what a missing one says."""
        rates = self._rates
        for _ in range(2 * _FORGET_EVERY):
            oldest = next(iter(rates.values()), None)
            if oldest is None or (
                len(rates) <= _MOST_COUNTERS
                and (now < oldest.at + _RATE_KEPT_S or oldest.ahead_s(now) > 0)
            ):
                return
            rates.popitem(last=False)

    def _counts_of(self, quota: Quota) -> Counts:
        """What was used of a quota; for a new one some of the oldest are looked at, and go."""
        kept = self._counts[quota.period]
        if (counts := kept.get(quota.key)) is None:
            over = self._clock.now() - _COUNTS_KEPT_S[quota.period]
            for key in list(islice(kept, 4)):
                if kept[key].newest < over:
                    del kept[key]
                else:
                    kept.move_to_end(key)
            counts = kept[quota.key] = Counts()
        return counts

    def _window(self, quota: Quota, wall: float) -> Window:
        """The period that it is now."""
        known = self._windows.get((quota.period, quota.time_zone))
        if known is None or not known.begins <= wall < known.ends:
            known = self._windows[quota.period, quota.time_zone] = window_of(
                quota.period, quota.time_zone, wall
            )
        return known
