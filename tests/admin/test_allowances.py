"""What a team may make the gateway send by itself is bounded, team by team."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from admin.allowances import Allowance
from admin.calls import Call
from admin.control import Control
from admin.explain import explanations
from admin.state import applying
from gateway.clock import SystemClock
from gateway.limits.contract import Concurrency, Limits
from gateway.limits.memory import MemoryLimits
from gateway.problems import Rejected
from tests.admin.client import User

PROBES = Allowance("probes", 3, 2)


def call_of(team: str, limits: Limits) -> Call:
    """All that an allowance asks of a call."""
    return cast("Call", SimpleNamespace(team=team, control=SimpleNamespace(limits=limits)))


async def free(limits: Limits, team: str) -> int:
    """How many places the team has left."""
    places = Concurrency("probes", f"probes {team}", PROBES.at_once)
    return (await limits.peek([places])).standings[0].remaining + 1


async def test_no_more_at_a_time_than_allowed_and_a_place_comes_back() -> None:
    limits = MemoryLimits(SystemClock())
    async with AsyncExitStack() as stack:
        for _ in range(PROBES.at_once):
            await stack.enter_async_context(PROBES.take(call_of("red", limits)))
        with pytest.raises(Rejected, match="2 probes at the same time") as refused:
            await stack.enter_async_context(PROBES.take(call_of("red", limits)))
        await stack.enter_async_context(PROBES.take(call_of("blue", limits)))
    assert refused.value.code == "too_many_concurrent"

    async with PROBES.take(call_of("red", limits)):
        pass


async def test_no_more_a_minute_than_allowed_and_a_refusal_keeps_no_place() -> None:
    limits = MemoryLimits(SystemClock())
    for _ in range(PROBES.a_minute):
        async with PROBES.take(call_of("red", limits)):
            pass
    for _ in range(PROBES.at_once + 1):
        with pytest.raises(Rejected, match="3 probes a minute") as refused:
            await PROBES.take(call_of("red", limits)).__aenter__()
        assert refused.value.code == "rate_limited"
    assert await free(limits, "red") == PROBES.at_once

    async with PROBES.take(call_of("blue", limits)):
        pass


async def test_place_comes_back_when_the_work_fails() -> None:
    limits = MemoryLimits(SystemClock())
    with pytest.raises(ZeroDivisionError):
        async with PROBES.take(call_of("red", limits)):
            raise ZeroDivisionError
    assert await free(limits, "red") == PROBES.at_once


@pytest.mark.parametrize(
    ("allowed", "path", "body"),
    [
        (applying.ALLOWED, "/config/apply?dryRun=true", {}),
        (
            explanations.ALLOWED,
            "/explain",
            {"connector": "x", "path": "/", "caller": {"user": "a"}},
        ),
    ],
    ids=["apply", "explain"],
)
async def test_team_that_is_at_its_bound_is_refused_and_no_other(
    allowed: Allowance, path: str, body: Any, admin: User, stranger: User, control: Control
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(allowed.at_once):
            await stack.enter_async_context(allowed.take(call_of("red", control.limits)))
        refused = await admin.post(path, body)
        other = await stranger.post(path, body)
    again = await admin.post(path, body)

    assert (refused.status, refused.json["code"]) == (429, "too_many_concurrent")
    assert (other.status, again.status) == (200, 200), (other.text, again.text)
