"""Keys, plans, connectors and secrets: every change is in force within a second."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.directory import Directory, Draft, KeyRecord
from gateway.lifecycle.wiring import Worker
from gateway.model import Connector
from gateway.problems import Rejected
from gateway.transform.request import Mapped
from tests.dataplane import TEAM, Migrated, Rows, connect, endpoint, snapshot, working
from tests.gateway.stoppable import Stoppable

URL = "http://127.0.0.1:9"
IN_FORCE_S = 1.0
Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
async def worker(
    database: Migrated, tmp_path: Path, eventually: Eventually
) -> AsyncIterator[Worker]:
    async with working(database.dsn, tmp_path) as worker:
        await eventually(lambda: worker.runtime.directory.is_listening)
        yield worker


@pytest.fixture
async def rows(database: Migrated, worker: Worker) -> AsyncIterator[Rows]:
    connection = await connect(database.dsn)
    yield Rows(connection, worker.vault)
    await connection.close()


@pytest.fixture
def directory(worker: Worker) -> Directory:
    return worker.runtime.directory


async def in_force(
    look: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool], within_s: float = IN_FORCE_S
) -> None:
    """Look again and again; fails when it doesn't hold in time."""
    async with asyncio.timeout(within_s):
        while not holds(await look()):  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ("revoked_at = now()", lambda record: record.revoked),
        ("expires_at = 'epoch'", lambda record: record.caller.expires_at == 0),
        ("digest = '\\x01'", lambda record: record.digest == b"\x01"),
        ("previous_digest = '\\x02', previous_until = 'epoch'",
         lambda record: record.previous_digest == b"\x02"),
        ("allowed_ips = '{10.0.0.0/8}'", lambda record: record.caller.allowed_networks),
        ("allowed_endpoints = '{a}'", lambda record: record.caller.allowed_endpoints),
        ("connector_ids = ARRAY[id]", lambda record: record.caller.connector_ids),
    ],
)  # fmt: skip
async def test_change_of_a_key_is_in_force(
    directory: Directory, rows: Rows, change: str, holds: Callable[[KeyRecord], Any]
) -> None:
    public_id = (await rows.key())[3:11]
    before = await directory.key(public_id)
    assert before is not None
    assert not holds(before)
    await rows.run(f"UPDATE gateway_api_key SET {change}")  # noqa: S608 - of the test's own

    await in_force(lambda: directory.key(public_id), lambda now: bool(holds(now)))


async def test_new_and_deleted_keys_are_in_force(directory: Directory, rows: Rows) -> None:
    assert await directory.key("abcdefgh") is None
    await rows.key(public_id="abcdefgh")
    await in_force(lambda: directory.key("abcdefgh"), lambda now: now is not None)
    await rows.run("DELETE FROM gateway_api_key")
    await in_force(lambda: directory.key("abcdefgh"), lambda now: now is None)


async def test_plans_are_in_force_for_keys_and_users(directory: Directory, rows: Rows) -> None:
    public_id = (await rows.key())[3:11]
    other_team = (await rows.key(team="blue"))[3:11]

    async def look() -> tuple[int, int, int]:
        records = [await directory.key(public_id), await directory.key(other_team)]
        mine, theirs = (record.caller.plan.rate_limit for record in records if record)
        return mine, (await directory.plan_of(TEAM)).rate_limit, theirs

    assert await look() == (100, 100, 100)
    default = await rows.plan("default", rate_limit=7)
    await in_force(look, lambda now: now == (7, 7, 100))
    await rows.run("UPDATE gateway_plan SET rate_limit = 8")
    await in_force(look, lambda now: now == (8, 8, 100))
    gold = await rows.plan("gold", rate_limit=9)
    await rows.run("UPDATE gateway_api_key SET plan_id = $1 WHERE public_id = $2", gold, public_id)
    await in_force(look, lambda now: now == (9, 8, 100))
    await rows.run("UPDATE gateway_plan SET rate_limit = 10 WHERE id = $1", gold)
    await in_force(look, lambda now: now == (10, 8, 100))
    await rows.run("UPDATE gateway_plan SET name = 'was default' WHERE id = $1", default)
    await in_force(look, lambda now: now == (10, 100, 100))


def base_of(found: Connector | Draft | None) -> str:
    return found.definition.upstream_base_url if isinstance(found, Connector) else str(found)


async def test_connectors_are_in_force_as_they_are_published(
    directory: Directory, rows: Rows
) -> None:
    async def look() -> str:
        return base_of(await directory.connector(TEAM, "up"))

    assert await look() == "None"
    id_: UUID = await rows.connector(URL)
    await in_force(look, lambda now: now == URL)
    frozen = snapshot(f"{URL}/2", [endpoint()]) | {"id": str(id_)}
    await rows.publish(id_, frozen, 2)
    await in_force(look, lambda now: now == f"{URL}/2")
    await rows.run("UPDATE service_connector SET status = 'draft'")
    await in_force(look, lambda now: now == "Draft(slug='up')")
    await rows.run("UPDATE service_connector SET status = 'archived'")
    await in_force(look, lambda now: now == "None")
    await rows.run("UPDATE service_connector SET status = 'published'")
    await in_force(look, lambda now: now == f"{URL}/2")
    await rows.run("DELETE FROM service_connector")
    await in_force(look, lambda now: now == "None")


async def test_connector_with_a_new_slug_is_found_by_that(directory: Directory, rows: Rows) -> None:
    await rows.connector(URL, slug="old")

    async def old() -> Any:
        return await directory.connector(TEAM, "old")

    async def new() -> Any:
        return await directory.connector(TEAM, "new")

    assert isinstance(await old(), Connector)
    assert await new() is None
    await rows.run("UPDATE service_connector SET slug = 'new'")

    await in_force(old, lambda now: now is None)
    await in_force(new, lambda now: now is not None)


async def test_secrets_are_in_force_and_one_that_does_not_open_is_missing(
    directory: Directory, rows: Rows, caplog: pytest.LogCaptureFixture
) -> None:
    id_ = await rows.connector(URL, auth_type="bearer", secrets={"token": "first"})

    async def look() -> Any:
        found = await directory.connector(TEAM, "up")
        assert isinstance(found, Connector)
        mapped = found.router.match("GET", "/x").route.mapped
        assert isinstance(mapped, Mapped)
        return mapped.missing_secret or dict(mapped.headers)[b"Authorization"]

    assert await look() == b"Bearer first"
    await rows.secret(id_, "token", "second")
    await in_force(look, lambda now: now == b"Bearer second")
    await rows.secret(id_, "token", "of another team", team="blue")
    await in_force(look, lambda now: now == "token")
    assert "does not open" in caplog.text
    await rows.run("DELETE FROM connector_secret")
    await in_force(look, lambda now: now == "token")


_LISTENER = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE application_name = 'service-gateway listen' AND datname = current_database()"
)


async def test_lost_channel_is_opened_again_and_everything_looked_up_anew(
    directory: Directory, rows: Rows, eventually: Eventually
) -> None:
    public_id = (await rows.key())[3:11]
    await directory.key(public_id)
    pid = await rows.connection.fetchval(_LISTENER)
    await rows.run("SELECT pg_terminate_backend($1)", pid)
    await rows.run("UPDATE gateway_api_key SET revoked_at = now()")

    await in_force(lambda: directory.key(public_id), lambda now: now.revoked, 5)
    await eventually(lambda: directory.is_listening)
    assert await rows.connection.fetchval(_LISTENER) != pid


async def test_revocation_is_in_force_within_ten_seconds_while_nobody_can_listen(
    database: Migrated,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.database.CHANNEL", "")  # to listen is refused
    connection = await connect(database.dsn)
    async with working(database.dsn, tmp_path) as worker:
        directory, rows = worker.runtime.directory, Rows(connection, worker.vault)
        public_id = (await rows.key())[3:11]
        await eventually(lambda: directory.ready)
        await directory.key(public_id)
        await rows.run("UPDATE gateway_api_key SET revoked_at = now()")
        await in_force(lambda: directory.key(public_id), lambda now: now.revoked, 10)
        assert not directory.is_listening
    await connection.close()


async def test_known_callers_do_not_wait_for_a_silent_database(
    stoppable: Stoppable, tmp_path: Path, eventually: Eventually
) -> None:
    async with working(stoppable.dsn, tmp_path, database={"timeout_s": 1}) as worker:
        directory = worker.runtime.directory
        await eventually(lambda: directory.is_listening)
        connection = await connect(stoppable.dsn)
        rows = Rows(connection, worker.vault)
        await rows.connector(URL)
        public_id = (await rows.key())[3:11]
        changes = directory.changes
        await rows.plan(team="blue")
        await eventually(lambda: directory.changes > changes)
        await directory.key(public_id)
        await directory.connector(TEAM, "up")
        pid = await connection.fetchval(_LISTENER)
        await rows.run("SELECT pg_terminate_backend($1)", pid)
        await eventually(lambda: not directory.is_listening)
        await eventually(lambda: directory.is_listening)
        with stoppable.silent():
            async with asyncio.timeout(0.2):
                assert await directory.key(public_id) is not None
                assert isinstance(await directory.connector(TEAM, "up"), Connector)
            async with asyncio.timeout(3):
                with pytest.raises(Rejected, match="store_unavailable"):
                    await directory.key("12345678")
        await connection.close()


async def test_listener_outlives_an_error_that_nobody_expected(
    database: Migrated,
    tmp_path: Path,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server is there and refuses the ping, as when a statement is cancelled."""
    monkeypatch.setattr("gateway.changes._PING_EVERY_S", 0.05)
    connection = await connect(database.dsn)
    async with working(database.dsn, tmp_path) as worker:
        directory, rows = worker.runtime.directory, Rows(connection, worker.vault)
        public_id = (await rows.key())[3:11]
        await directory.key(public_id)
        with monkeypatch.context() as patch:
            patch.setattr("gateway.changes._PING", "SELECT 1 / 0, $1::text")
            await eventually(lambda: "division by zero" in caplog.text)
            await rows.run("UPDATE gateway_api_key SET revoked_at = now()")
            await in_force(lambda: directory.key(public_id), lambda now: now.revoked, 5)
        await eventually(lambda: directory.is_listening, 10)
    await connection.close()


async def test_what_is_in_memory_serves_while_postgresql_is_away(
    stoppable: Stoppable, tmp_path: Path, eventually: Eventually
) -> None:
    async with working(stoppable.dsn, tmp_path) as worker:
        directory = worker.runtime.directory
        connection = await connect(stoppable.dsn)
        rows = Rows(connection, worker.vault)
        await rows.connector(URL)
        public_id, later = (await rows.key())[3:11], (await rows.key())[3:11]
        await directory.key(public_id)
        await directory.connector(TEAM, "up")
        await eventually(lambda: directory.is_listening)
        await stoppable.stop()
        await eventually(lambda: not directory.is_listening)

        assert await directory.key(public_id) is not None
        assert isinstance(await directory.connector(TEAM, "up"), Connector)
        assert directory.ready
        for look in (directory.key(later), directory.connector(TEAM, "unknown")):
            async with asyncio.timeout(8):
                with pytest.raises(Rejected, match="store_unavailable") as refused:
                    await look
            assert refused.value.headers == [(b"Retry-After", b"1")]

        await stoppable.start()
        await eventually(lambda: directory.is_listening)
        assert await directory.key(later) is not None
        with contextlib.suppress(Exception):
            await connection.close()
        connection = await connect(stoppable.dsn)
        await connection.execute("UPDATE gateway_api_key SET revoked_at = now()")
        await in_force(lambda: directory.key(public_id), lambda now: now.revoked)
        await connection.close()
