"""Rows come from PostgreSQL, or from a snapshot until it has answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.database import Database, DatabaseAway
from gateway.secrets.vault import MasterKey, Vault
from gateway.snapshot import CONNECTOR, KEY, PLAN, Snapshots
from gateway.source import Source
from tests.dataplane import TEAM, Migrated, Rows, connect

Eventually = Callable[..., Awaitable[None]]
VAULT = Vault([MasterKey("first", b"1" * 32)])


@pytest.fixture
async def rows(database: Migrated) -> AsyncIterator[Rows]:
    connection = await connect(database.dsn)
    yield Rows(connection, VAULT)
    await connection.close()


async def test_what_is_kept_of_the_database_is_what_the_next_start_has(
    database: Migrated, rows: Rows, tmp_path: Path
) -> None:
    await rows.plan()
    await rows.connector("http://127.0.0.1:9", auth_type="bearer", secrets={"token": "s3cret"})
    public_id = (await rows.key())[3:11]
    clock = SystemClock()
    snapshots = Snapshots(tmp_path, VAULT, clock, 60)
    store = Database(database.dsn)
    await store.open()
    source = Source(store, clock, snapshots)
    names = {KEY: [public_id, "unknown"], CONNECTOR: [f"up {TEAM}"], PLAN: [TEAM, "blue"]}
    await source.keep(names)
    first = {(k, n): await source.row(k, n) for k, found in names.items() for n in found}
    await store.close()

    away = Database("postgresql://127.0.0.1:1/nowhere", is_current=False)
    await away.open()
    with pytest.raises(DatabaseAway, match="schema"):
        await away.row("SELECT 1")
    second = Source(away, clock, snapshots, snapshots.read())
    assert second.snapshot_at is not None
    assert not second.must_leave()
    for (kind, name), row in first.items():
        kept = await second.row(kind, name)
        assert (kept is None) == (row is None)
        if row is not None and kept is not None:
            assert {n: str(v) for n, v in kept.items() if n != "connector_ids"} == {
                n: str(v) for n, v in dict(row).items() if n != "connector_ids"
            }
    with pytest.raises(DatabaseAway):
        await second.row(KEY, "another")
    await second.keep({KEY: [], CONNECTOR: [], PLAN: []})
    assert snapshots.read() is not None
    assert second.leave_snapshot()
    assert not second.leave_snapshot()
    with pytest.raises(DatabaseAway):
        await second.row(KEY, public_id)
    await away.close()


async def test_snapshot_has_to_be_left_when_it_has_become_too_old(tmp_path: Path) -> None:
    clock = SystemClock()
    Snapshots(tmp_path, VAULT, clock, 60).keep(clock.now() - 30, {KEY: {}, CONNECTOR: {}, PLAN: {}})
    held = Snapshots(tmp_path, VAULT, clock, 60).read()
    database = Database("postgresql://127.0.0.1:1/nowhere")

    assert held is not None
    assert not Source(database, clock, Snapshots(tmp_path, VAULT, clock, 60), held).must_leave()
    assert Source(database, clock, Snapshots(tmp_path, VAULT, clock, 20), held).must_leave()
