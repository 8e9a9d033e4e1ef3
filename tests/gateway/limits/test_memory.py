"""Rates, quotas and places: exact to the moment, never above the limit, no counter is anybody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.contract import (
    Concurrency,
    Decision,
    Limit,
    Quota,
    Rate,
    Standing,
)
from gateway.limits.memory import MemoryLimits


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


async def take(memory: MemoryLimits, limit: Limit, times: int = 1) -> list[Standing]:
    return [(await memory.decide([limit])).standings[0] for _ in range(times)]


def admitted(standings: Sequence[Standing]) -> int:
    return sum(standing.admitted for standing in standings)


async def test_burst_is_admitted_at_once_and_the_next_waits_exactly_one_interval(
    clock: HandClock,
) -> None:
    memory, limit = MemoryLimits(clock), rate(60, burst=5)
    standings = await take(memory, limit, 7)

    assert [standing.remaining for standing in standings] == [4, 3, 2, 1, 0, 0, 0]
    assert admitted(standings) == 5
    assert standings[5].retry_after_s == pytest.approx(1)
    assert standings[6].retry_after_s == pytest.approx(1)  # a refusal costs nothing


async def test_request_is_admitted_when_the_wait_is_over_and_not_before(clock: HandClock) -> None:
    memory, limit = MemoryLimits(clock), rate(7, window_s=60, burst=1)
    await take(memory, limit)
    [refused] = await take(memory, limit)

    clock.forward(refused.retry_after_s - 0.001)
    assert admitted(await take(memory, limit, 3)) == 0
    clock.forward(0.001)
    assert admitted(await take(memory, limit, 3)) == 1


async def test_idle_time_refills_the_burst_and_no_more(clock: HandClock) -> None:
    memory, limit = MemoryLimits(clock), rate(60, burst=5)
    await take(memory, limit, 5)
    clock.forward(2.5)
    assert admitted(await take(memory, limit, 9)) == 2
    clock.forward(100_000)
    assert admitted(await take(memory, limit, 9)) == 5


@pytest.mark.parametrize("limit", [1, 3, 7, 100, 999])
async def test_whoever_keeps_to_the_rate_is_never_refused_and_gets_no_more(limit: int) -> None:
    clock = Turned()
    memory, steady = MemoryLimits(clock), rate(limit, burst=1)
    count = 0
    for _ in range(2000):
        count += admitted(await take(memory, steady, 2))
        clock.forward(60 / limit)

    assert count == 2000


async def test_standing_tells_when_all_of_the_burst_is_back(clock: HandClock) -> None:
    memory, limit = MemoryLimits(clock), rate(60, burst=5)
    standings = await take(memory, limit, 6)

    assert [standing.reset_s for standing in standings] == pytest.approx([1, 2, 3, 4, 5, 5])


STEPS = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 8)), min_size=1, max_size=30)


@given(st.integers(1, 50), st.integers(1, 20), st.floats(0.5, 100), STEPS)
def test_no_window_holds_more_than_the_limit_and_the_burst(
    limit: int, burst: int, window_s: float, steps: list[tuple[float, int]]
) -> None:
    async def run() -> None:
        clock = Turned()
        memory, limited = MemoryLimits(clock), rate(limit, window_s, burst)
        moments: list[float] = []
        for pause_s, demand in steps:
            clock.forward(pause_s)
            taken = admitted(await take(memory, limited, demand))
            moments += [clock.passed] * taken
            if taken < demand:
                [refused] = await take(memory, limited)
                for part in (0.9, 0.1) if refused.retry_after_s > 0.001 else (1.0,):
                    assert admitted(await take(memory, limited)) == 0
                    clock.forward(refused.retry_after_s * part)
                assert admitted(await take(memory, limited)) == 1
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
        memory, limited = MemoryLimits(clock), rate(limit, 10, burst)
        while clock.passed < windows * 10 - 0.001:
            [standing] = await take(memory, limited)
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
    memory = MemoryLimits(clock)
    for _ in range(3):
        [standing] = await take(memory, limit)
        assert (standing.admitted, standing.remaining) == (False, 0)
        assert standing.retry_after_s > 0
        clock.forward(standing.retry_after_s)


async def test_decision_takes_of_all_limits_or_of_none(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    wide, narrow, daily = rate(10, key="a"), rate(2, key="b"), quota(5)
    decisions = [await memory.decide([wide, narrow, daily]) for _ in range(4)]

    assert [decision.admitted for decision in decisions] == [True, True, False, False]
    assert decisions[2].refusing.limit is narrow
    assert (await take(memory, wide))[0].remaining == 7
    assert (await take(memory, daily))[0].remaining == 2


async def test_refusal_names_the_limit_with_the_longest_wait(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    decision: Decision = await memory.decide([rate(0, 10, key="a"), quota(0), rate(0, 20, key="b")])

    assert decision.refusing.limit.policy == "day"
    assert decision.refusing.retry_after_s == max(s.retry_after_s for s in decision.standings)


async def test_limits_with_other_keys_do_not_share_a_counter(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    keys = ["a", "b", "a ", ""]

    assert [admitted(await take(memory, rate(2, key=key), 3)) for key in keys] == [2] * 4
    assert [admitted(await take(memory, quota(2, key=key), 3)) for key in keys] == [2] * 4


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
    memory, limit = MemoryLimits(clock), quota(2, period, zone)
    standings = await take(memory, limit, 3)
    left_s = (datetime.fromisoformat(ends) - datetime.fromisoformat(at)).total_seconds()

    assert [standing.admitted for standing in standings] == [True, True, False]
    assert [standing.remaining for standing in standings] == [1, 0, 0]
    assert standings[2].retry_after_s == standings[2].reset_s == left_s
    clock.forward(left_s - 0.5)
    assert admitted(await take(memory, limit)) == 0
    clock.forward(0.5)
    assert admitted(await take(memory, limit, 3)) == 2


@given(
    st.integers(0, 3 * 365 * 24),
    st.sampled_from(["Europe/Berlin", "America/Havana", "Asia/Tehran", "Australia/Lord_Howe"]),
)
def test_quota_period_begins_at_local_midnight_whatever_the_day(hours: int, zone: str) -> None:
    clock = Turned("2025-06-01T00:30:00+00:00")
    clock.forward(hours * 3600)
    [standing] = asyncio.run(take(MemoryLimits(clock), quota(1, "day", zone)))
    today = datetime.fromtimestamp(clock.wall, ZoneInfo(zone)).date()
    before, after = (
        datetime.fromtimestamp(clock.wall + standing.reset_s + shift, ZoneInfo(zone)).date()
        for shift in (-1, 0)
    )

    assert before == today
    assert (after - today).days == 1


async def test_unit_that_is_given_back_can_be_taken_again() -> None:
    clock = Turned()
    memory, limits = MemoryLimits(clock), [quota(2), quota(5, "month", key="m")]
    for _ in range(2):
        await memory.decide(limits)
    await memory.charge(limits, -1, clock.wall)

    assert [(await memory.decide(limits)).admitted for _ in range(2)] == [True, False]


async def test_giving_back_what_was_not_taken_gives_nothing() -> None:
    clock = Turned()
    memory, limit = MemoryLimits(clock), quota(1)
    for _ in range(3):
        await memory.charge([limit], -1, clock.wall)

    assert admitted(await take(memory, limit, 3)) == 1


async def test_unit_of_yesterday_is_not_given_back_today() -> None:
    clock = Turned("2026-01-15T23:59:59+00:00")
    memory, limit = MemoryLimits(clock), quota(1)
    await take(memory, limit)
    yesterday = clock.wall
    clock.forward(2)
    await take(memory, limit)
    await memory.charge([limit], -1, yesterday)

    assert admitted(await take(memory, limit)) == 0


async def test_restored_use_counts_beside_what_was_taken_meanwhile() -> None:
    clock = Turned()
    memory, limit = MemoryLimits(clock), quota(10)
    await take(memory, limit, 2)
    memory.restore(limit, 7)
    memory.restore(limit, 5, clock.wall - 86_400)

    assert [standing.admitted for standing in await take(memory, limit, 2)] == [True, False]
    clock.forward(86_400)
    assert admitted(await take(memory, limit, 20)) == 10


async def test_plan_that_is_widened_admits_at_once(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    assert admitted(await take(memory, rate(1, 3600), 2)) == 1
    clock.forward(1)

    [standing] = await take(memory, rate(100, 60))
    assert (standing.admitted, standing.remaining) == (True, 99)  # a second works the first one off
    assert standing.reset_s == pytest.approx(0.6)


async def test_plan_that_is_narrowed_knows_what_was_used(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    await take(memory, rate(100, 60), 60)
    clock.forward(120)

    [refused] = await take(memory, rate(1, 3600))
    assert not refused.admitted
    assert refused.retry_after_s == pytest.approx(3600 - 120)
    assert admitted(await take(memory, rate(60, 60), 100)) == 60


async def test_way_through_another_plan_gives_no_new_burst(clock: HandClock) -> None:
    memory, wide, narrow = MemoryLimits(clock), rate(100, 60), rate(10, 60)
    assert admitted(await take(memory, wide, 200)) == 100
    clock.forward(6)
    assert admitted(await take(memory, narrow, 5)) == 1

    assert admitted(await take(memory, wide, 100)) == 10


async def test_burst_that_is_widened_counts_what_is_in_use(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    await take(memory, rate(60, burst=5), 5)

    assert admitted(await take(memory, rate(60, burst=20), 50)) == 15
    assert admitted(await take(memory, rate(0), 1)) == 0
    assert admitted(await take(memory, rate(60, burst=25), 50)) == 5


async def test_quota_in_another_time_zone_counts_the_day_there() -> None:
    clock = Turned("2026-01-15T20:00:00+00:00")
    memory = MemoryLimits(clock)
    await take(memory, quota(10), 4)
    clock.forward(5 * 3600)  # tomorrow in UTC, the same day still in New York
    await take(memory, quota(10), 1)

    assert (await take(memory, quota(10)))[0].remaining == 8
    assert (await take(memory, quota(10, zone="America/New_York")))[0].remaining == 3
    assert (await take(memory, quota(10, zone="Asia/Tokyo")))[0].remaining == 2  # since 15:00 UTC


async def test_clock_that_steps_back_over_midnight_begins_no_quota_anew() -> None:
    clock = Turned("2026-01-16T00:00:05+00:00")
    memory, limit = MemoryLimits(clock), quota(3)
    await take(memory, limit, 2)
    clock.wall -= 10
    assert admitted(await take(memory, limit, 2)) == 1

    clock.forward(10)
    assert admitted(await take(memory, limit, 2)) == 1  # of this day, two are used
    clock.forward(86_400)
    assert admitted(await take(memory, limit, 5)) == 3


async def test_clock_that_steps_back_opens_no_limit() -> None:
    clock = Turned()
    memory = MemoryLimits(clock)
    limits: list[Limit] = [rate(2, 86_400, key="a"), quota(2)]
    for _ in range(2):
        await memory.decide(limits)
    clock.wall -= 3600

    assert not (await memory.decide(limits)).admitted


def place(most: int, key: str = "c") -> Concurrency:
    return Concurrency("concurrent", key, most)


def test_places_are_as_many_as_allowed_and_come_back_with_their_lease(clock: HandClock) -> None:
    memory, limits = MemoryLimits(clock), [place(2), place(3, "d")]
    first, second, third = (memory.decide_now(limits) for _ in range(3))

    assert [one.admitted for one in (first, second, third)] == [True, True, False]
    assert [[s.remaining for s in one.standings] for one in (first, second)] == [[1, 2], [0, 1]]
    assert (third.refusing.limit, third.refusing.retry_after_s) == (place(2), 1)
    assert third.lease is None
    assert memory.decide_now([place(1, "another")]).admitted
    assert not memory.decide_now([place(0, "none")]).admitted
    for one in (first, second):
        assert one.lease is not None
        one.lease.release()
    again = [memory.decide_now([place(2)]).admitted for _ in range(3)]
    assert again == [True, True, False]


async def test_what_is_refused_holds_no_place_and_what_has_no_place_takes_nothing(
    clock: HandClock,
) -> None:
    memory, one_place, spent, unused = MemoryLimits(clock), place(1), rate(0), rate(5, key="u")
    assert not memory.decide_now([one_place, spent]).admitted
    assert memory.decide_now([one_place]).admitted
    assert not memory.decide_now([unused, one_place]).admitted

    assert (await memory.peek([unused])).standings[0].remaining == 4


def test_decision_tells_its_mode_and_moment_and_has_no_lease_without_a_place() -> None:
    clock = Turned()
    decision = MemoryLimits(clock).decide_now([rate(1), quota(1)])

    assert (decision.mode, decision.at, decision.lease) == ("memory", clock.wall, None)


async def test_amount_is_taken_of_rates_and_quotas_or_nothing(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    limits: list[Limit] = [rate(60, burst=10), quota(100)]
    taken = memory.decide_now(limits, 7)
    refused = memory.decide_now(limits, 5)

    assert [standing.remaining for standing in taken.standings] == [3, 93]
    assert [standing.remaining for standing in refused.standings] == [3, 88]
    assert [standing.admitted for standing in refused.standings] == [False, True]
    assert refused.refusing.retry_after_s == pytest.approx(2)
    clock.forward(refused.refusing.retry_after_s)
    assert memory.decide_now(limits, 5).admitted
    assert (await memory.peek([quota(100)])).standings[0].remaining == 87


def test_amount_beyond_the_burst_waits_and_one_beyond_the_quota_leaves_the_rest(
    clock: HandClock,
) -> None:
    memory = MemoryLimits(clock)
    too_much, beyond = memory.decide_now([rate(60, burst=5)], 6), memory.decide_now([quota(5)], 6)

    assert (too_much.admitted, too_much.standings[0].remaining) == (False, 5)
    assert too_much.refusing.retry_after_s == 60
    assert (beyond.admitted, beyond.standings[0].remaining) == (False, 5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 12))
def test_amount_counts_like_as_many_requests_at_once(amounts: list[int], burst: int) -> None:
    clock = Turned()
    whole, single = MemoryLimits(clock), MemoryLimits(clock)
    limits: list[Limit] = [rate(30, burst=burst), quota(40)]
    for amount in amounts:
        decision = whole.decide_now(limits, amount)
        if decision.admitted:
            parts = [single.decide_now(limits) for _ in range(amount)]
            assert all(part.admitted for part in parts)
            assert [s.remaining for s in parts[-1].standings] == [
                s.remaining for s in decision.standings
            ]
            assert [s.reset_s for s in parts[-1].standings] == pytest.approx(
                [s.reset_s for s in decision.standings]
            )
        clock.forward(1)


async def test_charge_counts_more_afterwards_whatever_is_left(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    limits: list[Limit] = [rate(60, burst=10), quota(10)]
    decision = memory.decide_now(limits)
    await memory.charge(limits, 6, decision.at)
    seen = await memory.peek(limits)
    await memory.charge(limits, 60, decision.at)
    refused = memory.decide_now(limits)

    assert [standing.remaining for standing in seen.standings] == [2, 2]
    assert [standing.admitted for standing in refused.standings] == [False, False]
    assert [standing.remaining for standing in refused.standings] == [0, 0]
    assert refused.standings[0].retry_after_s == pytest.approx(58)


async def test_more_use_of_yesterday_is_not_charged_today() -> None:
    clock = Turned("2026-01-15T23:59:59+00:00")
    memory, limit = MemoryLimits(clock), quota(2)
    yesterday = memory.decide_now([limit]).at
    clock.forward(2)
    await memory.charge([limit], 5, yesterday)

    assert admitted(await take(memory, limit, 3)) == 2


async def test_rate_and_place_give_nothing_back_by_a_charge(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    limits: list[Limit] = [rate(1), place(1), rate(0, key="zero")]
    decision = memory.decide_now(limits[:2])
    for amount in (-1, 1):
        await memory.charge(limits, amount, decision.at)

    seen = await memory.peek(limits)
    assert [standing.admitted for standing in seen.standings] == [False, False, False]
    assert seen.standings[0].retry_after_s == pytest.approx(120)  # what it took, and the charge


async def test_counters_whose_time_has_passed_are_forgotten(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    for number in range(5000):
        await memory.decide([rate(10, 1, key=f"{number}")])
        clock.forward(60)

    assert len(memory._rates) < 100  # noqa: SLF001 - what is forgotten shows nowhere else


async def test_counts_of_periods_that_are_over_are_forgotten(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    for number in range(50):
        await memory.decide([Quota("daily", f"yesterday {number}", 5, "day", "UTC")])

    clock.forward(3 * 86_400)
    for number in range(50):
        await memory.decide([Quota("daily", f"today {number}", 5, "day", "UTC")])

    held = memory._counts["day"]  # noqa: SLF001 - memory is what this is about
    assert set(held) == {f"today {number}" for number in range(50)}


async def test_looking_takes_nothing_and_says_what_would_be(clock: HandClock) -> None:
    memory = MemoryLimits(clock)
    limits: list[Limit] = [rate(2), quota(2)]
    for _ in range(3):
        seen = await memory.peek(limits)
        assert [standing.remaining for standing in seen.standings] == [1, 1]
    for _ in range(2):
        seen = await memory.peek(limits)
        assert seen == await memory.decide(limits)

    assert not (await memory.peek(limits)).admitted
