"""PostgreSQL by asyncpg: one pool per process, and the migrations.

Everything lives in the schema plugin_service_gateway, which is the connection's search_path, so
that SQL files name tables plainly.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg
import orjson

import sql

if TYPE_CHECKING:
    Connection = (
        asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    )

log = logging.getLogger(__name__)

SCHEMA: Final = "plugin_service_gateway"
CHANNEL: Final = SCHEMA
_MIGRATION_LOCK: Final = 0x5347_4D49  # any fixed number of ours

_APPLIED = sql.query("schema.applied_migrations")
_CREATE = sql.query("schema.create")
_CREATE_RECORD = sql.query("schema.create_record")
_LOCK = sql.query("schema.lock")
_RECORD = sql.query("schema.record_migration")
_UNLOCK = sql.query("schema.unlock")

UniqueViolation = asyncpg.UniqueViolationError
ForeignKeyViolation = asyncpg.ForeignKeyViolationError
RowFault = (
    asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, OverflowError,
    TypeError,
)  # fmt: skip
"""What asyncpg raises when a row can't be stored whenever it is tried again."""
Row = asyncpg.Record


class DatabaseAway(Exception):
    """PostgreSQL does not answer; what was asked for may work later."""


class MigrationFault(Exception):
    """The database's schema isn't what this version knows; the text says what to do."""


AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,  # an answer that fits nothing, as when the server ends its backends
)
"""What asyncpg raises when the server is away, as opposed to when a statement is wrong."""
_COMMAND_S: Final = 30.0
_CLOSE_S: Final = 1.0
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 3), ("TCP_KEEPCNT", 3))
"""A peer that is gone without a word is noticed after twenty seconds without an answer."""


async def _connect(*args: Any, **options: Any) -> asyncpg.Connection[Any]:
    """Connect. Raises DatabaseAway whatever keeps it from that: each reason may pass."""
    try:
        made: asyncpg.Connection[Any] = await asyncpg.connect(*args, **options)
    except (*AWAY, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _away(error) from error
    _keep_alive(made)
    return made


def _keep_alive(connection: asyncpg.Connection[Any]) -> None:
    transport: asyncio.Transport = cast("Any", connection)._transport  # noqa: SLF001 - no setting for it
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family == socket.AF_UNIX:
        return
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if (option := getattr(socket, name, None)) is not None:
                peer.setsockopt(socket.IPPROTO_TCP, option, value)


async def _prepare(connection: asyncpg.Connection[Any]) -> None:
    with _telling_outages(connection):
        for name in ("json", "jsonb"):
            await connection.set_type_codec(
                name,
                schema="pg_catalog",
                encoder=lambda value: orjson.dumps(value, default=str).decode(),
                decoder=orjson.loads,
            )


@contextmanager
def _telling_outages(connection: Connection) -> Iterator[None]:
    """Raise DatabaseAway for an outage, and nothing else, while the connection is ours.

    asyncpg raises InterfaceError when a connection is used wrongly, and also for each use after the
    server has ended it.
    """
    try:
        yield
    except AWAY as error:
        raise _away(error) from error
    except asyncpg.InterfaceError as error:
        if not _is_lost(connection):
            raise
        raise _away(error) from error


@contextmanager
def _cutting(connection: Connection) -> Iterator[None]:
    """Cut a connection whose statement is given up.

    asyncpg would wait for the server to agree, and a cancellation that comes meanwhile is lost in that.
    """
    try:
        yield
    except (asyncio.CancelledError, TimeoutError, asyncpg.InternalClientError):
        with suppress(asyncpg.InterfaceError):
            connection.terminate()
        raise


def _is_lost(connection: Connection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True  # it is the pool's again, which happens in its block only when it was lost


def _away(error: Exception) -> DatabaseAway:
    return DatabaseAway(str(error) or type(error).__name__)


class Channel:
    """A connection on which changes are announced; `lost` is set when it breaks."""

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self.lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: self.lost.set())

    async def run(self, statement: str, *values: Any) -> None:
        """A statement on this very connection. Raises DatabaseAway."""
        with _telling_outages(self._connection), _cutting(self._connection):
            await self._connection.execute(statement, *values)

    async def close(self) -> None:
        """Close the connection; when the server says nothing to that, it is cut."""
        with suppress(*AWAY, asyncpg.InterfaceError):
            await self._connection.close(timeout=_CLOSE_S)


class Database:
    """A pool of connections. Statements come from `sql/` by name.

    Nothing waits for a server that is silent but for a time that is bounded: a connection within
    `timeout_s`, a statement for half a minute.
    """

    def __init__(
        self,
        dsn: str,
        *,
        most_connections: int = 10,
        timeout_s: float = 5,
        is_current: bool = True,
    ) -> None:
        """One that is not current is as good as away until it has been migrated."""
        self._dsn = dsn
        self._most = most_connections
        self._timeout_s = timeout_s
        self._is_current = is_current
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Make the pool; connections are made when they are first needed."""
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=self._most,
            timeout=self._timeout_s,
            command_timeout=_COMMAND_S,
            connect=_connect,
            init=_prepare,
            server_settings={
                "search_path": SCHEMA,
                "application_name": "service-gateway",
                # A list's filters come as parameters: each call is planned for those it has.
                "plan_cache_mode": "force_custom_plan",
            },
        )

    async def close(self) -> None:
        """Close the pool; connections in use are given a moment."""
        if self._pool is not None:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await self._pool.close()
            except AWAY:
                self._pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool. Raises DatabaseAway when there is none to be had."""
        if not self._is_current:
            raise DatabaseAway("its schema has not been looked at yet")
        async with self._connection() as connection:
            yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        assert self._pool is not None, "open() comes first"
        try:
            async with self._pool.acquire(timeout=self._timeout_s) as connection:
                with _telling_outages(connection), _cutting(connection):
                    yield connection
        except AWAY as error:
            raise _away(error) from error

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Connection]:
        """A connection inside a transaction; when it is cancelled or late, it is cut, not rolled back."""
        async with self.connection() as connection:
            transaction = connection.transaction(**options)
            await transaction.start()
            try:
                yield connection
            except TimeoutError:
                raise
            except Exception:
                await transaction.rollback()
                raise
            await transaction.commit()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Connection]:
        """A connection whose queries all see one moment, whatever is written meanwhile."""
        reading = self.transaction(isolation="repeatable_read", readonly=True)
        async with reading as connection:
            yield connection

    async def rows(self, statement: str, *values: Any) -> list[Row]:
        """All rows of a query."""
        async with self.connection() as connection:
            return await connection.fetch(statement, *values)

    async def row(self, statement: str, *values: Any) -> Row | None:
        """The first row of a query."""
        async with self.connection() as connection:
            return await connection.fetchrow(statement, *values)

    async def look_up(
        self, statement: str, *values: Any, within_s: float | None = None
    ) -> Row | None:
        """The first row of a query that takes no time: within `within_s` (`timeout_s`), or DatabaseAway.

        Connections that were open when a look-up was in vain are not used again: they may be as silent.
        """
        try:
            async with asyncio.timeout(within_s or self._timeout_s):
                return await self.row(statement, *values)
        except TimeoutError as error:
            assert self._pool is not None
            await self._pool.expire_connections()
            raise _away(error) from error

    async def run(self, statement: str, *values: Any) -> None:
        """A statement without an answer."""
        async with self.connection() as connection:
            await connection.execute(statement, *values)

    async def listen(self, announced: Callable[[str], None]) -> Channel:
        """Hear changes on a connection of their own. Raises DatabaseAway."""
        if not self._is_current:
            raise DatabaseAway("its schema has not been looked at yet")
        connection = await _connect(
            self._dsn,
            timeout=self._timeout_s,
            command_timeout=self._timeout_s,
            server_settings={
                "search_path": SCHEMA,
                "application_name": "service-gateway listen",
            },
        )
        try:
            channel = Channel(connection)
            with _telling_outages(connection):
                await connection.add_listener(CHANNEL, lambda *event: announced(str(event[3])))
        except BaseException:
            connection.terminate()
            raise
        return channel

    async def migrate(self) -> list[str]:
        """Bring the schema up to date under an advisory lock; answers what was applied.

        Safe when many processes do it at once. Raises MigrationFault when an applied migration's
        text has changed, or the database is newer than this version.
        """
        async with self._connection() as connection:
            await connection.execute(_LOCK, _MIGRATION_LOCK)
            try:
                done = await self._migrate(connection)
            finally:
                await connection.execute(_UNLOCK, _MIGRATION_LOCK)
        self._is_current = True
        return done

    async def _migrate(self, connection: Connection) -> list[str]:
        await connection.execute(_CREATE)
        await connection.execute(_CREATE_RECORD)
        applied = {row["number"]: row["checksum"] for row in await connection.fetch(_APPLIED)}
        known = sql.migrations()
        if newer := set(applied) - {number for number, _, _ in known}:
            raise MigrationFault(
                f"the database has migration {max(newer)}, which this version does not know: "
                "install the newer version of service-gateway"
            )
        done = []
        for number, name, text in known:
            checksum = hashlib.sha256(text.encode()).hexdigest()
            if number not in applied:
                async with connection.transaction():
                    await connection.execute(text)
                    await connection.execute(_RECORD, number, name, checksum)
                done.append(name)
            elif applied[number] != checksum:
                raise MigrationFault(f"migration {name} was changed after it was applied")
        return done


async def copy_records(
    connection: Connection, table: str, columns: Sequence[str], records: Sequence[Sequence[Any]]
) -> None:
    """COPY records into a table (of the connection's search path)."""
    await connection.copy_records_to_table(table, records=records, columns=columns)
