"""A team that has very much: what every list and search reads is bounded, as PostgreSQL plans it.

The statements are those that the API sends; each is explained with the values that it was sent with.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import pytest
import uvloop
from aiohttp import DummyCookieJar

import sql
from admin.api import application
from gateway.database import SCHEMA, Database, Row
from gateway.lifecycle.embedded import Postgres
from tests.admin.client import Tokened, User
from tests.admin.controls import control_with

FILLING: Final = Path(__file__).with_name("scale.sql")
NAME: Final = "scale"
LARGE: Final = ("audit_log", "gateway_api_key", "gateway_usage_record", "service_connector")
AGGREGATES: Final = ("/usage/summary", "/usage/timeseries")
MOST_SORTED: Final = 1_000
SERIES: Final = "/usage/timeseries?from=2026-11-02T00:00:00Z&to=2026-11-0"
RECORDS: Final = "/usage/records?from=2026-11-01T00:00:00Z&to=2026-11-05T00:00:00Z"

READS: Final = {
    "/connectors": 300,
    "/connectors?sort=name": 300,
    "/connectors?limit=100": 1_500,
    "/connectors?q=c-59998": 2_000,
    "/connectors?q=nothing": 2_000,
    "/connectors?q=nothing&sort=name": 12_000,
    "/connectors?tag=rare": 2_000,
    "/connectors?status=archived": 2_000,
    "/connectors?status=published": 300,
    "/connectors?health=healthy": 1_000,
    "/connectors?health=unhealthy": 40_000,
    "/connectors/c-4236": 30,
    "/connectors/c-4236/endpoints": 60,
    "/connectors/c-4236/endpoints?sort=name": 60,
    "/connectors/c-4236/secrets": 60,
    "/connectors/c-4236/versions": 60,
    "/health": 1_500,
    "/health?sort=name": 1_500,
    "/health?q=nothing": 3_000,
    "/health/c-4236": 200,
    "/keys": 100,
    "/keys?sort=name": 200,
    "/keys?q=gw_00004242": 8_000,
    "/keys?q=nothing": 8_000,
    "/keys?q=nothing&sort=name": 60_000,
    "/keys?status=revoked": 8_000,
    "/keys?connectorId=c-42": 8_000,
    "/plans": 2_000,
    "/plans?sort=name": 2_000,
    "/plans?q=plan-199": 2_000,
    "/audit": 100,
    "/audit?limit=100": 200,
    "/audit?from=2026-02-01T00:00:00Z&to=2026-02-02T00:00:00Z": 100,
    "/audit?actor=user-7": 100,
    "/audit?actor=rare": 100,
    "/audit?action=plan.delete": 100,
    "/audit?objectType=plan": 100,
    "/audit?objectType=key": 1_000,
    "/audit?objectId=object-77": 100,
    "/audit?objectId=object-77&actor=user-17": 200,
    "/audit?actor=nobody": 100,
    "/audit?q=request-4321": 200,
    "/audit?q=rare": 200,
    "/audit?q=nothing": 200,
    RECORDS: 200,
    f"{RECORDS}&limit=100": 300,
    f"{RECORDS}&statusClass=5xx": 3_000,
    f"{RECORDS}&connectorId=c-42": 6_000,
    f"{RECORDS}&requestId=q-424242": 300,
    "/usage/records/q-4242": 60,
    "/usage/summary?from=2026-11-02T00:00:00Z&to=2026-11-02T01:00:00Z": 2_000,
    f"{SERIES}2T01:00:00Z": 1_000,
}
"""For each request, how many pages of eight kilobytes it may read."""


pytestmark = pytest.mark.timeout(600)  # filling takes minutes on a machine with much else to do

ELSEWHERE: Final = {
    "endpoints.all": "of one connector, when it is published",
    "health.checkable": "of the checker",
    "health.standings": "of the checker",
    "secrets.drafted": "of one connector",
    "state.connectors": "an export is of everything",
    "state.endpoints": "an export is of everything",
    "state.keys": "an export is of everything",
    "state.plans": "an export is of everything",
    "state.secrets": "an export is of everything",
    "state.slugs": "an export is of everything",
}
"""Lists that are no page of the admin API."""


class Watched(Database):
    """A database that remembers what it was asked."""

    asked: list[tuple[str, tuple[Any, ...]]]

    async def rows(self, statement: str, *values: Any) -> list[Row]:
        self.asked.append((statement, values))
        return await super().rows(statement, *values)

    async def row(self, statement: str, *values: Any) -> Row | None:
        self.asked.append((statement, values))
        return await super().row(statement, *values)


@pytest.fixture(scope="module")
def filled(postgres: Postgres) -> Iterator[str]:
    """A database that is filled once for this file; its DSN."""
    dsn = postgres.dsn.replace("/postgres?", f"/{NAME}?")

    async def fill() -> None:
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute(f"CREATE DATABASE {NAME} TEMPLATE template_gateway")
        await connection.close()
        connection = await asyncpg.connect(dsn, server_settings={"search_path": SCHEMA})
        await connection.execute(FILLING.read_text("utf-8"))
        # A sample that is larger than usual: what is planned must not depend on its luck.
        await connection.execute("SET default_statistics_target = 500")
        await connection.execute("VACUUM ANALYZE")
        await connection.close()

    async def drop() -> None:
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
        await connection.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(fill())
        yield dsn
        runner.run(drop())


@pytest.fixture
async def store(filled: str) -> AsyncIterator[Watched]:
    store = Watched(filled)
    store.asked = []
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def large(store: Watched, aiohttp_client: Any, token: Tokened) -> User:
    """An admin of the team that has very much."""
    http = await aiohttp_client(application(control_with(store)), cookie_jar=DummyCookieJar())
    return User(http, token({"red": "admin"}), "red")


async def plans_of(store: Watched, asked: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    """What PostgreSQL did for each statement: the root of its plan."""
    found = []
    for statement, values in asked:
        row = await Database.row(
            store, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", *values
        )
        assert row is not None
        found.append(row[0][0]["Plan"])
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def faults(plan: dict[str, Any]) -> Iterator[str]:
    """What reads or sorts everything in a plan."""
    for node in nodes(plan):
        relation = node.get("Relation Name", "")
        read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        if node["Node Type"] == "Seq Scan" and relation.startswith(LARGE) and read:
            yield f"reads all of {relation}"
        if node["Node Type"] == "Sort":
            (below,) = node["Plans"]
            if below["Actual Rows"] * below["Actual Loops"] > MOST_SORTED:
                yield f"sorts {below['Actual Rows']} rows"


def pages_read(plan: dict[str, Any]) -> int:
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("path", READS)
async def test_what_a_request_reads_is_bounded(path: str, large: User, store: Watched) -> None:
    answer = await large.get(path)
    assert answer.status == 200, answer.text
    plans = await plans_of(store, store.asked)

    found = list(itertools.chain.from_iterable(map(faults, plans)))
    if path.startswith(AGGREGATES):  # what they aggregate is all that is asked for
        found = [fault for fault in found if not fault.startswith("sorts")]
    assert found == [], orjson.dumps(plans, option=orjson.OPT_INDENT_2).decode()
    assert sum(map(pages_read, plans)) <= READS[path]


@pytest.mark.parametrize(
    "path", ["/connectors", "/keys", "/keys?sort=name", "/audit", "/audit?actor=user-7", RECORDS]
)
async def test_page_far_down_costs_what_the_first_one_does(
    path: str, large: User, store: Watched
) -> None:
    joint = "&" if "?" in path else "?"
    cursor = ""
    for _ in range(20):
        answer = await large.get(f"{path}{joint}limit=100{cursor}")
        cursor = f"&cursor={answer.json['nextCursor']}"
    store.asked.clear()
    assert len((await large.get(f"{path}{joint}limit=100{cursor}")).json["items"]) == 100
    (plan,) = await plans_of(store, store.asked)

    assert list(faults(plan)) == []
    assert pages_read(plan) <= 1_000


async def test_only_the_days_that_are_asked_for_are_read(large: User, store: Watched) -> None:
    for end in ("3T00:00:00Z", "2T12:00:00Z"):
        store.asked.clear()
        assert (await large.get(f"{SERIES}{end}")).status == 200
        (plan,) = await plans_of(store, store.asked)
        relations = {node["Relation Name"] for node in nodes(plan) if "Relation Name" in node}
        assert relations <= {"gateway_usage_record_20261102", "gateway_usage_record_other"}


async def test_a_million_requests_are_told_bucket_by_bucket(large: User) -> None:
    answer = await large.get(f"{SERIES}4T00:00:00Z&interval=hour")

    assert [bucket["requests"] for bucket in answer.json["items"]] == [9375] * 48
    whole = "from=2026-11-01T00:00:00Z&to=2026-11-05T00:00:00Z"
    summary = (await large.get(f"/usage/summary?{whole}")).json
    assert summary["totalRequests"] == 900_000


async def test_every_list_of_the_admin_api_is_measured(large: User, store: Watched) -> None:
    """By the statements' own words: each that lists something is sent by some request here."""
    lists = {text: name for name, text in sql.queries().items() if "\n-- List" in text}
    for path in READS:
        await large.get(path)
    sent = {lists[statement] for statement, _ in store.asked if statement in lists}

    assert sorted(set(lists.values()) - sent - ELSEWHERE.keys()) == []
    assert ELSEWHERE.keys() <= set(lists.values())


@pytest.fixture
async def tidied(filled: str) -> AsyncIterator[None]:
    """Takes away what a test has made: the others count the pages that they read."""
    yield
    connection = await asyncpg.connect(filled, server_settings={"search_path": SCHEMA})
    await connection.execute("DELETE FROM service_connector WHERE slug LIKE 'w%'")
    await connection.execute("VACUUM ANALYZE service_connector")
    await connection.close()


@pytest.mark.usefixtures("tidied")
@pytest.mark.parametrize("sort", ["newest", "name"])
async def test_pages_hold_each_row_once_while_others_write(
    sort: str, large: User, store: Watched, filled: str
) -> None:
    """Every row that was there all along comes, none comes twice; others come, go and change."""
    connection = await asyncpg.connect(filled, server_settings={"search_path": SCHEMA})
    there = {
        str(row["id"])
        for row in await connection.fetch(
            "SELECT id FROM service_connector WHERE team_id = 'red' AND slug LIKE 'c-%'"
        )
    }
    await connection.close()
    stop = asyncio.Event()

    async def write(writer: int) -> None:
        for number in itertools.count():
            slug = f"w{writer}-{sort}-{number}"
            body = {"slug": slug, "upstreamBaseUrl": "https://w.example.com"}
            made = (await large.post("/connectors", body)).json
            name = {"displayName": f"{number % 16:x}{slug}"}
            await large.patch(f"/connectors/{made['id']}", name)
            if number % 2:
                await large.delete(f"/connectors/{made['id']}")
            if stop.is_set():
                return

    async with asyncio.TaskGroup() as writers:
        for writer in range(3):
            writers.create_task(write(writer))
        items = await large.all(f"/connectors?sort={sort}&limit=100")
        stop.set()
    seen = [item["id"] for item in items]

    assert len(there) == 10_000
    assert there <= set(seen)
    repeated = {id_ for id_ in seen if seen.count(id_) > 1} if len(set(seen)) < len(seen) else set()
    assert repeated & there == set()
    if sort == "newest":
        assert repeated == set()
