"""Records on their way to PostgreSQL: none lost, none doubled, whatever the database does."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.database import Database
from gateway.limits.callers import used
from gateway.limits.memory import MemoryLimits
from gateway.metrics import Metrics
from gateway.model import Caller, Plan
from gateway.secrets.vault import MasterKey, Vault
from gateway.usage.record import UsageRecord
from gateway.usage.writer import UsageWriter
from tests.clocks import HandClock
from tests.dataplane import KEY_ID, Migrated, Rows, connect
from tests.gateway.stoppable import Stoppable

Eventually = Callable[..., Awaitable[None]]
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
_NUMBERS = itertools.count()
_PARTITIONS = (
    "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = 'gateway_usage_record'::regclass ORDER BY c.relname"
)
_WRITERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'service-gateway' AND datname = current_database()"
)


def record(**fields: Any) -> UsageRecord:
    usual = UsageRecord(
        at=AT.timestamp(), request_id=f"r{next(_NUMBERS)}", trace_id="", team_id="red",
        connector_id=None, connector="up", endpoint="e", method="GET", caller_type="user",
        caller_id="ana", status=200, source="upstream", error_code="", total_ms=1.0,
        upstream_ms=1.0, first_byte_ms=1.0, own_ms=1.0, bytes_in=0, bytes_out=0, attempts=1,
        cached=False, client_gone=False, target="", client_address="", replayed=False,
    )  # fmt: skip
    return usual._replace(**fields)


@asynccontextmanager
async def writing(
    dsn: str, *, start: bool = True, **settings: Any
) -> AsyncIterator[tuple[UsageWriter, Metrics]]:
    """A writer; at the end it is closed, unless the test did that."""
    store, metrics = Database(dsn, timeout_s=1), Metrics("0")
    await store.open()
    usual = {"flush_every_s": 0.01, "most_waiting": 100_000, "keep_days": 36_500}
    writer = UsageWriter(store, metrics, **(usual | settings))
    if start:
        writer.start()
    yield writer, metrics
    await writer.close(1)
    await store.close()


@pytest.fixture
async def rows(database: Migrated) -> AsyncIterator[Rows]:
    connection = await connect(database.dsn)
    yield Rows(connection, Vault([MasterKey("first", bytes(32))]))
    await connection.close()


async def test_what_waits_is_written_when_the_writer_is_closed(
    database: Migrated, rows: Rows
) -> None:
    async with writing(database.dsn, start=False) as (writer, metrics):
        for number in range(12_000):
            writer.put(record(request_id=f"r{number:05}"))
        assert metrics.usage_queue_depth() == 12_000
        await writer.close(10)

        assert metrics.usage_queue_depth() == 0
        assert metrics.usage_records == {"written": 12_000, "dropped": 0}
    assert [row["request_id"] for row in await rows.records(12_000)] == [
        f"r{number:05}" for number in range(12_000)
    ]


async def test_batch_that_is_written_twice_changes_nothing(database: Migrated, rows: Rows) -> None:
    batch = [record() for _ in range(10)]
    async with writing(database.dsn) as (writer, metrics):
        for each in [*batch, *batch]:
            writer.put(each)
        await writer.close(5)

        assert sum(metrics.usage_records.values()) == 20
    assert len(await rows.records(10)) == 10


@pytest.mark.parametrize(
    "bad",
    [
        {"caller_id": "with \x00"},
        {"caller_id": "\udcff"},
        {"status": 99_999},
        {"bytes_out": 1 << 70},
        {"team_id": None},
        {"connector_id": "no uuid"},
    ],
    ids=["nul", "surrogate", "small", "big", "null", "uuid"],
)
async def test_row_that_the_database_cannot_take_is_set_aside_and_the_others_go_on(
    database: Migrated, rows: Rows, caplog: pytest.LogCaptureFixture, bad: dict[str, Any]
) -> None:
    async with writing(database.dsn) as (writer, metrics):
        for number in range(21):
            writer.put(record(request_id="bad", **bad) if number == 7 else record())
        await writer.close(5)

        assert metrics.usage_records == {"written": 20, "dropped": 1}
    assert len(await rows.records(20)) == 20
    errors = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
    assert [getattr(entry, "request_id", "") for entry in errors] == ["bad"]


async def test_database_that_takes_nothing_now_loses_nothing(
    database: Migrated, rows: Rows, eventually: Eventually
) -> None:
    """As after a failover to a replica that is not yet the primary."""
    name = await rows.connection.fetchval("SELECT current_database()")
    await rows.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with writing(database.dsn) as (writer, metrics):
        for _ in range(100):
            writer.put(record())
        await eventually(lambda: metrics.dependencies.get("postgresql") is False)
        assert metrics.usage_records == {"written": 0, "dropped": 0}
        await rows.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await rows.run(_WRITERS)
        await eventually(lambda: metrics.usage_records["written"] == 100)

        assert metrics.dependencies["postgresql"] is True
    assert len(await rows.records(100)) == 100


async def test_postgresql_that_is_away_loses_nothing_and_doubles_nothing(
    stoppable: Stoppable, eventually: Eventually
) -> None:
    async with writing(stoppable.dsn) as (writer, metrics):
        writer.put(record())
        await eventually(lambda: metrics.usage_records["written"] == 1)
        await stoppable.stop()
        for _ in range(10_000):
            writer.put(record())
        await eventually(lambda: metrics.dependencies.get("postgresql") is False)
        assert metrics.usage_queue_depth() == 10_000
        await stoppable.start()
        await eventually(lambda: metrics.usage_records["written"] == 10_001)

        assert metrics.usage_records["dropped"] == 0
    connection = await connect(stoppable.dsn)
    count = await connection.fetchval("SELECT count(*) FROM gateway_usage_record")
    await connection.close()
    assert count == 10_001


async def test_connections_that_break_in_the_middle_lose_and_double_nothing(
    database: Migrated, rows: Rows, eventually: Eventually
) -> None:
    async with writing(database.dsn) as (writer, metrics):
        for _ in range(20):
            for _ in range(100):
                writer.put(record())
            await asyncio.sleep(0)
            await rows.run(_WRITERS)
        await eventually(lambda: metrics.usage_records["written"] == 2000)

        assert metrics.usage_records["dropped"] == 0
    assert len(await rows.records(2000)) == 2000


async def test_past_the_bound_the_oldest_are_dropped_and_counted(database: Migrated) -> None:
    async with writing(database.dsn, start=False, most_waiting=1000) as (writer, metrics):
        for _ in range(1500):
            writer.put(record())

        assert metrics.usage_queue_depth() == 1000
        assert metrics.usage_records["dropped"] == 500
        await writer.close(5)
        assert metrics.usage_records == {"written": 1000, "dropped": 500}


async def test_what_cannot_be_written_at_the_end_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with writing("postgresql://127.0.0.1:1/nowhere", start=False) as (writer, metrics):
        for _ in range(3):
            writer.put(record())
        await writer.close(0.1)

        assert metrics.usage_records == {"written": 0, "dropped": 3}
    assert "usage records are lost" in caplog.text


async def test_partitions_are_kept_from_the_start(database: Migrated, rows: Rows) -> None:
    await rows.run("SELECT make_partition('gateway_usage_record', '2026-01-01')")
    async with writing(database.dsn, keep_days=3), asyncio.timeout(5):
        found: list[str] = []
        while len(found) != 5 or "gateway_usage_record_20260101" in found:
            found = [row[0] for row in await rows.connection.fetch(_PARTITIONS)]


async def test_keys_last_use_is_written_and_never_goes_back(database: Migrated, rows: Rows) -> None:
    await rows.key(id=UUID(KEY_ID))
    used = "SELECT last_used_at FROM gateway_api_key"
    async with writing(database.dsn, start=False) as (writer, _):
        for hours in (1, 3, 2):
            at = (AT + timedelta(hours=hours)).timestamp()
            writer.put(record(at=at, caller_type="key", caller_id=KEY_ID))
        await writer.close(5)
        assert await rows.connection.fetchval(used) == AT + timedelta(hours=3)
        writer.put(record(caller_type="key", caller_id=KEY_ID))
        await writer.close(5)

    assert await rows.connection.fetchval(used) == AT + timedelta(hours=3)


async def test_key_that_is_locked_does_not_hold_the_records_up(
    database: Migrated, rows: Rows, eventually: Eventually
) -> None:
    await rows.key(id=UUID(KEY_ID))
    name = await rows.connection.fetchval("SELECT current_database()")
    await rows.run(f"ALTER DATABASE {name} SET lock_timeout = '20ms'")
    async with writing(database.dsn) as (writer, metrics), rows.connection.transaction():
        await rows.run("SELECT * FROM gateway_api_key FOR UPDATE")
        for count in (1, 2):
            writer.put(record(caller_type="key", caller_id=KEY_ID))
            await eventually(lambda count=count: metrics.usage_records["written"] == count)


async def test_used_counts_what_reached_an_upstream_by_when_it_was(database: Migrated) -> None:
    days = {
        timedelta(0): AT,
        timedelta(minutes=14): AT,  # one quarter of an hour
        timedelta(hours=-30): AT - timedelta(hours=30),
        timedelta(days=-4): AT - timedelta(days=5),  # one number for the days amid a month
        timedelta(days=-5): AT - timedelta(days=5),
    }
    async with writing(database.dsn, start=False) as (writer, _):
        for offset in days:
            writer.put(record(at=(AT + offset).timestamp()))
        writer.put(record(attempts=0))
        writer.put(record(caller_id="bob"))
        await writer.close(5)
        found = await writer.used(AT + timedelta(hours=1))

    counted = Counter(days.values())
    assert sorted((r["caller_id"], r["since"], r["used"]) for r in found) == [
        *sorted(("ana", since, used) for since, used in counted.items()),
        ("bob", AT, 1),
    ]


@pytest.mark.parametrize(
    ("zone", "now"),
    [
        ("America/Havana", "2026-03-08T18:00Z"),
        ("America/Havana", "2026-11-01T18:00Z"),
        ("Atlantic/Azores", "2026-03-29T18:00Z"),
        ("Atlantic/Azores", "2026-10-25T18:00Z"),
        ("Pacific/Kiritimati", "2026-05-31T10:20Z"),
        ("Asia/Kathmandu", "2026-05-01T03:20Z"),
    ],
)
async def test_restart_counts_what_the_process_before_it_counted(
    database: Migrated, zone: str, now: str
) -> None:
    clock = HandClock()
    clock.wall = datetime.fromisoformat(now).timestamp()
    before, after = MemoryLimits(clock), MemoryLimits(clock)
    made = Caller("user", "ana", "", "red", Plan("p", "p", time_zone=zone))
    moments = [clock.wall - 60 - hours * 1800 for hours in range(2 * 24 * 36)]
    for at in reversed(moments):
        await before.charge(made.quotas, 1, at)
    async with writing(database.dsn, start=False) as (writer, _):
        for at in moments:
            writer.put(record(at=at))
        await writer.close(5)
        for quota, count, since in used(await writer.used(datetime.fromisoformat(now))):
            after.restore(quota, count, since)

    assert (await after.peek(made.quotas)).standings == (await before.peek(made.quotas)).standings


async def test_writer_goes_on_whatever_its_table_is_like(
    database: Migrated, rows: Rows, eventually: Eventually
) -> None:
    async with writing(database.dsn) as (writer, metrics):
        await rows.run("ALTER TABLE gateway_usage_record RENAME TO elsewhere")
        writer.put(record())
        await eventually(lambda: metrics.dependencies.get("postgresql") is False)
        await rows.run("ALTER TABLE elsewhere RENAME TO gateway_usage_record")
        with suppress(asyncpg.PostgresError):
            await rows.run(_WRITERS)
        await eventually(lambda: metrics.usage_records["written"] == 1)
