"""The pool, the channel of announcements and the migrations, with a real PostgreSQL."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

import sql
from gateway.database import (
    CHANNEL,
    Database,
    DatabaseAway,
    MigrationFault,
    RowFault,
    UniqueViolation,
    copy_records,
)
from tests.dataplane import Migrated, connect
from tests.gateway.stoppable import Stoppable

Eventually = Callable[..., Awaitable[None]]
NOBODY = "postgresql://127.0.0.1:1/nowhere"


@pytest.fixture
async def store(database: Migrated) -> AsyncIterator[Database]:
    store = Database(database.dsn, most_connections=2, timeout_s=0.5)
    await store.open()
    yield store
    await store.close()


async def test_rows_come_as_records_and_json_as_values(store: Database) -> None:
    row = await store.row("SELECT $1::jsonb AS a, $2::json AS b, 'x' AS c", {"k": [1]}, None)
    rows = await store.rows("SELECT n FROM generate_series(1, 3) AS n")

    assert row is not None
    assert dict(row) == {"a": {"k": [1]}, "b": None, "c": "x"}
    assert [found["n"] for found in rows] == [1, 2, 3]
    assert await store.row("SELECT 1 WHERE false") is None
    assert (await store.rows("SHOW search_path"))[0][0] == "plugin_service_gateway"


async def test_transaction_is_all_or_nothing(store: Database) -> None:
    async def half() -> None:
        async with store.transaction() as connection:
            await connection.execute("CREATE TABLE half (n integer)")
            raise KeyError

    with pytest.raises(KeyError):
        await half()
    async with store.transaction() as connection:
        await connection.execute("CREATE TABLE half (n integer)")
        await copy_records(connection, "half", ["n"], [(1,), (2,)])

    assert [row["n"] for row in await store.rows("SELECT n FROM half")] == [1, 2]


async def test_snapshot_sees_one_moment_and_writes_nothing(store: Database) -> None:
    await store.run("CREATE TABLE moment (n integer)")
    async with store.snapshot() as connection:
        before = await connection.fetchval("SELECT count(*) FROM moment")
        await store.run("INSERT INTO moment VALUES (1)")
        assert await connection.fetchval("SELECT count(*) FROM moment") == before == 0
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("INSERT INTO moment VALUES (2)")


async def test_statement_that_is_wrong_is_not_taken_for_a_server_that_is_away(
    store: Database,
) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await store.run("SELECT * FROM nothing")
    with pytest.raises(RowFault):
        await store.run("SELECT $1::smallint", 99_999)
    with pytest.raises(UniqueViolation):
        await store.run("INSERT INTO schema_migration SELECT * FROM schema_migration")


async def test_connection_that_is_used_wrongly_is_not_taken_for_a_server_that_is_away(
    store: Database,
) -> None:
    with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        await store.run("SELECT $1::text", "a", "b")
    with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
        async with store.connection() as connection:
            await asyncio.gather(*(connection.execute("SELECT 1") for _ in range(2)))
    async with store.connection() as kept:
        await kept.execute("SELECT 1")
    with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
        await kept.execute("SELECT 1")
    await store.close()
    with pytest.raises(asyncpg.InterfaceError, match="pool is clos"):
        await store.run("SELECT 1")


def is_lost(connection: Any) -> bool:
    """Tell whether the pool has taken a connection back because it is lost."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


async def test_connection_that_is_lost_between_two_statements_is_an_outage(
    store: Database, eventually: Eventually
) -> None:
    async def lose(held: AbstractAsyncContextManager[Any]) -> None:
        async with held as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            await store.run("SELECT pg_terminate_backend($1)", pid)
            await eventually(lambda: is_lost(connection))
            await connection.execute("SELECT 1")

    for held in (store.connection(), store.transaction()):
        with pytest.raises(DatabaseAway):
            await lose(held)
    assert await store.row("SELECT 1") is not None


async def test_server_that_refuses_connections_is_away(database: Migrated) -> None:
    for dsn in (
        database.dsn.replace("/test_", "/no_such_"),
        database.dsn.replace("//postgres@", "//nobody@"),
    ):
        refused = Database(dsn)
        await refused.open()
        with pytest.raises(DatabaseAway):
            await refused.run("SELECT 1")
        await refused.close()


async def test_server_that_is_away_is_one_kind_of_error(
    store: Database, database: Migrated
) -> None:
    away = Database(NOBODY, timeout_s=0.5)
    await away.open()
    for attempt in (
        away.run("SELECT 1"), away.rows("SELECT 1"), away.row("SELECT 1"),
        away.listen(lambda _: None),
    ):  # fmt: skip
        with pytest.raises(DatabaseAway):
            await attempt
    await away.close()
    with pytest.raises(DatabaseAway):
        await store.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await store.row("SELECT 1") is not None


async def test_server_that_takes_connections_and_says_nothing_is_away_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = Database(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x", timeout_s=0.2)
        await away.open()
        async with asyncio.timeout(3):
            with pytest.raises(DatabaseAway):
                await away.run("SELECT 1")
            with pytest.raises(DatabaseAway):
                await away.listen(lambda _: None)
        await away.close()


async def test_pool_that_is_used_up_is_waited_for_and_then_away(store: Database) -> None:
    async with store.connection(), store.connection(), asyncio.timeout(3):
        with pytest.raises(DatabaseAway):
            await store.run("SELECT 1")
    await store.run("SELECT 1")


async def test_announcements_are_heard_until_the_connection_is_lost(
    store: Database, eventually: Eventually
) -> None:
    heard: list[str] = []
    channel = await store.listen(heard.append)
    await store.run("SELECT pg_notify($1, 'one')", CHANNEL)
    await store.run("SELECT pg_notify('another', 'channel')")
    await store.run("SELECT pg_notify($1, 'two')", CHANNEL)
    await eventually(lambda: len(heard) == 2)
    assert heard == ["one", "two"]
    assert not channel.lost.is_set()
    await store.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'service-gateway listen' AND datname = current_database()"
    )
    await eventually(channel.lost.is_set)
    with pytest.raises(DatabaseAway):
        await channel.run("SELECT 1")
    await channel.close()


async def test_listening_that_is_refused_may_be_tried_again(database: Migrated) -> None:
    for dsn in (
        database.dsn.replace("/test_", "/no_such_"),
        database.dsn.replace("//postgres@", "//nobody@"),
    ):
        with pytest.raises(DatabaseAway):
            await Database(dsn).listen(lambda _: None)


async def test_answer_that_fits_nothing_is_an_outage_and_its_connection_is_not_used_again(
    store: Database,
) -> None:
    """asyncpg says so when the server ends its backends in the middle of an answer."""
    for held in (store.connection(), store.transaction()):
        with pytest.raises(DatabaseAway, match="unknown protocol state"):
            async with held as connection:
                raise asyncpg.InternalClientError("got result for unknown protocol state 3")
        assert is_lost(connection)


@pytest.fixture
async def impatient(stoppable: Stoppable) -> AsyncIterator[Database]:
    """A database with open connections, of a server that can be silenced."""
    store = Database(stoppable.dsn, most_connections=2, timeout_s=0.3)
    await store.open()
    async with store.connection() as one, store.connection() as two:
        await asyncio.gather(one.execute("SELECT 1"), two.execute("SELECT 1"))
    yield store
    await store.close()


async def test_work_that_is_cancelled_while_the_server_is_silent_ends_at_once(
    stoppable: Stoppable, impatient: Database
) -> None:
    """Without waiting for the server's agreement, and the cancellation is not lost in that."""

    async def write() -> None:
        async with impatient.transaction() as connection:
            begun.set()
            await connection.execute("SELECT pg_sleep(60)")

    begun = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(write())
        await begun.wait()
        with stoppable.silent():
            async with asyncio.timeout(0.5):
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert await impatient.row("SELECT 1") is not None


async def test_look_up_of_a_silent_server_is_given_up_in_time_and_the_next_connects_anew(
    stoppable: Stoppable, impatient: Database
) -> None:
    with stoppable.silent():
        for within_s in (None, 0.1):
            async with asyncio.timeout(1):
                with pytest.raises(DatabaseAway):
                    await impatient.look_up("SELECT 1", within_s=within_s)
        async with asyncio.timeout(1):
            with pytest.raises(DatabaseAway):
                await impatient.listen(lambda _: None)
    assert await impatient.look_up("SELECT 1") is not None


async def test_pool_of_a_silent_server_is_closed_in_time(
    stoppable: Stoppable, impatient: Database
) -> None:
    channel = await impatient.listen(lambda _: None)
    with stoppable.silent():
        async with asyncio.timeout(3):
            await channel.close()
            await impatient.close()


async def test_connection_by_tcp_notices_a_peer_that_is_gone_without_a_word(
    database: Migrated,
) -> None:
    async with relayed(database.dsn) as dsn:
        store = Database(dsn)
        await store.open()
        async with store.connection() as connection:
            transport: Any = cast("Any", connection)._con._transport  # noqa: SLF001 - see there
            own = transport.get_extra_info("socket")
            options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
            seconds = [own.getsockopt(socket.IPPROTO_TCP, option) for option in options]
            is_on = own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await store.close()

    assert (is_on, seconds) == (1, [10, 3, 3])


@asynccontextmanager
async def relayed(dsn: str) -> AsyncIterator[str]:
    """The server's Unix socket by TCP."""
    asked = parse_qs(urlsplit(dsn).query)
    path = f"{asked['host'][0]}/.s.PGSQL.{asked['port'][0]}"

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while block := await reader.read(65_536):
                writer.write(block)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await asyncio.open_unix_connection(path)
        await asyncio.gather(pipe(reader, theirs[1]), pipe(theirs[0], writer))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    name = urlsplit(dsn).path
    async with server:
        yield f"postgresql://postgres@127.0.0.1:{port}{name}?sslmode=disable"


async def test_pool_heals_when_the_server_is_back(stoppable: Stoppable) -> None:
    store = Database(stoppable.dsn, timeout_s=0.5)
    await store.open()
    await store.run("SELECT 1")
    await stoppable.stop()
    with pytest.raises(DatabaseAway):
        await store.run("SELECT 1")
    await stoppable.start()
    assert await store.row("SELECT 1") is not None
    await store.close()


@pytest.fixture
async def empty(database: Migrated) -> str:
    """A database without a schema."""
    connection = await connect(database.dsn)
    await connection.execute("DROP SCHEMA plugin_service_gateway CASCADE")
    await connection.close()
    return database.dsn


async def migrate(dsn: str) -> list[str]:
    store = Database(dsn)
    await store.open()
    try:
        return await store.migrate()
    finally:
        await store.close()


async def test_many_that_migrate_at_once_apply_each_migration_once(empty: str) -> None:
    done = await asyncio.gather(*(migrate(empty) for _ in range(8)))

    names = [name for _, name, _ in sql.migrations()]
    assert sorted(done, reverse=True) == [names, *([[]] * 7)]
    connection = await connect(empty)
    assert await connection.fetchval("SELECT count(*) FROM schema_migration") == len(names)
    await connection.close()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("UPDATE schema_migration SET checksum = 'x' WHERE number = 1", "was changed after"),
        ("INSERT INTO schema_migration VALUES (999, 'later', 'x')", "migration 999.*install"),
    ],
)
async def test_schema_of_another_version_is_refused(
    database: Migrated, change: str, text: str
) -> None:
    connection: Any = await connect(database.dsn)
    await connection.execute(change)
    with pytest.raises(MigrationFault, match=text):
        await migrate(database.dsn)
    # the lock is free: another one may try
    assert (
        await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    )
    await connection.close()
