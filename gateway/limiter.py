"""Rates and quotas in the memory of one process.

A rate is GCRA (ATM Forum TM 4.0; also called a leaky bucket as a meter): one number per counter,
exact waiting times, no ban beyond them. A quota counts a calendar day or month. A decision over
several limits is all or nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from gateway.clock import Clock
from gateway.model import Plan

MODE: Final = "memory"
_MOST_COUNTERS: Final = 1_000_000
_EPSILON_S: Final = 1e-6


class Rate(NamedTuple):
    """At most `limit` requests per `window_s`, of which `burst` may come at once."""

    policy: str
    key: str
    limit: int
    window_s: float
    burst: int


class Quota(NamedTuple):
    """At most `limit` requests in each calendar period of a time zone."""

    policy: str
    key: str
    limit: int
    period: Literal["day", "month"]
    time_zone: str


Limit = Rate | Quota


class Standing(NamedTuple):
    """Where a caller stands with one limit when a request was decided.

    `remaining` counts this request as taken when `admitted`. Times in seconds from now.
    """

    limit: Limit
    remaining: int
    reset_s: float
    admitted: bool
    retry_after_s: float

    @property
    def window_s(self) -> float:
        """The length of the limit's window, for `RateLimit-Policy`."""
        if isinstance(self.limit, Rate):
            return self.limit.window_s
        return 86_400 if self.limit.period == "day" else 2_592_000


class Decision(NamedTuple):
    """What becomes of a request: admitted when every limit has room."""

    admitted: bool
    standings: list[Standing]

    @property
    def refusing(self) -> Standing:
        """The limit with the longest wait, when not admitted."""
        return max(
            (standing for standing in self.standings if not standing.admitted),
            key=lambda standing: standing.retry_after_s,
        )


class _Window(NamedTuple):
    """A calendar period: what it is called, and when it ends (Unix seconds)."""

    name: str
    ends: float


class Limiter:
    """Decides and remembers. Everything is in memory, so one process must see all requests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrivals: OrderedDict[str, float] = OrderedDict()
        self._counts: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._windows: dict[tuple[str, str], _Window] = {}
        self._inside: dict[str, int] = {}

    def enter(self, key: str, most: int) -> bool:
        """Take one of `most` places; False when they are all taken. `leave` gives it back."""
        inside = self._inside.get(key, 0)
        if inside >= most:
            return False
        self._inside[key] = inside + 1
        return True

    def leave(self, key: str) -> None:
        """Give a place back."""
        if (inside := self._inside[key]) > 1:
            self._inside[key] = inside - 1
        else:
            del self._inside[key]

    async def admit(self, limits: Sequence[Limit]) -> Decision:
        """Take one unit of every limit, or of none when one of them has no room."""
        now, wall = self._clock.monotonic(), self._clock.now()
        standings = [self._look(limit, now, wall) for limit in limits]
        admitted = all(standing.admitted for standing in standings)
        if admitted:
            for limit in limits:
                self._take(limit, now, wall)
        return Decision(admitted, standings)

    async def give_back(self, limits: Sequence[Quota]) -> None:
        """Return one unit of each quota, for a request that never reached its upstream."""
        wall = self._clock.now()
        for quota in limits:
            window = self._window(quota, wall)
            name, count = self._counts.get(quota.key, (window.name, 0))
            if name == window.name and count > 0:
                self._counts[quota.key] = (name, count - 1)

    def restore(self, quota: Quota, used: int) -> None:
        """Add what was used of a quota before this process began, from usage records."""
        window = self._window(quota, self._clock.now())
        name, count = self._counts.get(quota.key, (window.name, 0))
        self._counts[quota.key] = (window.name, used + (count if name == window.name else 0))

    def _look(self, limit: Limit, now: float, wall: float) -> Standing:
        return self._rate(limit, now) if isinstance(limit, Rate) else self._quota(limit, wall)

    def _rate(self, rate: Rate, now: float) -> Standing:
        if rate.limit <= 0:
            return Standing(rate, 0, rate.window_s, False, rate.window_s)
        interval = rate.window_s / rate.limit
        tolerance = interval * rate.burst
        arrival = max(self._arrivals.get(rate.key, now), now)
        room = tolerance - (arrival - now)
        if room + _EPSILON_S < interval:
            return Standing(rate, 0, arrival - now, False, interval - room)
        remaining = int((room + _EPSILON_S) / interval) - 1
        return Standing(rate, remaining, arrival - now + interval, True, 0.0)

    def _quota(self, quota: Quota, wall: float) -> Standing:
        window = self._window(quota, wall)
        name, count = self._counts.get(quota.key, (window.name, 0))
        left = quota.limit - (count if name == window.name else 0)
        reset = window.ends - wall
        return Standing(quota, max(left - 1, 0), reset, left > 0, 0.0 if left > 0 else reset)

    def _take(self, limit: Limit, now: float, wall: float) -> None:
        if isinstance(limit, Rate):
            arrival = max(self._arrivals.get(limit.key, now), now)
            self._arrivals[limit.key] = arrival + limit.window_s / limit.limit
            self._arrivals.move_to_end(limit.key)
            self._forget(now)
            return
        window = self._window(limit, wall)
        name, count = self._counts.get(limit.key, (window.name, 0))
        self._counts[limit.key] = (window.name, count + 1 if name == window.name else 1)

    def _forget(self, now: float) -> None:
        """Drop counters whose time has passed: they say what a missing one says."""
        arrivals = self._arrivals
        for _ in range(2):
            oldest = next(iter(arrivals))
            if arrivals[oldest] > now and len(arrivals) <= _MOST_COUNTERS:
                return
            del arrivals[oldest]
            if not arrivals:
                return

    def _window(self, quota: Quota, wall: float) -> _Window:
        known = self._windows.get((quota.period, quota.time_zone))
        if known is None or wall >= known.ends or wall < known.ends - 32 * 86_400:
            known = self._windows[quota.period, quota.time_zone] = _calendar(quota, wall)
        return known


def quotas_of(team: str, kind: str, caller_id: str, plan: Plan) -> list[Quota]:
    """The quotas of a plan for one caller; each has a counter of its own."""
    quotas = []
    who = f"{team} {kind} {caller_id}"
    if plan.daily_quota is not None:
        quotas.append(Quota("daily", f"day {who}", plan.daily_quota, "day", plan.time_zone))
    if plan.monthly_quota is not None:
        quotas.append(Quota("monthly", f"month {who}", plan.monthly_quota, "month", plan.time_zone))
    return quotas


def _calendar(quota: Quota, wall: float) -> _Window:
    """The period of the calendar that a moment is in."""
    zone = ZoneInfo(quota.time_zone)
    local = datetime.fromtimestamp(wall, zone)
    start = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if quota.period == "day":
        tomorrow = start.date() + timedelta(days=1)
        ends = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone)
        return _Window(start.strftime("%Y-%m-%d"), ends.timestamp())
    year, month = (start.year + 1, 1) if start.month == 12 else (start.year, start.month + 1)
    return _Window(start.strftime("%Y-%m"), datetime(year, month, 1, tzinfo=zone).timestamp())
