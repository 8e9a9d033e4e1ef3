"""Usage records one by one: the newest first, each once, narrowed, and found by request id."""

from __future__ import annotations

import pytest

from gateway.clock import utc_now
from gateway.ids import uuid7
from tests.admin.client import MAPS, START, Record, User

DAY = "/usage/records?from=2026-11-01T00:00:00Z&to=2026-11-02T00:00:00Z"


async def ids(user: User, query: str = "") -> list[str]:
    return [item["requestId"] for item in await user.all(DAY + query)]


async def test_record_tells_everything_that_is_kept(viewer: User, record: Record) -> None:
    made = await record(1.5, trace_id="t", client_address="192.0.2.1", target="maps.example.com")
    (item,) = await viewer.all(DAY)

    assert item == {
        "at": "2026-11-01T00:01:30Z",
        "requestId": made,
        "traceId": "t",
        "connectorId": str(MAPS),
        "connector": "maps",
        "endpoint": "find",
        "method": "GET",
        "callerType": "key",
        "callerId": "k",
        "status": 200,
        "source": "upstream",
        "errorCode": "",
        "totalMs": 10.0,
        "upstreamMs": 8.0,
        "firstByteMs": 9.0,
        "ownMs": 2.0,
        "bytesIn": 1,
        "bytesOut": 100,
        "attempts": 1,
        "cached": False,
        "clientGone": False,
        "replayed": False,
        "target": "maps.example.com",
        "clientAddress": "192.0.2.1",
    }
    assert (await viewer.get(f"/usage/records/{made}")).json == item


async def test_newest_come_first_within_the_time(viewer: User, record: Record) -> None:
    made = [await record(minute) for minute in (3, 1, 2)]
    await record(-1)
    await record(24 * 60)
    await record(1, team_id="blue")

    assert await ids(viewer) == [made[0], made[2], made[1]]


async def test_pages_hold_each_record_once_while_others_come(viewer: User, record: Record) -> None:
    """Also those of one moment; records that come late are of any time."""
    made = [await record(minute // 4) for minute in range(20)]
    seen: list[str] = []
    cursor = ""
    for number in range(20):
        answer = await viewer.get(f"{DAY}&limit=3{cursor}")
        seen += [item["requestId"] for item in answer.json["items"]]
        if answer.json["nextCursor"] is None:
            break
        cursor = f"&cursor={answer.json['nextCursor']}"
        await record(number / 4)
        await record(60 + number)

    assert len(seen) == len(set(seen))
    assert set(made) <= set(seen)


async def test_every_filter_narrows(viewer: User, record: Record) -> None:
    key = str(uuid7())
    a = await record(1, caller_id=key, request_id="order-1")
    b = await record(2, connector_id=uuid7(), connector="other", endpoint="list", status=404)
    c = await record(3, connector_id=None, connector="x", status=503, source="gateway")
    d = await record(4, caller_type="user", caller_id=key, status=429, error_code="rate_limited")
    e = await record(5, method="POST", total_ms=2000.0, request_id="order-2")

    for query, expected in {
        f"connectorId={MAPS}": [e, d, a],
        "connectorId=other": [b],
        "endpoint=list": [b],
        f"keyId={key}": [a],
        "status=404": [b],
        "statusClass=4xx": [d, b],
        "source=gateway": [c],
        "errorCode=rate_limited": [d],
        "method=POST": [e],
        "minMs=100": [e],
        "requestId=order-": [e, a],
        "requestId=order-1": [a],
        "requestId=rder": [],
        "requestId=order_": [],
        "connectorId=maps&source=gateway": [],
    }.items():
        assert await ids(viewer, f"&{query}") == expected, query


async def test_last_record_of_an_id_is_told(viewer: User, record: Record) -> None:
    for minute in (1, 3, 2):
        await record(minute, request_id="again")

    assert (await viewer.get("/usage/records/again")).json["at"] == "2026-11-01T00:03:00Z"


async def test_other_teams_record_is_an_unknown_one(
    viewer: User, stranger: User, record: Record
) -> None:
    made = await record(1)
    foreign, unknown = [await stranger.get(f"/usage/records/{i}") for i in (made, uuid7())]

    assert (foreign.status, foreign.json["detail"]) == (404, unknown.json["detail"])
    assert await ids(stranger) == []
    assert await ids(stranger, f"&requestId={made}") == []


async def test_cursor_of_another_team_shows_nothing_of_it(
    viewer: User, stranger: User, record: Record
) -> None:
    for minute in range(3):
        await record(minute)
    cursor = (await viewer.get(f"{DAY}&limit=1")).json["nextCursor"]

    assert (await stranger.get(f"{DAY}&cursor={cursor}")).json["items"] == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=101", "/limit"),
        ("cursor=x", "/cursor"),
        ("cursor=WyJhIiwiYiJd", "/cursor"),
        ("cursor=W10", "/cursor"),
        ("cursor=WyIyMDI2LTExLTAxIiwiYSBiIl0", "/cursor"),
        ("from=2026-01-01T00:00:00Z&to=2026-11-01T00:00:00Z", "/from"),
        ("to=2026-11-01", "/to"),
        ("keyId=mine", "/keyId"),
        ("requestId=a/b", "/requestId"),
        ("minMs=-1", "/minMs"),
        ("status=ok", "/status"),
        ("q=x", "/q"),
    ],
)
async def test_odd_parameter_is_refused_at_its_place(
    query: str, pointer: str, cut_off: User
) -> None:
    answer = await cut_off.get(f"/usage/records?{query}")

    assert (answer.status, answer.pointers) == (422, [pointer])


async def test_last_day_is_listed_when_nothing_is_said(viewer: User, record: Record) -> None:
    since_start = (utc_now() - START).total_seconds() / 60
    made = await record(since_start - 1)
    await record(since_start - 25 * 60)
    found = (await viewer.get("/usage/records")).json["items"]

    assert [item["requestId"] for item in found] == [made]
