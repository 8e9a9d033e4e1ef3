"""Keys and connectors in memory are bounded in bytes, whatever their number and their size."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from gateway.clock import SystemClock
from gateway.database import Database
from gateway.directory import Directory, compiled_bytes
from gateway.model import Connector, Plan
from gateway.secrets.vault import MasterKey, Vault
from gateway.transform.compiling import compile_connector
from tests.dataplane import TEAM, Migrated, Rows, connect, endpoint, snapshot

VAULT = Vault([MasterKey("first", bytes(range(32)))], [], {})
BOUND = 16 << 20
URL = "http://127.0.0.1:9"
DEFINITIONS: dict[str, dict[str, Any]] = {
    "bare": {},
    "fields": {"set_headers": {f"X-{n}": "v" * 20 for n in range(20)}},
    "words": {"body_blacklist": [f"word{n}" for n in range(50)]},
    "examples": {"examples": [{"a": "x" * 100, "b": list(range(50))}] * 10},
}


@pytest.fixture
async def rows(database: Migrated) -> AsyncIterator[Rows]:
    connection = await connect(database.dsn)
    yield Rows(connection, VAULT)
    await connection.close()


@pytest.fixture
async def directory(database: Migrated) -> AsyncIterator[Directory]:
    """One that takes 16 MiB."""
    store = Database(database.dsn)
    await store.open()
    yield Directory(store, VAULT, Plan("", ""), SystemClock(), BOUND)
    await store.close()


@pytest.fixture
def traced() -> Iterator[None]:
    """Allocations are counted."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
async def test_connectors_of_many_endpoints_stay_within_the_bound(
    rows: Rows, directory: Directory
) -> None:
    endpoints = [endpoint("GET", f"/x{number}/:id") for number in range(60)]
    for number in range(80):
        await rows.connector(URL, *endpoints, slug=f"c{number}")
    await directory.connector(TEAM, "c0")
    before, _ = tracemalloc.get_traced_memory()
    for number in range(80):
        assert isinstance(await directory.connector(TEAM, f"c{number}"), Connector)
        directory.held_connector(TEAM, "c0")
    grown = tracemalloc.get_traced_memory()[0] - before

    assert BOUND / 4 < grown < BOUND
    assert directory.held_connector(TEAM, "c0") is not None, "it was used all along"
    assert directory.held_connector(TEAM, "c1") is None


@pytest.mark.usefixtures("traced")
async def test_many_keys_stay_within_the_bound(rows: Rows, directory: Directory) -> None:
    await rows.plan("default")
    await rows.run(
        "INSERT INTO gateway_api_key (id, team_id, name, created_by, public_id, digest, allowed_endpoints)"
        " SELECT gen_random_uuid(), 'red', 'k', 'a', lpad(n::text, 8, '0'), '\\x01',"
        " (SELECT array_agg('endpoint ' || e) FROM generate_series(0, n % 20) AS e)"
        " FROM generate_series(1, 3000) AS n"
    )
    before, _ = tracemalloc.get_traced_memory()
    for number in range(1, 3001):
        assert await directory.key(f"{number:08}")
    grown = tracemalloc.get_traced_memory()[0] - before

    assert BOUND / 16 < grown < BOUND / 4
    assert directory.held_key("00003000") is not None
    assert directory.held_key("00000001") is None


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("definition", [*DEFINITIONS])
@pytest.mark.parametrize("count", [1, 30])
def test_size_that_a_connector_is_said_to_have_is_nearly_that(count: int, definition: str) -> None:
    paths = (f"/x{number}/:id" for number in range(count))
    endpoints = [endpoint("POST", path, **DEFINITIONS[definition]) for path in paths]
    frozen = snapshot(URL, endpoints)
    stored = orjson.dumps(frozen)
    compile_connector(frozen, team=TEAM, secrets={})
    before, _ = tracemalloc.get_traced_memory()
    made = [compile_connector(orjson.loads(stored), team=TEAM, secrets={}) for _ in range(20)]
    grown = (tracemalloc.get_traced_memory()[0] - before) / len(made)

    assert grown / 2 < compiled_bytes(frozen) < 4 * grown


def test_size_of_a_connector_has_what_each_of_its_schemas_leads_to() -> None:
    large = {"Large": {"description": "x" * 10_000}}
    entries = [
        endpoint(
            "POST", f"/n{at}", body_schema={"items": {"$ref": "#/$defs/Large"}, "title": title}
        )
        for at, title in enumerate("aab")
    ]
    frozen = snapshot(URL, entries)
    alone = compiled_bytes(frozen)
    frozen["definition"]["schemas"] = large

    assert compiled_bytes(frozen) - alone > 2 * 24 * 10_000
    assert compiled_bytes(frozen) - alone < 3 * 24 * 10_000
