"""What has changed comes by the channel, and within seconds also without it."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway import changes
from gateway.changes import Changes
from gateway.clock import SystemClock
from gateway.database import Database
from gateway.ids import uuid7
from tests.dataplane import Migrated, connect
from tests.gateway.stoppable import Stoppable

Eventually = Callable[..., Awaitable[None]]
_LISTENER = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE application_name = 'service-gateway listen' AND datname = current_database()"
)


class Following:
    """Changes, and what they told."""

    def __init__(self, store: Database) -> None:
        self.store = store
        self.told: list[str] = []
        self.doubts = 0
        self.changes = Changes(store, SystemClock(), self.told.append, self._make_stale)

    def _make_stale(self) -> None:
        self.doubts += 1


@pytest.fixture
async def store(database: Migrated) -> AsyncIterator[Database]:
    store = Database(database.dsn)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def following(store: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Following]:
    monkeypatch.setattr(changes, "_POLL_EVERY_S", 0.05)
    monkeypatch.setattr(changes, "_PING_EVERY_S", 0.05)
    made = Following(store)
    yield made
    await made.changes.close()


async def announce(connection: Any, text: str) -> None:
    await connection.execute("SELECT announce($1)", text)


async def write_down(connection: Any, text: str) -> None:
    """A change whose announcement nobody hears."""
    await connection.execute("INSERT INTO configuration_change (announcement) VALUES ($1)", text)


async def test_change_is_told_by_the_channel_at_once(
    following: Following, database: Migrated, eventually: Eventually
) -> None:
    following.changes.start()
    await eventually(lambda: following.changes.way == "channel")
    connection = await connect(database.dsn)
    await announce(connection, "key one")
    await eventually(lambda: "key one" in following.told, 1)
    await write_down(connection, "key two")
    await eventually(lambda: "key two" in following.told)
    await connection.close()

    assert following.changes.known
    assert following.told == ["key one", "key two"], "what was heard is not told again by a poll"


async def test_change_of_a_transaction_that_was_open_during_a_poll_is_not_missed(
    following: Following, database: Migrated, eventually: Eventually
) -> None:
    """Its number is older than what the poll has seen; another with a later one was told before it."""
    one, two = await connect(database.dsn), await connect(database.dsn)
    following.changes.start()
    await eventually(lambda: following.changes.known)
    async with one.transaction():
        await write_down(one, "key late")
        await write_down(two, "key soon")
        await eventually(lambda: "key soon" in following.told)
        following.told.clear()
    await eventually(lambda: "key late" in following.told)
    await write_down(two, "key last")
    await eventually(lambda: "key last" in following.told)

    assert following.told == ["key late", "key last"], "each is told once"
    await one.close()
    await two.close()


async def test_change_is_told_while_nobody_can_listen(
    following: Following,
    database: Migrated,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as behind a pooler: to listen is allowed, and nothing is heard."""
    monkeypatch.setattr("gateway.database.CHANNEL", "another")
    monkeypatch.setattr(changes, "_PING_WITHIN_S", 0.2)
    caplog.set_level("INFO")
    following.changes.start()
    await eventually(lambda: following.changes.way == "poll")
    connection = await connect(database.dsn)
    await announce(connection, "key one")
    await eventually(lambda: "key one" in following.told)
    await connection.close()

    def ways() -> list[str]:
        return [r.__dict__["come_by"] for r in caplog.records if hasattr(r, "come_by")]

    await eventually(lambda: ways()[-1:] == ["poll"])


async def test_channel_that_is_silent_is_left_for_another(
    following: Following,
    database: Migrated,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its backend stands still; changes come by the poll until there is another."""
    monkeypatch.setattr(changes, "_PING_WITHIN_S", 0.2)
    following.changes.start()
    await eventually(lambda: following.changes.way == "channel")
    connection = await connect(database.dsn)
    pid = await connection.fetchval(_LISTENER)
    os.kill(pid, signal.SIGSTOP)
    try:
        await announce(connection, "key one")
        await eventually(lambda: "key one" in following.told, 1)
        await eventually(lambda: following.changes.way == "poll")
        await eventually(lambda: following.changes.way == "channel")
        assert await connection.fetchval(f"{_LISTENER} AND pid <> $1", pid) is not None
    finally:
        os.kill(pid, signal.SIGCONT)
    await connection.close()


async def test_what_a_poll_cannot_tell_is_doubted(
    following: Following,
    database: Migrated,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "_MOST", 3)
    following.changes.start()
    await eventually(lambda: following.changes.way == "channel")
    doubts = following.doubts
    connection = await connect(database.dsn)
    await write_down(connection, "key one")
    await eventually(lambda: "key one" in following.told)
    assert following.doubts == doubts
    async with connection.transaction():
        for _ in range(4):
            await write_down(connection, f"key {uuid7()}")
    await eventually(lambda: following.doubts == doubts + 1)
    await connection.close()


async def test_way_is_none_while_the_server_is_silent_and_the_channel_when_it_is_back(
    stoppable: Stoppable, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("_POLL_EVERY_S", 0.05), ("_POLL_WITHIN_S", 0.2), ("_POLL_HOLDS_S", 0.5),
        ("_PING_EVERY_S", 0.05), ("_PING_WITHIN_S", 0.2),
    ):  # fmt: skip
        monkeypatch.setattr(changes, name, value)
    store = Database(stoppable.dsn, timeout_s=0.3)
    await store.open()
    following = Following(store)
    following.changes.start()
    await eventually(lambda: following.changes.way == "channel")
    with stoppable.silent():
        await eventually(lambda: not following.changes.way)
    await eventually(lambda: following.changes.way == "channel", 10)
    await following.changes.close()
    await store.close()


async def test_what_everybody_has_been_told_is_forgotten_after_an_hour(
    following: Following, database: Migrated, eventually: Eventually
) -> None:
    connection = await connect(database.dsn)
    for age in ("2 hours", "1 minute"):
        await connection.execute(
            "INSERT INTO configuration_change (announcement, changed_at)"
            " VALUES ($1, now() - $1::text::interval)",
            age,
        )
    following.changes.start()
    kept = "SELECT string_agg(announcement, ',') FROM configuration_change"
    while await connection.fetchval(kept) != "1 minute":
        await following.store.row("SELECT 1")
    await connection.close()
