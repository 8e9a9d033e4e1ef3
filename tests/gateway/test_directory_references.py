"""Secrets from outside go to hosts that the operator names, and one in a file follows its file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from gateway.clock import SystemClock
from gateway.database import Database
from gateway.directory import Directory, Draft
from gateway.model import Connector, Plan
from gateway.secrets.files import Permitted, SecretFiles
from gateway.secrets.vault import MasterKey, Reference, Vault
from gateway.transform.request import Mapped
from tests.dataplane import TEAM, Rows, connect, endpoint

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
ALLOWED = Reference("KEY", ("api.example.com", "b.example.com"))


class Migrated(Protocol):
    """The fixture `database`."""

    @property
    def dsn(self) -> str: ...


@asynccontextmanager
async def referring(
    database: Migrated, vault: Vault, reference: str, **definition: Any
) -> AsyncIterator[tuple[Directory, Rows]]:
    """A directory that knows a connector whose token is this reference."""
    store, connection = Database(database.dsn), await connect(database.dsn)
    await store.open()
    rows, directory = Rows(connection, vault), Directory(store, vault, Plan("", ""), SystemClock())
    url, own = "https://api.example.com", endpoint()
    id_ = await rows.connector(url, own, **({"auth_type": "bearer"} | definition))
    await rows.run(
        "INSERT INTO connector_secret (connector_id, team_id, name, reference, updated_by)"
        " VALUES ($1, $2, 'token', $3, 'ana')",
        *(id_, TEAM, reference),
    )
    try:
        yield directory, rows
    finally:
        await directory.close()
        await store.close()
        await connection.close()


@pytest.mark.parametrize(
    ("hosts", "is_there"),
    [
        ([], True),
        (["api.example.com"], True),
        (["api.example.com", "b.example.com"], True),
        (["evil.example.net"], False),
        (["b.example.com", "evil.example.net"], False),
    ],
)
async def test_reference_is_opened_when_all_hosts_may_have_it(
    database: Migrated, hosts: list[str], is_there: bool
) -> None:
    vault = Vault([MasterKey("first", bytes(32))], [ALLOWED], {"KEY": "from-environment"})
    targets: list[Any] = [{"url": f"https://{host}"} for host in hosts]
    async with referring(database, vault, "env:KEY", targets=targets) as (directory, _):
        found = await directory.connector(TEAM, "up")

    assert isinstance(found, Connector)
    mapped = found.router.match("GET", "/x").route.mapped
    assert isinstance(mapped, Mapped)
    expected = b"Bearer from-environment" if is_there else None
    assert dict(mapped.headers).get(b"Authorization") == expected
    assert mapped.missing_secret == (None if is_there else "token")


@pytest.mark.parametrize(
    ("url", "teams", "is_there"),
    [
        ("https://api.example.com", (TEAM,), True),
        ("https://api.example.com:443/v1", (), True),
        ("https://api.example.com", ("blue",), False),
        ("http://api.example.com", (), False),
        ("http://api.example.com:443", (), False),
        ("https://api.example.com:8443", (), False),
    ],
)
async def test_reference_is_for_one_origin_and_its_teams(
    database: Migrated, url: str, teams: tuple[str, ...], is_there: bool
) -> None:
    allowed = Reference("KEY", ("api.example.com",), teams)
    vault = Vault([MasterKey("first", bytes(32))], [allowed], {"KEY": "from-environment"})
    targets: list[Any] = [{"url": url}]
    async with referring(database, vault, "env:KEY", targets=targets) as (directory, _):
        found = await directory.connector(TEAM, "up")

    assert sent(found) == (b"Bearer from-environment" if is_there else None)
    assert missing(found) == (None if is_there else "token")


def sent(found: Connector | Draft | None) -> bytes | None:
    """What an upstream gets as a token, if there is one."""
    assert isinstance(found, Connector)
    mapped = found.router.match("GET", "/x").route.mapped
    assert isinstance(mapped, Mapped)
    return dict(mapped.headers).get(b"Authorization")


def missing(found: Connector | Draft | None) -> str | None:
    """The secret for want of which requests are refused, if there is one."""
    assert isinstance(found, Connector)
    return found.router.match("GET", "/x").route.mapped.missing_secret


def write(path: Path, content: str) -> None:
    """Put another file in its place, at once."""
    new = path.with_suffix(".new")
    new.write_text(content)
    new.replace(path)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    path = tmp_path / "secrets" / "key"
    path.write_text("first\n")
    return path


def permitting(key: Path) -> Vault:
    files = SecretFiles([Permitted(str(key.parent), ("api.example.com",))])
    return Vault([MasterKey("first", bytes(32))], files=files)


async def test_secret_in_a_file_that_changes_is_in_force_soon_after(
    database: Migrated, key: Path, eventually: Eventually
) -> None:
    async with referring(database, permitting(key), f"file:{key}") as (directory, _):
        directory.start()
        first = await directory.connector(TEAM, "up")
        assert sent(first) == b"Bearer first"

        write(key, "second")
        await eventually(lambda: directory.held_connector(TEAM, "up") is not first)
        assert sent(await directory.connector(TEAM, "up")) == b"Bearer second"

        remove(key)
        await eventually(lambda: directory.held_connector(TEAM, "up") is None)
        assert sent(await directory.connector(TEAM, "up")) is None

        write(key, "third")
        await eventually(lambda: directory.held_connector(TEAM, "up") is None)
        assert sent(await directory.connector(TEAM, "up")) == b"Bearer third"


async def test_file_that_can_be_no_such_secret_any_more_stops_the_connector_until_it_can(
    database: Migrated, key: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    signed: dict[str, Any] = {
        "auth_type": "aws-sigv4",
        "auth_config": {"access_key_ref": "token", "secret_key_ref": "token", "region": "r"},
    }
    vault = permitting(key)
    async with referring(database, vault, f"file:{key}", **signed) as (directory, _):
        directory.start()
        assert missing(await directory.connector(TEAM, "up")) is None
        for content, lacks in (("not/an access key", "token"), ("good", None)):
            found = await directory.connector(TEAM, "up")
            write(key, content)
            await eventually(lambda: directory.held_connector(TEAM, "up") is not found)  # noqa: B023 - waited for
            assert missing(await directory.connector(TEAM, "up")) == lacks

    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == [
        "a secret can't be used"
    ]


async def test_secret_in_a_file_that_stays_is_not_looked_up_again(
    database: Migrated, key: Path, eventually: Eventually
) -> None:
    async with referring(database, permitting(key), f"file:{key}") as (directory, rows):
        await rows.connector("https://api.example.com", endpoint(), slug="other")
        directory.start()
        await eventually(lambda: directory.is_listening)
        other = await directory.connector(TEAM, "other")
        found = await directory.connector(TEAM, "up")
        write(key, "second")
        await eventually(lambda: directory.held_connector(TEAM, "up") is not found)

        assert directory.held_connector(TEAM, "other") is other
