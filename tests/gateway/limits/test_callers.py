"""The limits that a plan makes for a caller, and the counters that they are kept in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.limits.callers import concurrency_of, name_of, quotas_of, rate_of, unlimited_of, used
from gateway.limits.contract import Concurrency, Rate
from gateway.model import Caller, Plan


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


@pytest.mark.parametrize("daily", [None, 0, 5])
@pytest.mark.parametrize("monthly", [None, 0, 5])
def test_every_counter_counts_with_or_without_a_limit(
    daily: int | None, monthly: int | None
) -> None:
    plan = Plan("p", "p", daily_quota=daily, monthly_quota=monthly)
    limited, unlimited = quotas_of("who", plan), unlimited_of("who", plan)

    assert {made.policy for made in (*limited, *unlimited)} == {"daily", "monthly"}
    assert len(limited) + len(unlimited) == 2


def test_plan_makes_its_rate_with_a_burst_of_the_limit_unless_it_says_another() -> None:
    assert rate_of("who", Plan("p", "p", 7, 30)) == Rate("rate", "who", 7, 30, 7)
    assert rate_of("who", Plan("p", "p", 7, 30, burst_limit=2)) == Rate("rate", "who", 7, 30, 2)


@pytest.mark.parametrize("most", [0, 3])
def test_plan_bounds_requests_at_the_same_time_where_it_says_so(most: int) -> None:
    made = concurrency_of("who", Plan("p", "p", max_concurrent=most))

    assert made == Concurrency("concurrent", "who", most)
    assert concurrency_of("who", Plan("p", "p")) is None


def test_no_two_callers_share_a_name() -> None:
    parts = [("a", "key", "b"), ("a key", "b", ""), ("a", "key b", ""), ("", "a key", "b")]
    parts += [("a", "user", "b"), ("a", "key", "c"), ("a key", "key", "b")]

    assert len({name_of(*part) for part in parts}) == len(parts)


def test_use_is_counted_where_the_callers_quotas_are() -> None:
    since = datetime(2026, 1, 15, tzinfo=UTC)
    row = {"team_id": "red", "caller_type": "key", "caller_id": "k", "since": since, "used": 3}
    counted = list(used([row]))
    caller = Caller("key", "k", "", "red", Plan("p", "p", time_zone="Asia/Kolkata"))

    assert [quota.key for quota in caller.quotas] == [quota.key for quota, _, _ in counted]
    assert [count for _, *count in counted] == [[3, since.timestamp()]] * 2
