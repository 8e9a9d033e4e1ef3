"""Daily and monthly quotas, with the real limiter and a clock that is turned by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from filters.quota import Options, Quota
from gateway.exchange import Exchange, Response
from gateway.model import Plan
from gateway.problems import Rejected
from gateway.runtime import Runtime
from tests.dataplane import assert_honest, caller, exchange, refusal_of


class Turned(Protocol):
    """The fixture `clock`."""

    wall: float

    def forward(self, seconds: float) -> None: ...


def asking(**plan: Any) -> Exchange:
    request = exchange()
    quotas = {"daily_quota": None, "monthly_quota": None} | plan
    request.caller = caller(plan=Plan("p", "p", **quotas))
    return request


async def reached(request: Exchange) -> Response:
    """The rest of a pipeline that got to its upstream."""
    request.outcome.attempts = 1
    return Response(200)


async def failed(_request: Exchange) -> Response:
    """The rest of a pipeline that never got to its upstream."""
    raise Rejected("upstream_unavailable", "")


async def test_quota_is_refused_until_the_next_day(runtime: Runtime, clock: Turned) -> None:
    clock.wall = datetime(2026, 3, 31, 23, 59, 30, tzinfo=UTC).timestamp()
    stage = Quota(Options(), runtime)
    first = asking(daily_quota=2, monthly_quota=9)
    await stage(first, reached)
    await stage(asking(daily_quota=2, monthly_quota=9), reached)
    request = asking(daily_quota=2, monthly_quota=9)
    refused = await refusal_of(stage, request)
    clock.forward(31)
    fresh = asking(daily_quota=2, monthly_quota=9)
    await stage(fresh, reached)

    assert [(s.limit.policy, s.remaining) for s in first.limits] == [("daily", 1), ("monthly", 8)]
    assert (refused.code, refused.status) == ("quota_exceeded", 429)
    assert refused.headers == [(b"Retry-After", b"30")]
    assert refused.detail == "The daily quota of 2 requests is used up."
    assert [standing.admitted for standing in request.limits] == [False, True]
    assert [standing.remaining for standing in fresh.limits] == [1, 8]  # a new month, too


async def test_month_waits_for_the_next_month(runtime: Runtime, clock: Turned) -> None:
    clock.wall = datetime(2026, 3, 30, tzinfo=UTC).timestamp()
    refused = await refusal_of(Quota(Options(), runtime), asking(monthly_quota=0))

    assert refused.headers == [(b"Retry-After", b"172800")]
    assert refused.detail == "The monthly quota of 0 requests is used up."


async def test_day_begins_in_the_time_zone_of_the_plan(runtime: Runtime, clock: Turned) -> None:
    clock.wall = datetime(2026, 1, 1, 22, 30, tzinfo=UTC).timestamp()
    zoned = asking(daily_quota=0, time_zone="Europe/Berlin")
    refused = await refusal_of(Quota(Options(), runtime), zoned)

    assert refused.headers == [(b"Retry-After", b"1800")]


async def test_request_that_never_reached_its_upstream_costs_nothing(runtime: Runtime) -> None:
    stage = Quota(Options(), runtime)
    for _ in range(3):
        with pytest.raises(Rejected):
            await stage(asking(daily_quota=1), failed)
    await stage(asking(daily_quota=1), reached)

    assert (await refusal_of(stage, asking(daily_quota=1))).code == "quota_exceeded"


async def test_unit_is_given_back_to_the_day_that_it_was_taken_from(
    runtime: Runtime, clock: Turned
) -> None:
    clock.wall = datetime(2026, 3, 31, tzinfo=UTC).timestamp()
    stage, late = Quota(Options(), runtime), asking(daily_quota=1)
    late.at = clock.wall - 1  # it came yesterday
    with pytest.raises(Rejected):
        await stage(late, failed)

    await stage(asking(daily_quota=1), reached)


async def test_request_that_failed_at_its_upstream_costs_its_unit(runtime: Runtime) -> None:
    async def broken(request: Exchange) -> Response:
        request.outcome.attempts = 1
        raise Rejected("upstream_timeout", "")

    stage = Quota(Options(), runtime)
    with pytest.raises(Rejected):
        await stage(asking(daily_quota=1), broken)

    assert (await refusal_of(stage, asking(daily_quota=1))).code == "quota_exceeded"


async def test_each_quota_is_counted_by_its_name(runtime: Runtime) -> None:
    stage = Quota(Options(), runtime)
    await stage(asking(daily_quota=1, monthly_quota=9), reached)
    await refusal_of(stage, asking(daily_quota=1, monthly_quota=9))

    assert runtime.metrics.limit_decisions == {
        ("daily", "admitted", "memory"): 1,
        ("monthly", "admitted", "memory"): 1,
        ("daily", "refused", "memory"): 1,
    }


async def test_refusal_by_one_quota_takes_nothing_of_the_other(runtime: Runtime) -> None:
    stage = Quota(Options(), runtime)
    await refusal_of(stage, asking(daily_quota=0, monthly_quota=1))
    request = asking(daily_quota=5, monthly_quota=1)
    await stage(request, reached)

    assert [standing.remaining for standing in request.limits] == [4, 0]


async def test_plan_without_quotas_has_none(runtime: Runtime) -> None:
    request = asking()
    await Quota(Options(), runtime)(request, reached)

    assert request.limits == ()


async def test_quota_that_is_set_later_counts_what_was_used_before(runtime: Runtime) -> None:
    stage = Quota(Options(), runtime)
    for _ in range(3):
        await stage(asking(monthly_quota=9), reached)
    with pytest.raises(Rejected):
        await stage(asking(), failed)
    request = asking(daily_quota=5, monthly_quota=5)
    await stage(request, reached)

    assert [standing.remaining for standing in request.limits] == [1, 1]


async def test_it_reads_and_fills_what_it_says(runtime: Runtime) -> None:
    await assert_honest(Quota(Options(), runtime), asking(daily_quota=1))
