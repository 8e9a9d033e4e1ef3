"""How an explanation is told: whose the limits and bounds are, and what is not shown."""

from __future__ import annotations

from typing import Any

import pytest

from admin.explain.verdicts import MOST_SHOWN, document
from gateway.exchange import Exchange, Outgoing
from gateway.explain.explanation import Explanation, Verdict
from gateway.limits.contract import Concurrency, Limit, Rate
from gateway.limits.memory import MemoryLimits
from gateway.model import Plan
from gateway.problems import Fault, Rejected
from tests.clocks import HandClock
from tests.dataplane import caller, connector, endpoint, exchange

BASE = "https://up.example.com"


def told(given: Exchange, *verdicts: Verdict, key: Any = None, **more: Any) -> dict[str, Any]:
    return document(Explanation(given, list(verdicts), **more), key, [])


def at_endpoint(plan: Plan | None = None, **definition: Any) -> Exchange:
    """An exchange at an endpoint, with a caller on a plan."""
    made = exchange(at=connector(BASE, endpoint("GET", "/x", **definition)))
    made.caller = caller(plan=plan or Plan("p1", "gold"))
    return made


def test_exchange_that_came_nowhere_is_told() -> None:
    document = told(exchange(), Verdict("authenticate"))

    assert document["filters"] == [
        {"name": "authenticate", "verdict": "not reached", "detail": "", "code": None}
    ]
    for name in ("problem", "connector", "endpoint", "upstream"):
        assert document[name] is None
    assert (document["limits"], document["bounds"]) == ([], [])


def test_refusal_is_told_with_its_places() -> None:
    rejected = Rejected("validation_failed", "No.", errors=[Fault("/a", "Not a number.")])
    refused = Verdict("validate", "refused", "No.", rejected)
    document = told(exchange(), refused, outcome="refused", status=422)

    assert document["problem"] == {
        "code": "validation_failed",
        "status": 422,
        "detail": "No.",
        "errors": [{"pointer": "/a", "detail": "Not a number."}],
    }
    assert document["status"] == 422
    assert document["filters"][0]["code"] == "validation_failed"


@pytest.mark.parametrize(("plan_id", "source"), [("p1", "plan"), ("", "default")])
async def test_limits_tell_whose_they_are(plan_id: str, source: str, clock: HandClock) -> None:
    made = at_endpoint(Plan(plan_id, "gold", monthly_quota=None, max_concurrent=2))
    own = Rate("endpoint", "endpoint x", 3, 60, 3)
    places, memory = Concurrency("concurrent", made.caller.who, 2), MemoryLimits(clock)
    for _ in range(2):
        memory.decide_now([places])
    limits: list[Limit] = [made.caller.rate, own, places, *made.caller.quotas]
    made.limits = (await memory.peek(limits)).standings
    found = {one["policy"]: one for one in told(made)["limits"]}

    assert {name: one["source"] for name, one in found.items()} == {
        "concurrent": source, "rate": source, "endpoint": "endpoint", "daily": source,
    }  # fmt: skip
    assert found["concurrent"] == {
        "policy": "concurrent", "source": source, "limit": 2, "remaining": 0, "admitted": False,
    }  # fmt: skip
    assert (found["endpoint"]["remaining"], found["endpoint"]["burst"]) == (2, 3)
    assert found["endpoint"]["resetSeconds"] == 20


@pytest.mark.parametrize(
    ("definition", "name", "value", "source"),
    [
        ({}, "maxRequestSize", 1 << 20, "plan"),
        ({"max_request_size": 5}, "maxRequestSize", 5, "endpoint"),
        ({"max_request_size": 1 << 30}, "maxRequestSize", 1 << 20, "plan"),
        ({"max_response_size": 0}, "maxResponseSize", 0, "endpoint"),
        ({}, "timeout", 30_000, "connector"),
        ({"timeout": 7}, "timeout", 7, "endpoint"),
        ({"idle_timeout": 9}, "idleTimeout", 9, "endpoint"),
    ],
)
def test_bounds_tell_whose_they_are(
    definition: dict[str, Any], name: str, value: int, source: str
) -> None:
    found = {one["name"]: one for one in told(at_endpoint(**definition))["bounds"]}

    assert found[name] == {"name": name, "value": value, "source": source}


def test_upstream_request_is_shown_with_masks() -> None:
    made = at_endpoint()
    fields = [(b"Authorization", b"Basic Kioq"), (b"X-Key", b"a ***")]
    made.outgoing = Outgoing("POST", "/x?key=%2A%2A%2A", fields, b"x" * 2 * MOST_SHOWN)
    upstream = told(made)["upstream"]

    assert upstream["url"] == f"{BASE}/x?key=***"
    assert upstream["origins"] == [BASE]
    assert [field["value"] for field in upstream["headers"]] == ["Basic ***", "a ***"]
    assert (len(upstream["body"]), upstream["bodyIsCallers"]) == (MOST_SHOWN, False)


def test_callers_own_body_is_not_shown() -> None:
    made = at_endpoint()
    made.outgoing = Outgoing("POST", "/x", [])

    upstream = told(made)["upstream"]
    assert (upstream["body"], upstream["bodyIsCallers"]) == (None, True)


def test_caller_is_told_with_the_status_of_its_key() -> None:
    key = {"id": "k1", "name": "app", "status": "revoked"}
    unknown = told(exchange(), key=key)["caller"]
    known = told(at_endpoint(), key={**key, "status": "active"})["caller"]

    assert unknown == {"kind": "key", "id": "k1", "name": "app", "status": "revoked"}
    assert known["plan"] == {"id": "p1", "name": "gold"}
