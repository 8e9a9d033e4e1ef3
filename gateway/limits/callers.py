"""The limits of a caller, made of the numbers of its plan: whose counters they are, and what was used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from gateway.limits.contract import Concurrency, Limits, Quota, Rate
from gateway.networks import site_of
from gateway.problems import Rejected


class Numbers(Protocol):
    """What a plan says of limits: None means no limit, zero means nothing is allowed."""

    @property
    def rate_limit(self) -> int: ...
    @property
    def rate_window_s(self) -> int: ...
    @property
    def burst_limit(self) -> int | None: ...
    @property
    def daily_quota(self) -> int | None: ...
    @property
    def monthly_quota(self) -> int | None: ...
    @property
    def max_concurrent(self) -> int | None: ...
    @property
    def time_zone(self) -> str: ...


class Row(Protocol):
    """What a caller used in some time: `team_id`, `caller_type`, `caller_id`, `since`, `used`."""

    def __getitem__(self, name: str, /) -> Any: ...


def name_of(team: str, kind: str, identity: str) -> str:
    """What a caller's counters are named by; no two callers share it."""
    return f"{len(team)} {team} {kind} {identity}"


def rate_of(who: str, plan: Numbers) -> Rate:
    """The rate of a plan for one caller."""
    burst = plan.rate_limit if plan.burst_limit is None else plan.burst_limit
    return Rate("rate", who, plan.rate_limit, plan.rate_window_s, burst)


def quotas_of(who: str, plan: Numbers) -> tuple[Quota, ...]:
    """The quotas of a plan for one caller; each has a counter of its own."""
    quotas = []
    if plan.daily_quota is not None:
        quotas.append(_daily(who, plan.daily_quota, plan.time_zone))
    if plan.monthly_quota is not None:
        quotas.append(_monthly(who, plan.monthly_quota, plan.time_zone))
    return tuple(quotas)


def concurrency_of(who: str, plan: Numbers) -> Concurrency | None:
    """How many requests of one caller a plan allows at the same time; None for any number."""
    most = plan.max_concurrent
    return None if most is None else Concurrency("concurrent", who, most)


def unlimited_of(who: str, plan: Numbers) -> tuple[Quota, ...]:
    """The counters of a caller that a plan sets no limit for: one that it is given counts what was."""
    limited = {quota.key for quota in quotas_of(who, plan)}
    return tuple(quota for quota in _counters(who, plan.time_zone) if quota.key not in limited)


def used(rows: Iterable[Row]) -> Iterator[tuple[Quota, int, float]]:
    """What callers used, and when, by their usage records; the limits of these quotas say nothing."""
    for row in rows:
        who = name_of(row["team_id"], row["caller_type"], row["caller_id"])
        for quota in _counters(who, "UTC"):
            yield quota, row["used"], row["since"].timestamp()


def _counters(who: str, time_zone: str) -> tuple[Quota, ...]:
    return _daily(who, 0, time_zone), _monthly(who, 0, time_zone)


def _daily(who: str, limit: int, time_zone: str) -> Quota:
    return Quota("daily", f"day {who}", limit, "day", time_zone)


def _monthly(who: str, limit: int, time_zone: str) -> Quota:
    return Quota("monthly", f"month {who}", limit, "month", time_zone)


async def count_failure(limits: Limits, plane: str, client_address: str, most: int) -> None:
    """Count a refused credential. Raises Rejected `rate_limited` for more than `most` in a minute."""
    who = f"failures {plane} {site_of(client_address)}"
    rates = [Rate("authentication", who, most, 60, most)]
    decision = limits.decide_now(rates) or await limits.decide(rates)
    if not decision.admitted:
        raise Rejected(
            "rate_limited",
            "Too many refused credentials from this address.",
            retry_after_s=decision.refusing.retry_after_s,
        )
