"""Names of time zones that mean the same to Python and to PostgreSQL."""

from __future__ import annotations

from zoneinfo import ZoneInfo, available_timezones

import pytest

from gateway import zones
from tests.dataplane import Migrated, connect


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Havana", "Etc/GMT+12", "EST"])
def test_names_of_the_iana_database_are_known(name: str) -> None:
    assert zones.is_known(name)
    assert zones.or_utc(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "localtime", "posixrules", "Factory", "right/UTC", "posix/UTC", "", "Europe", "utc", "UTC ",
        "../UTC", "/etc/localtime", "EST5EDT4", "Europe/Berlin\0", "x" * 300,
    ],
)  # fmt: skip
def test_names_that_only_a_system_knows_are_not(name: str) -> None:
    assert not zones.is_known(name)
    assert zones.or_utc(name) == "UTC"


async def test_postgresql_knows_every_name_that_python_takes(database: Migrated) -> None:
    connection = await connect(database.dsn)
    theirs = {row["name"] for row in await connection.fetch("SELECT name FROM pg_timezone_names")}
    await connection.close()
    ours = {name for name in available_timezones() if zones.is_known(name)}

    assert len(ours) > 500
    assert ours - theirs == set()
    assert all(ZoneInfo(name) for name in ours)
