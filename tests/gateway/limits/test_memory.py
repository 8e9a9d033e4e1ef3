"""Rates and quotas: exact to the moment, never above the limit, and no counter is anybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.memory import (
    Decision,
    Limit,
    Limiter,
    Quota,
    Rate,
    Standing,
    quotas_of,
    rate_of,
)
from gateway.model import Plan


class HandClock(Protocol):
    """What the fixture `clock` gives."""

    wall: float
    passed: float

    def now(self) -> float: ...
    def monotonic(self) -> float: ...
    def forward(self, seconds: float) -> None: ...


class Turned:
    """A clock for one example of hypothesis."""

    def __init__(self, at: str = "2026-01-15T12:00:00+00:00") -> None:
        self.passed = 0.0
        self.wall = datetime.fromisoformat(at).timestamp()

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.passed

    def forward(self, seconds: float) -> None:
        self.passed += seconds
        self.wall += seconds


def rate(limit: int, window_s: float = 60, burst: int | None = None, key: str = "r") -> Rate:
    return Rate("rate", key, limit, window_s, limit if burst is None else burst)


def quota(
    limit: int, period: Literal["day", "month"] = "day", zone: str = "UTC", key: str = "q"
) -> Quota:
    return Quota(period, key, limit, period, zone)


async def take(limiter: Limiter, limit: Limit, times: int = 1) -> list[Standing]:
    return [(await limiter.admit([limit])).standings[0] for _ in range(times)]


def admitted(standings: Sequence[Standing]) -> int:
    return sum(standing.admitted for standing in standings)


async def test_burst_is_admitted_at_once_and_the_next_waits_exactly_one_interval(
    clock: HandClock,
) -> None:
    limiter, limit = Limiter(clock), rate(60, burst=5)
    standings = await take(limiter, limit, 7)

    assert [standing.remaining for standing in standings] == [4, 3, 2, 1, 0, 0, 0]
    assert admitted(standings) == 5
    assert standings[5].retry_after_s == pytest.approx(1)
    assert standings[6].retry_after_s == pytest.approx(1)  # a refusal costs nothing


async def test_request_is_admitted_when_the_wait_is_over_and_not_before(clock: HandClock) -> None:
    limiter, limit = Limiter(clock), rate(7, window_s=60, burst=1)
    await take(limiter, limit)
    [refused] = await take(limiter, limit)

    clock.forward(refused.retry_after_s - 0.001)
    assert admitted(await take(limiter, limit, 3)) == 0
    clock.forward(0.001)
    assert admitted(await take(limiter, limit, 3)) == 1


async def test_idle_time_refills_the_burst_and_no_more(clock: HandClock) -> None:
    limiter, limit = Limiter(clock), rate(60, burst=5)
    await take(limiter, limit, 5)
    clock.forward(2.5)
    assert admitted(await take(limiter, limit, 9)) == 2
    clock.forward(100_000)
    assert admitted(await take(limiter, limit, 9)) == 5


@pytest.mark.parametrize("limit", [1, 3, 7, 100, 999])
async def test_whoever_keeps_to_the_rate_is_never_refused_and_gets_no_more(limit: int) -> None:
    clock = Turned()
    limiter, steady = Limiter(clock), rate(limit, burst=1)
    count = 0
    for _ in range(2000):
        count += admitted(await take(limiter, steady, 2))
        clock.forward(60 / limit)

    assert count == 2000


async def test_standing_tells_when_all_of_the_burst_is_back(clock: HandClock) -> None:
    limiter, limit = Limiter(clock), rate(60, burst=5)
    standings = await take(limiter, limit, 6)

    assert [standing.reset_s for standing in standings] == pytest.approx([1, 2, 3, 4, 5, 5])


STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 8)), min_size=1, max_size=30)


@given(st.integers(1, 50), st.integers(1, 20), st.floats(0.5, 100), STEPS)
def test_no_window_holds_more_than_the_limit_and_the_burst(
    limit: int, burst: int, window_s: float, steps: list[tuple[float, int]]
) -> None:
    async def run() -> None:
        clock = Turned()
        limiter, limited = Limiter(clock), rate(limit, window_s, burst)
        moments: list[float] = []
        for pause_s, demand in steps:
            clock.forward(pause_s)
            taken = admitted(await take(limiter, limited, demand))
            moments += [clock.passed] * taken
            if taken < demand:
                [refused] = await take(limiter, limited)
                for part in (0.9, 0.1) if refused.retry_after_s > 0.001 else (1.0,):
                    assert admitted(await take(limiter, limited)) == 0
                    clock.forward(refused.retry_after_s * part)
                assert admitted(await take(limiter, limited)) == 1
                moments.append(clock.passed)
        for index, begin in enumerate(moments):
            for count, end in enumerate(moments[index:], start=1):
                assert count <= burst + (end - begin) * limit / window_s + 1e-3

    asyncio.run(run())


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 10))
def test_demand_that_waits_as_told_gets_all_of_the_limit(
    limit: int, burst: int, windows: int
) -> None:
    async def run() -> int:
        clock, count = Turned(), 0
        limiter, limited = Limiter(clock), rate(limit, 10, burst)
        while clock.passed < windows * 10 - 0.001:
            [standing] = await take(limiter, limited)
            count += standing.admitted
            clock.forward(standing.retry_after_s)
        return count

    assert asyncio.run(run()) == burst + windows * limit - 1  # the next is due as the time ends


@pytest.mark.parametrize(
    "limit",
    [rate(0), rate(10, burst=0), quota(0), quota(0, "month")],
    ids=["rate", "burst", "day", "month"],
)
async def test_zero_means_zero(limit: Limit, clock: HandClock) -> None:
    limiter = Limiter(clock)
    for _ in range(3):
        [standing] = await take(limiter, limit)
        assert (standing.admitted, standing.remaining) == (False, 0)
        assert standing.retry_after_s > 0
        clock.forward(standing.retry_after_s)


async def test_decision_takes_of_all_limits_or_of_none(clock: HandClock) -> None:
    limiter = Limiter(clock)
    wide, narrow, daily = rate(10, key="a"), rate(2, key="b"), quota(5)
    decisions = [await limiter.admit([wide, narrow, daily]) for _ in range(4)]

    assert [decision.admitted for decision in decisions] == [True, True, False, False]
    assert decisions[2].refusing.limit is narrow
    assert (await take(limiter, wide))[0].remaining == 7
    assert (await take(limiter, daily))[0].remaining == 2


async def test_refusal_names_the_limit_with_the_longest_wait(clock: HandClock) -> None:
    limiter = Limiter(clock)
    decision: Decision = await limiter.admit([rate(0, 10, key="a"), quota(0), rate(0, 20, key="b")])

    assert decision.refusing.limit.policy == "day"
    assert decision.refusing.retry_after_s == max(s.retry_after_s for s in decision.standings)


async def test_limits_with_other_keys_do_not_share_a_counter(clock: HandClock) -> None:
    limiter = Limiter(clock)
    keys = ["a", "b", "a ", ""]

    assert [admitted(await take(limiter, rate(2, key=key), 3)) for key in keys] == [2] * 4
    assert [admitted(await take(limiter, quota(2, key=key), 3)) for key in keys] == [2] * 4


@pytest.mark.parametrize(
    ("period", "zone", "at", "ends"),
    [
        ("day", "UTC", "2026-01-15T00:00:00+00:00", "2026-01-16T00:00:00+00:00"),
        ("day", "UTC", "2026-01-15T23:59:59+00:00", "2026-01-16T00:00:00+00:00"),
        ("day", "Asia/Kolkata", "2026-01-15T18:29:59+00:00", "2026-01-15T18:30:00+00:00"),
        ("day", "Asia/Kolkata", "2026-01-15T18:30:00+00:00", "2026-01-16T18:30:00+00:00"),
        ("day", "Pacific/Kiritimati", "2026-01-15T11:00:00+00:00", "2026-01-16T10:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-03-28T23:30:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-03-29T21:59:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-10-24T22:00:00+00:00", "2026-10-25T23:00:00+00:00"),
        ("day", "Europe/Berlin", "2026-10-25T22:30:00+00:00", "2026-10-25T23:00:00+00:00"),
        ("day", "America/New_York", "2026-11-01T05:30:00+00:00", "2026-11-02T05:00:00+00:00"),
        ("day", "Africa/Cairo", "2026-04-23T20:00:00+00:00", "2026-04-23T22:00:00+00:00"),
        ("day", "Africa/Cairo", "2026-04-23T22:30:00+00:00", "2026-04-24T21:00:00+00:00"),
        ("month", "UTC", "2028-02-01T00:00:00+00:00", "2028-03-01T00:00:00+00:00"),
        ("month", "UTC", "2026-01-31T23:59:59+00:00", "2026-02-01T00:00:00+00:00"),
        ("month", "UTC", "2026-12-15T00:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("month", "UTC", "2026-05-31T12:00:00+00:00", "2026-06-01T00:00:00+00:00"),
        ("month", "Europe/Berlin", "2026-02-28T23:30:00+00:00", "2026-03-31T22:00:00+00:00"),
        ("month", "America/New_York", "2026-11-01T03:59:00+00:00", "2026-11-01T04:00:00+00:00"),
    ],
)  # fmt: skip
async def test_quota_lasts_to_the_end_of_its_calendar_period(
    period: Literal["day", "month"], zone: str, at: str, ends: str
) -> None:
    clock = Turned(at)
    limiter, limit = Limiter(clock), quota(2, period, zone)
    standings = await take(limiter, limit, 3)
    left_s = (datetime.fromisoformat(ends) - datetime.fromisoformat(at)).total_seconds()

    assert [standing.admitted for standing in standings] == [True, True, False]
    assert [standing.remaining for standing in standings] == [1, 0, 0]
    assert standings[2].retry_after_s == standings[2].reset_s == left_s
    clock.forward(left_s - 0.5)
    assert admitted(await take(limiter, limit)) == 0
    clock.forward(0.5)
    assert admitted(await take(limiter, limit, 3)) == 2


@given(
    st.integers(0, 3 * 365 * 24),
    st.sampled_from(["Europe/Berlin", "America/Havana", "Asia/Tehran", "Australia/Lord_Howe"]),
)
def test_quota_period_begins_at_local_midnight_whatever_the_day(hours: int, zone: str) -> None:
    clock = Turned("2025-06-01T00:30:00+00:00")
    clock.forward(hours * 3600)
    [standing] = asyncio.run(take(Limiter(clock), quota(1, "day", zone)))
    today = datetime.fromtimestamp(clock.wall, ZoneInfo(zone)).date()
    before, after = (
        datetime.fromtimestamp(clock.wall + standing.reset_s + shift, ZoneInfo(zone)).date()
        for shift in (-1, 0)
    )

    assert before == today
    assert (after - today).days == 1


async def test_unit_that_is_given_back_can_be_taken_again() -> None:
    clock = Turned()
    limiter, limits = Limiter(clock), [quota(2), quota(5, "month", key="m")]
    for _ in range(2):
        await limiter.admit(limits)
    await limiter.give_back(limits, clock.wall)

    assert [(await limiter.admit(limits)).admitted for _ in range(2)] == [True, False]


async def test_giving_back_what_was_not_taken_gives_nothing() -> None:
    clock = Turned()
    limiter, limit = Limiter(clock), quota(1)
    for _ in range(3):
        await limiter.give_back([limit], clock.wall)

    assert admitted(await take(limiter, limit, 3)) == 1


async def test_unit_of_yesterday_is_not_given_back_today() -> None:
    clock = Turned("2026-01-15T23:59:59+00:00")
    limiter, limit = Limiter(clock), quota(1)
    await take(limiter, limit)
    yesterday = clock.wall
    clock.forward(2)
    await take(limiter, limit)
    await limiter.give_back([limit], yesterday)

    assert admitted(await take(limiter, limit)) == 0


async def test_restored_use_counts_beside_what_was_taken_meanwhile() -> None:
    clock = Turned()
    limiter, limit = Limiter(clock), quota(10)
    await take(limiter, limit, 2)
    limiter.restore(limit, 7)

    assert [standing.admitted for standing in await take(limiter, limit, 2)] == [True, False]
    clock.forward(86_400)
    assert admitted(await take(limiter, limit, 20)) == 10


async def test_clock_that_steps_back_opens_no_limit() -> None:
    clock = Turned()
    limiter = Limiter(clock)
    limits: list[Limit] = [rate(2, 86_400, key="a"), quota(2)]
    for _ in range(2):
        await limiter.admit(limits)
    clock.wall -= 3600

    assert not (await limiter.admit(limits)).admitted


def test_places_are_as_many_as_allowed_and_come_back(clock: HandClock) -> None:
    limiter = Limiter(clock)

    assert [limiter.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert limiter.enter("b", 1)
    assert not limiter.enter("c", 0)
    limiter.leave("a")
    assert [limiter.enter("a", 2) for _ in range(2)] == [True, False]


async def test_counters_whose_time_has_passed_are_forgotten(clock: HandClock) -> None:
    limiter = Limiter(clock)
    for number in range(5000):
        await limiter.admit([rate(10, 1, key=f"{number}")])
        clock.forward(1)

    assert len(limiter._arrivals) < 100  # noqa: SLF001 - what is forgotten shows nowhere else


@pytest.mark.parametrize(
    ("changes", "limits"),
    [
        ({}, [("daily", 10_000), ("monthly", 100_000)]),
        ({"daily_quota": None}, [("monthly", 100_000)]),
        ({"daily_quota": 0, "monthly_quota": None}, [("daily", 0)]),
        ({"daily_quota": None, "monthly_quota": None}, []),
    ],
)
def test_plan_makes_its_quotas_each_with_a_counter(changes: Any, limits: list[Any]) -> None:
    quotas = quotas_of("who", Plan("p", "p", time_zone="Asia/Kolkata", **changes))

    assert [(made.policy, made.limit) for made in quotas] == limits
    assert len({made.key for made in quotas}) == len(quotas)
    assert all(made.time_zone == "Asia/Kolkata" for made in quotas)


def test_plan_makes_its_rate_with_a_burst_of_the_limit_unless_it_says_another() -> None:
    assert rate_of("who", Plan("p", "p", 7, 30)) == Rate("rate", "who", 7, 30, 7)
    assert rate_of("who", Plan("p", "p", 7, 30, burst_limit=2)) == Rate("rate", "who", 7, 30, 2)


async def test_counts_of_periods_that_are_over_are_forgotten(clock: HandClock) -> None:
    limiter = Limiter(clock)
    for number in range(50):
        await limiter.admit([Quota("daily", f"yesterday {number}", 5, "day", "UTC")])

    clock.forward(86_400)
    for number in range(50):
        await limiter.admit([Quota("daily", f"today {number}", 5, "day", "UTC")])

    held = limiter._counts["day"]  # noqa: SLF001 - memory is what this is about
    assert set(held) == {f"today {number}" for number in range(50)}


async def test_looking_takes_nothing_and_says_what_would_be(clock: HandClock) -> None:
    limiter = Limiter(clock)
    limits: list[Limit] = [rate(2), quota(2)]
    for _ in range(3):
        seen = await limiter.peek(limits)
        assert [standing.remaining for standing in seen.standings] == [1, 1]
    for _ in range(2):
        seen = await limiter.peek(limits)
        assert seen == await limiter.admit(limits)

    assert not (await limiter.peek(limits)).admitted


def test_places_that_are_taken_are_counted(clock: HandClock) -> None:
    limiter = Limiter(clock)
    assert limiter.inside("a") == 0
    limiter.enter("a", 2)
    assert (limiter.inside("a"), limiter.inside("b")) == (1, 0)
    limiter.leave("a")
    assert limiter.inside("a") == 0
