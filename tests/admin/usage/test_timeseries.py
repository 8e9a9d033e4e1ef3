"""Usage over time: every bucket there, each with the right numbers, for what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ids import uuid7
from tests.admin.client import MAPS, Record, User

HOURS = "/usage/timeseries?from=2026-11-01T00:00:00Z&to=2026-11-01T06:00:00Z&interval=hour"


async def items(user: User, path: str) -> list[dict[str, Any]]:
    answer = await user.get(path)
    assert answer.status == 200, answer.text
    found: list[dict[str, Any]] = answer.json["items"]
    return found


async def test_numbers_are_of_their_bucket(viewer: User, record: Record) -> None:
    for number in range(100):
        await record(number % 60, total_ms=float(number + 1))
    for status in (301, 404, 404, 500):
        await record(3 * 60, status=status, bytes_in=10, bytes_out=1000)
    await record(5, team_id="blue")
    await record(-1)
    await record(6 * 60)
    answer = await viewer.get(HOURS)
    first, *between, fourth, _, _ = answer.json["items"]

    assert {name: answer.json[name] for name in ("from", "to", "interval")} == {
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-11-01T06:00:00Z",
        "interval": "hour",
    }
    assert first == {
        "start": "2026-11-01T00:00:00Z",
        "requests": 100,
        "errors": 0,
        "statuses": {"1xx": 0, "2xx": 100, "3xx": 0, "4xx": 0, "5xx": 0},
        "latencyMs": {
            "p50": pytest.approx(50.5),
            "p95": pytest.approx(95.05),
            "p99": pytest.approx(99.01),
        },
        "requestBytes": 100,
        "responseBytes": 10_000,
    }
    assert [bucket["requests"] for bucket in between] == [0, 0]
    assert fourth["statuses"] == {"1xx": 0, "2xx": 0, "3xx": 1, "4xx": 2, "5xx": 1}
    assert (fourth["errors"], fourth["requestBytes"], fourth["responseBytes"]) == (3, 40, 4000)


async def test_empty_buckets_are_there_and_zero(viewer: User) -> None:
    buckets = await items(viewer, HOURS)

    assert [bucket["start"][11:16] for bucket in buckets] == [f"0{n}:00" for n in range(6)]
    for bucket in buckets:
        assert (bucket["requests"], bucket["errors"], bucket["requestBytes"]) == (0, 0, 0)
        assert bucket["latencyMs"] == {"p50": None, "p95": None, "p99": None}


async def test_ends_within_a_bucket_cut_it(viewer: User, record: Record) -> None:
    for minute in (10, 29, 31, 89, 91):
        await record(minute)
    span = "from=2026-11-01T00:30:00Z&to=2026-11-01T01:30:00Z"
    buckets = await items(viewer, f"/usage/timeseries?{span}&interval=hour")

    assert [(b["start"], b["requests"]) for b in buckets] == [
        ("2026-11-01T00:00:00Z", 1),
        ("2026-11-01T01:00:00Z", 1),
    ]


async def test_days_are_those_of_utc_wherever_the_times_are_from(
    viewer: User, record: Record
) -> None:
    await record(23 * 60)
    await record(25 * 60)
    span = "from=2026-11-01T05:30:00%2B05:30&to=2026-11-03T05:30:00%2B05:30"
    buckets = await items(viewer, f"/usage/timeseries?{span}&interval=day")

    assert [(b["start"], b["requests"]) for b in buckets] == [
        ("2026-11-01T00:00:00Z", 1),
        ("2026-11-02T00:00:00Z", 1),
    ]


@pytest.mark.parametrize(
    ("to", "interval", "buckets"),
    [
        ("2026-11-01T00:00:01Z", "minute", 1),
        ("2026-11-01T03:00:00Z", "minute", 180),
        ("2026-11-01T06:00:00Z", "hour", 6),
        ("2026-11-08T00:00:00Z", "hour", 168),
        ("2026-12-01T00:00:00Z", "day", 30),
        ("2027-02-01T00:00:00Z", "day", 92),
    ],
)
async def test_interval_follows_from_the_time(
    to: str, interval: str, buckets: int, viewer: User
) -> None:
    found = (await viewer.get(f"/usage/timeseries?from=2026-11-01T00:00:00Z&to={to}")).json

    assert (found["interval"], len(found["items"])) == (interval, buckets)


async def test_every_filter_narrows(viewer: User, record: Record) -> None:
    key, other = str(uuid7()), uuid7()
    await record(1, caller_id=key)
    await record(1, connector_id=other, connector="other", endpoint="list", status=404)
    await record(1, connector_id=None, connector="nowhere", status=503, source="gateway")
    await record(1, caller_type="user", caller_id=key, status=429, error_code="rate_limited")

    async def requests(query: str) -> int:
        return sum(bucket["requests"] for bucket in await items(viewer, f"{HOURS}&{query}"))

    assert await requests("") == 4
    assert await requests(f"connectorId={MAPS}") == 2
    assert await requests("connectorId=other") == 1
    assert await requests(f"connectorId={uuid7()}") == 0
    assert await requests("endpoint=list") == 1
    assert await requests(f"keyId={key.upper()}") == 1
    assert await requests("status=404") == 1
    assert await requests("statusClass=4xx") == 2
    assert await requests("statusClass=5xx") == 1
    assert await requests("source=gateway") == 1
    assert await requests("errorCode=rate_limited") == 1
    assert await requests("connectorId=maps&statusClass=4xx") == 1


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("interval=week", "/interval"),
        ("from=2026-11-01T00:00:00Z&to=2026-11-03T00:00:00Z&interval=minute", "/interval"),
        ("from=1970-01-01T00:00:00Z", "/from"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "/from"),
        ("from=now", "/from"),
        ("keyId=mine", "/keyId"),
        ("statusClass=6xx", "/statusClass"),
        ("status=99", "/status"),
        ("source=cache", "/source"),
        ("team=blue", "/team"),
    ],
)
async def test_odd_parameter_is_refused_at_its_place(
    query: str, pointer: str, cut_off: User
) -> None:
    answer = await cut_off.get(f"/usage/timeseries?{query}")

    assert (answer.status, answer.pointers) == (422, [pointer])
