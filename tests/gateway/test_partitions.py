"""Partitions by day: there when their day begins, gone with their rows after retention."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from gateway.database import Database
from gateway.partitions import Partitions
from tests.dataplane import Migrated

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TABLE = "gateway_health_check"
_NAMES = (
    "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'gateway_health_check'::regclass ORDER BY c.relname"
)
_ROWS = "SELECT target, tableoid::regclass::text AS place FROM gateway_health_check ORDER BY at"
_ROW = (
    "INSERT INTO gateway_health_check (connector_id, at, id, team_id, target, status, error)"
    " VALUES (gen_random_uuid(), $1, gen_random_uuid(), 'red', $2, 'healthy', '')"
)


@pytest.fixture
async def store(database: Migrated) -> AsyncIterator[Database]:
    store = Database(database.dsn)
    await store.open()
    yield store
    await store.close()


def suffix(name: str) -> str:
    return name.removeprefix(f"{TABLE}_")


async def names(store: Database) -> list[str]:
    return [suffix(row["relname"]) for row in await store.rows(_NAMES)]


async def rows(store: Database) -> dict[str, str]:
    """Give the rows, by the partition that each is in."""
    return {row["target"]: suffix(row["place"]) for row in await store.rows(_ROWS)}


async def test_partitions_are_made_ahead_and_dropped_with_their_rows(store: Database) -> None:
    partitions = Partitions(store, TABLE, keep_days=3)
    await partitions.keep(AT)
    for days in range(-5, 1):
        await store.run(_ROW, AT + timedelta(days=days), f"d{days}")
    assert await names(store) == ["20260228", "20260301", "20260302", "20260303", "other"]
    assert (await rows(store))["d0"] == "20260301"

    await partitions.keep(AT + timedelta(days=2))
    assert (await names(store))[:2] == ["20260228", "20260301"]
    assert await rows(store) == {"d-1": "20260228", "d0": "20260301"}
    await partitions.keep(AT + timedelta(days=3, hours=11))
    assert list(await rows(store)) == ["d0"]


async def test_day_whose_rows_came_before_its_partition_stays_whole(store: Database) -> None:
    await store.run(_ROW, AT, "early")
    await Partitions(store, TABLE, keep_days=3).keep(AT)
    await store.run(_ROW, AT + timedelta(hours=1), "late")

    assert await names(store) == ["20260228", "20260302", "20260303", "other"]
    assert await rows(store) == {"early": "other", "late": "other"}


async def test_tables_do_not_drop_each_others_days(store: Database) -> None:
    await Partitions(store, "gateway_usage_record", keep_days=3).keep(AT)
    await Partitions(store, TABLE, keep_days=3).keep(AT + timedelta(days=30))
    found = await store.rows(_NAMES.replace(TABLE, "gateway_usage_record"))

    assert len(found) == 5
