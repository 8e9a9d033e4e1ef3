"""Secrets from the environment go to hosts that the operator names, every target among them."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from gateway.clock import SystemClock
from gateway.database import Database
from gateway.directory import Directory
from gateway.model import Connector, Plan
from gateway.vault import MasterKey, Reference, Vault
from tests.dataplane import TEAM, Rows, connect, endpoint

ALLOWED = Reference("KEY", ("api.example.com", "b.example.com"))


class Migrated(Protocol):
    """The fixture `database`."""

    @property
    def dsn(self) -> str: ...


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
    store, connection = Database(database.dsn), await connect(database.dsn)
    await store.open()
    rows, directory = Rows(connection, vault), Directory(store, vault, Plan("", ""), SystemClock())
    targets: list[Any] = [{"url": f"https://{host}"} for host in hosts]
    url, own = "https://api.example.com", endpoint()
    id_ = await rows.connector(url, own, auth_type="bearer", targets=targets)
    await rows.run(
        "INSERT INTO connector_secret (connector_id, team_id, name, reference, updated_by)"
        " VALUES ($1, $2, 'token', 'env:KEY', 'ana')",
        *(id_, TEAM),
    )
    found = await directory.connector(TEAM, "up")
    await directory.close()
    await store.close()
    await connection.close()

    assert isinstance(found, Connector)
    mapped = found.router.match("GET", "/x").route.mapped
    expected = b"Bearer from-environment" if is_there else None
    assert dict(mapped.headers).get(b"Authorization") == expected
    assert mapped.missing_secret == (None if is_there else "token")
