"""Rotating the master key: every secret, none twice, none lost, whoever else is at work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from gateway.database import Database
from gateway.secrets.rotation import Outcome, rotate
from gateway.secrets.vault import MasterKey, Sealed, Vault
from tests.dataplane import Migrated, Rows, connect

OLD = MasterKey("old", bytes(32))
NEW = MasterKey("new", bytes(range(32)))
BEFORE = Vault([OLD])
VAULT = Vault([NEW, OLD])
URL = "http://127.0.0.1:9"


@pytest.fixture
async def store(database: Migrated) -> AsyncIterator[Database]:
    store = Database(database.dsn)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def rows(database: Migrated) -> AsyncIterator[Rows]:
    """Makes rows that the old key sealed."""
    connection = await connect(database.dsn)
    yield Rows(connection, BEFORE)
    await connection.close()


def ignored(_done: int, _total: int) -> None:
    """Progress that nobody looks at."""


async def stored(rows: Rows) -> dict[tuple[str, str], asyncpg.Record]:
    found = await rows.connection.fetch("SELECT * FROM connector_secret")
    return {(str(row["connector_id"]), row["name"]): row for row in found}


async def opened(rows: Rows, vault: Vault) -> dict[tuple[str, str], str]:
    """Every sealed secret, by connector and name."""
    return {
        (connector, name): vault.open(
            Sealed(row["key_id"], row["sealed"]),
            team=row["team_id"],
            connector=connector,
            name=name,
        )
        for (connector, name), row in (await stored(rows)).items()
        if row["sealed"] is not None
    }


async def make(rows: Rows, count: int, **connector: Any) -> UUID:
    id_ = await rows.connector(URL, **connector)
    for number in range(count):
        await rows.secret(id_, f"n{number:03}", f"v{number}", team=connector.get("team", "red"))
    return id_


async def test_every_secret_of_every_team_is_sealed_with_the_first_key(
    store: Database, rows: Rows
) -> None:
    first = await make(rows, 450)
    second = await make(rows, 3, slug="other", team="blue")
    before = await opened(rows, BEFORE)
    told: list[tuple[int, int]] = []
    outcome = await rotate(store, VAULT, lambda done, total: told.append((done, total)))

    assert outcome == Outcome("new", 453)
    assert await opened(rows, Vault([NEW])) == before
    assert {UUID(connector) for connector, _ in before} == {first, second}
    assert told == [(200, 453), (400, 453), (453, 453)]


async def test_sessions_are_sealed_anew_too(store: Database, rows: Rows) -> None:
    digests = [bytes([number]) * 32 for number in range(3)]
    for digest in digests:
        place = {"team": "", "connector": "session", "name": digest.hex()}
        sealed = BEFORE.seal("a token", **place)
        days = 1 if digest != digests[2] else -1  # the last one has expired: it needs no key
        await rows.run(
            "INSERT INTO admin_session (id, digest, key_id, sealed, expires_at)"
            " VALUES (gen_random_uuid(), $1, $2, $3, now() + $4 * interval '1 day')",
            *(digest, sealed.key_id, sealed.content, days),
        )
    await make(rows, 1)

    assert await rotate(store, VAULT, ignored) == Outcome("new", 3)
    found = await rows.connection.fetch("SELECT digest, key_id, sealed FROM admin_session")
    assert [row["key_id"] for row in found if row["digest"] == digests[2]] == ["old"]
    for row in found:
        if row["digest"] != digests[2]:
            place = {"team": "", "connector": "session", "name": row["digest"].hex()}
            opened = Vault([NEW]).open(Sealed(row["key_id"], row["sealed"]), **place)
            assert opened == "a token"


async def test_nothing_else_of_a_secret_changes(store: Database, rows: Rows) -> None:
    id_ = await make(rows, 1)
    await rows.run(
        "INSERT INTO connector_secret (connector_id, team_id, name, reference, updated_by)"
        " VALUES ($1, 'red', 'r', 'env:NAME', 'ana')",
        id_,
    )
    before = await stored(rows)
    await rotate(store, VAULT, ignored)
    after = await stored(rows)

    for place, row in before.items():
        changed = {name for name, value in row.items() if after[place][name] != value}
        assert changed == ({"key_id", "sealed"} if row["sealed"] else set())


async def test_second_rotation_has_nothing_to_do(store: Database, rows: Rows) -> None:
    await make(rows, 5)
    await rotate(store, VAULT, ignored)
    before = await stored(rows)

    assert await rotate(store, VAULT, ignored) == Outcome("new", 0)
    assert await stored(rows) == before


async def test_interrupted_rotation_goes_on_where_it_stopped(store: Database, rows: Rows) -> None:
    await make(rows, 450)
    before = await opened(rows, BEFORE)

    def stop(done: int, _total: int) -> None:
        if done == 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rotate(store, VAULT, stop)
    assert await opened(rows, VAULT) == before
    outcome = await rotate(store, VAULT, ignored)

    assert outcome == Outcome("new", 50)
    assert await opened(rows, Vault([NEW])) == before


async def test_secret_that_does_not_open_is_told_and_left_alone(
    store: Database, rows: Rows
) -> None:
    id_ = await make(rows, 3)
    await rows.run("UPDATE connector_secret SET key_id = 'lost' WHERE name = 'n000'")
    await rows.run("UPDATE connector_secret SET sealed = 'rubbish' WHERE name = 'n001'")
    outcome = await rotate(store, VAULT, ignored)

    assert (outcome.resealed, outcome.held) == (1, 0)
    assert outcome.faults == (
        'master key "lost" is not configured',
        f'secret "n001" of connector {id_} does not open with master key "old"',
    )
    assert {row["key_id"] for row in (await stored(rows)).values()} == {"lost", "old", "new"}


async def test_rotation_of_nothing_but_lost_secrets_ends(store: Database, rows: Rows) -> None:
    await make(rows, 2)
    await rows.run("UPDATE connector_secret SET key_id = 'lost'")
    outcome = await rotate(store, VAULT, ignored)

    assert (outcome.resealed, outcome.held, len(outcome.faults)) == (0, 0, 2)


async def test_rows_that_others_hold_are_waited_for(
    store: Database, rows: Rows, database: Migrated
) -> None:
    await make(rows, 3)
    other = await connect(database.dsn)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM connector_secret WHERE name = 'n001' FOR UPDATE")
    waits = 0

    async def release(_seconds: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            await transaction.rollback()

    outcome = await rotate(store, VAULT, ignored, sleep=release)
    await other.close()

    assert (outcome, waits) == (Outcome("new", 3), 2)
    assert len(await opened(rows, Vault([NEW]))) == 3


async def test_rows_that_others_never_release_are_told(
    store: Database, rows: Rows, database: Migrated
) -> None:
    await make(rows, 3)
    other = await connect(database.dsn)
    async with other.transaction():
        await other.execute("SELECT FROM connector_secret WHERE name = 'n001' FOR UPDATE")

        async def wait(_seconds: float) -> None:
            """Nothing changes."""

        outcome = await rotate(store, VAULT, ignored, sleep=wait)
    await other.close()

    assert outcome == Outcome("new", 2, held=1)


async def test_rotations_at_once_do_each_secret_once(store: Database, rows: Rows) -> None:
    await make(rows, 450)
    before = await opened(rows, BEFORE)
    outcomes = await asyncio.gather(*(rotate(store, VAULT, ignored) for _ in range(4)))

    assert sum(outcome.resealed for outcome in outcomes) == 450
    assert await opened(rows, Vault([NEW])) == before


async def test_secret_that_is_set_meanwhile_keeps_its_new_value(
    store: Database, rows: Rows, database: Migrated
) -> None:
    id_ = await make(rows, 600)
    connection = await connect(database.dsn)
    writer = Rows(connection, VAULT)

    async def overwrite() -> None:
        for number in range(0, 600, 7):
            await writer.secret(id_, f"n{number:03}", "changed")

    await asyncio.gather(rotate(store, VAULT, ignored), overwrite())
    await connection.close()
    values = await opened(rows, Vault([NEW]))

    assert {name: value for (_, name), value in values.items()} == {
        f"n{number:03}": f"v{number}" if number % 7 else "changed" for number in range(600)
    }
