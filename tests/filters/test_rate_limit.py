"""Rates of callers and endpoints, with the real limiter and a clock that is turned by hand."""

from __future__ import annotations

from typing import Any, Protocol

from filters.rate_limit import Options, RateLimit
from gateway.exchange import Exchange
from gateway.model import Caller, Plan
from gateway.runtime import Runtime
from tests.dataplane import (
    answering,
    assert_honest,
    caller,
    connector,
    endpoint,
    exchange,
    refusal_of,
)

SLOW = connector("http://127.0.0.1", endpoint("GET", "/slow", rate_limit=1), endpoint("GET", "/x"))
OTHER = connector("http://127.0.0.1")


class Turned(Protocol):
    """The fixture `clock`."""

    def forward(self, seconds: float) -> None: ...


def by(**plan: Any) -> Caller:
    return caller(plan=Plan("p", "p", **plan))


def asking(who: Caller, path: str = "/up/x") -> Exchange:
    request = exchange(path=path, at=SLOW)
    request.caller = who
    return request


async def test_burst_is_refused_with_the_time_to_wait(runtime: Runtime, clock: Turned) -> None:
    stage, who = RateLimit(Options(), runtime), by(rate_limit=6, rate_window_s=60, burst_limit=2)
    for _ in range(2):
        await stage(asking(who), answering())
    clock.forward(3.5)
    request = asking(who)
    refused = await refusal_of(stage, request)
    clock.forward(6.5)
    await stage(asking(who), answering())

    assert (refused.code, refused.status) == ("rate_limited", 429)
    assert refused.headers == [(b"Retry-After", b"7")]
    assert '"rate" allows 6 requests in 60 s' in refused.detail
    assert [standing.remaining for standing in request.limits] == [0]
    assert runtime.metrics.limit_decisions == {
        ("rate", "admitted", "memory"): 3, ("rate", "refused", "memory"): 1
    }  # fmt: skip


async def test_without_a_burst_the_whole_rate_may_come_at_once(runtime: Runtime) -> None:
    stage, who = RateLimit(Options(), runtime), by(rate_limit=3)
    for _ in range(3):
        await stage(asking(who), answering())

    assert (await refusal_of(stage, asking(who))).code == "rate_limited"


async def test_endpoint_has_a_rate_of_its_own(runtime: Runtime) -> None:
    stage, who = RateLimit(Options(), runtime), by(rate_limit=100)
    first = asking(who, "/up/slow")
    await stage(first, answering())
    refused = await refusal_of(stage, asking(who, "/up/slow"))
    again = asking(who)
    await stage(again, answering())

    assert [(s.limit.policy, s.remaining) for s in first.limits] == [("rate", 99), ("endpoint", 0)]
    assert '"endpoint" allows 1 requests' in refused.detail
    # what one limit refused was not taken from the other
    assert [standing.remaining for standing in again.limits] == [98]


async def test_nobody_uses_up_the_rate_of_another(runtime: Runtime) -> None:
    stage, plan = RateLimit(Options(), runtime), Plan("p", "p", rate_limit=1)
    for who in (
        caller(plan=plan),
        caller(plan=plan, id="k2"),
        caller(plan=plan, team="blue"),
        caller(plan=plan, kind="user"),
    ):
        await stage(asking(who), answering())
        assert (await refusal_of(stage, asking(who))).code == "rate_limited"


async def test_place_is_held_until_the_exchange_is_over(runtime: Runtime) -> None:
    stage, who = RateLimit(Options(), runtime), by(max_concurrent=1)
    first, second = asking(who), asking(who)
    await stage(first, answering())
    refused = await refusal_of(stage, second)
    first.close()
    await stage(asking(who), answering())

    assert (refused.code, refused.status) == ("too_many_concurrent", 429)
    assert refused.headers == [(b"Retry-After", b"1")]
    assert refused.detail == "The plan allows 1 requests at the same time."
    standings = [(one.limit.policy, one.remaining, one.admitted) for one in second.limits]
    assert standings == [("rate", 98, True), ("concurrent", 0, False)]


async def test_request_that_the_rate_refuses_holds_no_place(
    runtime: Runtime, clock: Turned
) -> None:
    stage, who = RateLimit(Options(), runtime), by(rate_limit=1, max_concurrent=1)
    first, second = asking(who), asking(who)
    await stage(first, answering())
    first.close()
    assert (await refusal_of(stage, second)).code == "rate_limited"
    clock.forward(60)
    await stage(asking(who), answering())


async def test_each_policy_is_counted_by_its_name(runtime: Runtime) -> None:
    stage, who = RateLimit(Options(), runtime), by(max_concurrent=2)
    for path in ("/up/slow", "/up/x"):
        await stage(asking(who, path), answering())
    for _ in range(2):
        await refusal_of(stage, asking(who))
    await refusal_of(stage, asking(by(rate_limit=0, max_concurrent=9), "/up/slow"))

    # those that had room when another refused are counted as neither
    assert runtime.metrics.limit_decisions == {
        ("rate", "admitted", "memory"): 2,
        ("endpoint", "admitted", "memory"): 1,
        ("concurrent", "admitted", "memory"): 2,
        ("concurrent", "refused", "memory"): 2,
        ("rate", "refused", "memory"): 1,
        ("endpoint", "refused", "memory"): 1,
    }


async def test_rate_of_zero_allows_nothing(runtime: Runtime) -> None:
    refused = await refusal_of(RateLimit(Options(), runtime), asking(by(rate_limit=0)))

    assert (refused.code, refused.headers) == ("rate_limited", [(b"Retry-After", b"60")])


async def test_it_reads_and_fills_what_it_says(runtime: Runtime) -> None:
    await assert_honest(RateLimit(Options(), runtime), asking(by()))
