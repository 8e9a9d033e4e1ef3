"""Rates and quotas in the memory of one process.

A rate is GCRA (ATM Forum TM 4.0; also called a leaky bucket as a meter): one number per counter,
exact waiting times, no ban beyond them. A quota counts a calendar day or month. A decision over
several limits is all or nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from gateway.clock import Clock

if TYPE_CHECKING:
    from gateway.model import Plan

MODE: Final = "memory"
_MOST_COUNTERS: Final = 1_000_000
_FORGET_EVERY: Final = 16
_NOTHING: Final = (0.0, 0)
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

    @property
    def window_s(self) -> float:
        """The length of the period, nearly: months differ."""
        return 86_400 if self.period == "day" else 2_592_000


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


class Decision(NamedTuple):
    """What becomes of a request: admitted when every limit has room."""

    admitted: bool
    standings: tuple[Standing, ...]

    @property
    def refusing(self) -> Standing:
        """The limit with the longest wait, when not admitted."""
        return max(
            (standing for standing in self.standings if not standing.admitted),
            key=lambda standing: standing.retry_after_s,
        )


class _Window(NamedTuple):
    """A calendar period: when it begins and ends, in Unix seconds."""

    begins: float
    ends: float


class Limiter:
    """Decides and remembers. Everything is in memory, so one process must see all requests."""

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
        now = self._clock.monotonic()
        decision = self._decide(limits, now)
        if decision.admitted:
            for standing in decision.standings:
                self._take(standing, now)
        return decision

    async def peek(self, limits: Sequence[Limit]) -> Decision:
        """What `admit` would decide now; nothing is taken."""
        return self._decide(limits, self._clock.monotonic())

    def inside(self, key: str) -> int:
        """How many places of this key are taken."""
        return self._inside.get(key, 0)

    def _decide(self, limits: Sequence[Limit], now: float) -> Decision:
        wall = self._clock.now()
        standings: list[Standing] = []
        admitted = True
        for limit in limits:
            if isinstance(limit, Rate):
                standing = self._rate(limit, now)
            else:
                standing = self._quota(limit, wall)
            standings.append(standing)
            admitted = admitted and standing.admitted
        return Decision(admitted, tuple(standings))

    async def give_back(self, limits: Sequence[Quota], taken_at: float) -> None:
        """Return one unit of each quota, for a request that never reached its upstream.

        `taken_at` is Unix time: what was taken in a period that is over stays taken.
        """
        wall = self._clock.now()
        for quota in limits:
            if count := self._count(quota, wall):
                window = self._windows[quota.period, quota.time_zone]
                if taken_at >= window.begins:
                    self._counts[quota.period][quota.key] = (window.ends, count - 1)

    def restore(self, quota: Quota, used: int) -> None:
        """Add what was used of a quota before this process began, from usage records."""
        wall = self._clock.now()
        used += self._count(quota, wall)
        self._counts[quota.period][quota.key] = (self._ends(quota, wall), used)

    def _rate(self, rate: Rate, now: float) -> Standing:
        if rate.limit <= 0 or rate.burst <= 0:
            return Standing(rate, 0, rate.window_s, False, rate.window_s)
        interval = rate.window_s / rate.limit
        ahead = max(self._arrivals.get(rate.key, now) - now, 0.0)
        room = interval * rate.burst - ahead + _EPSILON_S
        if room < interval:
            return Standing(rate, 0, ahead, False, interval - room + _EPSILON_S)
        return Standing(rate, int(room / interval) - 1, ahead + interval, True, 0.0)

    def _quota(self, quota: Quota, wall: float) -> Standing:
        ends = self._ends(quota, wall)
        counted_until, count = self._counts[quota.period].get(quota.key, _NOTHING)
        left = quota.limit - (count if counted_until == ends else 0)
        reset = ends - wall
        if left <= 0:
            return Standing(quota, 0, reset, False, reset)
        return Standing(quota, left - 1, reset, True, 0.0)

    def _take(self, standing: Standing, now: float) -> None:
        """Make what a standing says come true."""
        limit = standing.limit
        if isinstance(limit, Rate):
            self._arrivals[limit.key] = now + standing.reset_s
            self._arrivals.move_to_end(limit.key)
            self._taken += 1
            if self._taken % _FORGET_EVERY == 0:
                self._forget(now)
        else:
            ends = self._windows[limit.period, limit.time_zone].ends
            counts, used = self._counts[limit.period], limit.limit - standing.remaining
            if used == 1:
                self._forget_counts(counts, limit.key, ends - standing.reset_s)
            counts[limit.key] = (ends, used)

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

    def _count(self, quota: Quota, wall: float) -> int:
        """How much of a quota is used in the current period."""
        ends, count = self._counts[quota.period].get(quota.key, _NOTHING)
        return count if ends == self._ends(quota, wall) else 0

    def _ends(self, quota: Quota, wall: float) -> float:
        known = self._windows.get((quota.period, quota.time_zone))
        if known is None or not known.begins <= wall < known.ends:
            known = self._windows[quota.period, quota.time_zone] = _calendar(quota, wall)
        return known.ends


def rate_of(who: str, plan: Plan) -> Rate:
    """The rate of a plan for one caller."""
    burst = plan.rate_limit if plan.burst_limit is None else plan.burst_limit
    return Rate("rate", who, plan.rate_limit, plan.rate_window_s, burst)


def quotas_of(who: str, plan: Plan) -> tuple[Quota, ...]:
    """The quotas of a plan for one caller; each has a counter of its own."""
    quotas = []
    if plan.daily_quota is not None:
        quotas.append(Quota("daily", f"day {who}", plan.daily_quota, "day", plan.time_zone))
    if plan.monthly_quota is not None:
        quotas.append(Quota("monthly", f"month {who}", plan.monthly_quota, "month", plan.time_zone))
    return tuple(quotas)


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
