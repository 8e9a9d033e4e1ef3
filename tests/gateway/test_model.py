"""What the data plane knows: callers with the limits of their plans, and nothing that can be changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import Caller, EndpointDefinition, Plan

PLAN = Plan("p", "p")


IDENTITIES = st.tuples(
    st.text("a 1", max_size=4), st.sampled_from(["key", "user"]), st.text("a 1user", max_size=6)
)


@given(IDENTITIES, IDENTITIES)
def test_no_two_callers_share_a_counter(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    names = [
        {caller.who, caller.rate.key, *(quota.key for quota in caller.quotas)}
        for team, kind, id_ in (one, other)
        for caller in [Caller(kind, id_, "name", team, PLAN)]
    ]

    assert (names[0] & names[1] == set()) == (one != other)


def test_caller_brings_the_limits_of_its_plan() -> None:
    plan = Plan(
        "p", "p", 7, 30, burst_limit=2, daily_quota=0, monthly_quota=None, time_zone="Asia/Kolkata"
    )
    caller = Caller("key", "k", "gw_a", "t", plan)

    assert (caller.rate.limit, caller.rate.window_s, caller.rate.burst) == (7, 30, 2)
    assert [(q.policy, q.limit, q.time_zone) for q in caller.quotas] == [
        ("daily", 0, "Asia/Kolkata")
    ]


@pytest.mark.parametrize("record", [PLAN, Caller("key", "k", "n", "t", PLAN), EndpointDefinition()])
def test_what_requests_share_cannot_be_changed(record: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, dataclasses.fields(record)[0].name, "other")
