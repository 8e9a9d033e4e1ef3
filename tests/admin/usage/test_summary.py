"""The summary of usage: right numbers for the team and the time that were asked for."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from gateway.ids import uuid7
from tests.admin.client import MAPS, Record, User

OTHER = uuid7()
DAY = "/usage/summary?from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z"


async def test_totals_are_of_the_team_and_the_time(admin: User, record: Record) -> None:
    for number in range(100):
        await record(number, total_ms=float(number + 1), status=500 if number < 10 else 200)
    await record(5, connector_id=OTHER, connector="other", status=404, total_ms=50.5)
    await record(5, connector_id=None, connector="nowhere", status=404, attempts=0, total_ms=50.5)
    await record(5, team_id="blue")
    await record(-1)
    await record(24 * 60)
    found = (await admin.get(DAY)).json

    assert found == {
        "from": "2026-11-01T00:00:00Z",
        "to": "2026-11-02T00:00:00Z",
        "totalRequests": 102,
        "errorCount": 12,
        "errorRate": pytest.approx(12 / 102),
        "totalRequestBytes": 102,
        "totalResponseBytes": 10_200,
        "avgLatencyMs": pytest.approx(50.5),
        "avgUpstreamLatencyMs": pytest.approx(8.0),
        "latencyMs": {
            "p50": pytest.approx(50.5),
            "p95": pytest.approx(94.95),
            "p99": pytest.approx(98.99),
        },
        "topConnectors": [
            {
                "id": str(MAPS),
                "slug": "maps",
                "requests": 100,
                "errors": 10,
                "avgLatencyMs": pytest.approx(50.5),
            },
            {"id": str(OTHER), "slug": "other", "requests": 1, "errors": 1, "avgLatencyMs": 50.5},
        ],
    }


async def test_nothing_is_zero_and_has_no_average(viewer: User) -> None:
    found = (await viewer.get(DAY)).json

    assert (found["totalRequests"], found["errorCount"]) == (0, 0)
    assert (found["errorRate"], found["avgLatencyMs"]) == (None, None)
    assert found["latencyMs"] == {"p50": None, "p95": None, "p99": None}
    assert found["topConnectors"] == []


async def test_last_day_is_asked_for_when_nothing_is_said(viewer: User) -> None:
    found = (await viewer.get("/usage/summary")).json
    since, until = (datetime.fromisoformat(found[name]) for name in ("from", "to"))

    assert until - since == timedelta(days=1)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from=yesterday", "/from"),
        ("from=2026-11-01", "/from"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "/from"),
        ("from=1970-01-01T00:00:00Z", "/from"),
        ("to=2026-11-01T00:00:00+01:00", "/to"),
        ("interval=1m", "/interval"),
    ],
)
async def test_odd_time_is_refused(query: str, pointer: str, viewer: User) -> None:
    """A plus sign that was not encoded is a space."""
    answer = await viewer.get(f"/usage/summary?{query}")

    assert (answer.status, answer.pointers) == (422, [pointer])


async def test_ten_connectors_at_most_are_told(viewer: User, record: Record) -> None:
    for number in range(12):
        await record(number, connector_id=uuid7(), connector=f"c{number}")

    assert len((await viewer.get(DAY)).json["topConnectors"]) == 10
