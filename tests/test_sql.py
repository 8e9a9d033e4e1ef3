"""Every query is prepared against the migrated database, documented, bounded, and used."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest

import sql
from gateway.database import SCHEMA

ROOT = Path(__file__).resolve().parent.parent
SHARED = {"schema_migration": "the history of the schema, which all teams share"}
PARAMETER = re.compile(r"-- \$(\d+) \w+ (\S.*)")


class Migrated(Protocol):
    """A database with our schema; what the fixture `database` gives."""

    @property
    def dsn(self) -> str: ...


@pytest.fixture
async def connection(database: Migrated) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.dsn, server_settings={"search_path": SCHEMA})
    yield connection
    await connection.close()


def header(text: str) -> list[str]:
    """Return the comment lines below the name that a query begins with."""
    lines = text.split("\n")[1:]
    end = next((number for number, line in enumerate(lines) if line[:2] != "--"), len(lines))
    return lines[:end]


def purpose(text: str) -> list[str]:
    return [line.removeprefix("-- ") for line in header(text) if not PARAMETER.match(line)]


def statement(text: str) -> str:
    return re.sub(r"--.*", "", text)


def names_in_python() -> Iterator[str]:
    for package in ("gateway", "filters", "admin", "templates"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "sql.query":
                    yield ast.literal_eval(node.args[0])


async def test_every_query_is_what_its_header_says(connection: asyncpg.Connection) -> None:
    """PostgreSQL prepares it, and finds the parameters that the header names, with their types."""
    faults = []
    await connection.execute(sql.query("usage_writer.make_staging"))  # others read what it makes
    for name, text in sql.queries().items():
        described = [match.groups() for line in header(text) if (match := PARAMETER.match(line))]
        try:
            taken = (await connection.prepare(text)).get_parameters()
            types = [
                await connection.fetchval("SELECT $1::text::regtype::oid", type_name)
                for _, type_name in described
            ]
        except asyncpg.PostgresError as error:
            faults.append(f"{name}: {error}")
            continue
        numbers = [int(number) for number, _ in described]
        if numbers != list(range(1, len(taken) + 1)):
            faults.append(f"{name}: describes parameters {numbers}, takes {len(taken)}")
        elif types != [parameter.oid for parameter in taken]:
            faults.append(f"{name}: takes {', '.join(parameter.name for parameter in taken)}")

    assert sql.queries()
    assert not faults, "\n".join(faults)


def test_every_query_says_what_it_is_for() -> None:
    assert [name for name, text in sql.queries().items() if not purpose(text)] == []


def test_every_query_has_a_name_of_its_own() -> None:
    written = [
        f"{path.stem}.{name}"
        for path in (ROOT / "sql").glob("*.sql")
        for name in re.findall(r"^--\s*name\s*:\s*(\S+)", path.read_text("utf-8"), re.M)
    ]

    assert sorted(written) == sorted(sql.queries())


def test_every_query_is_used() -> None:
    assert set(sql.queries()) - set(names_in_python()) == set()


async def test_every_query_keeps_to_a_team_or_says_why_not(
    connection: asyncpg.Connection,
) -> None:
    tables = await connection.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = $1", SCHEMA
    )
    owned = {table["table_name"] for table in tables} - SHARED.keys()
    faults = [
        name
        for name, text in sql.queries().items()
        if owned & (words := set(re.findall(r"\w+", statement(text))))
        and "team_id" not in words
        and not any(line.startswith("Across teams") for line in purpose(text))
    ]

    assert owned
    assert faults == []


def test_every_list_is_ordered_and_limited() -> None:
    faults = [
        name
        for name, text in sql.queries().items()
        if " ".join(purpose(text)).startswith("List")
        and not re.search(r"\bORDER BY\b.*\bLIMIT\b", statement(text), re.S)
    ]

    assert faults == []


def test_unknown_query_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match=r"no query keys\.by_digset in sql/\*\.sql"):
        sql.query("keys.by_digset")


def test_migrations_count_from_one() -> None:
    numbers = [number for number, _, _ in sql.migrations()]

    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["0001_initial.sql", "0003_plans.sql"], id="gap"),
        pytest.param(["0001_initial.sql", "0001_plans.sql"], id="number given twice"),
        pytest.param(["0002_plans.sql"], id="no first"),
        pytest.param(["initial.sql"], id="no number"),
    ],
)
def test_migrations_that_do_not_count_are_refused(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "migrations").mkdir()
    for name in names:
        (tmp_path / "migrations" / name).write_text("")
    monkeypatch.setattr(sql, "files", lambda _: tmp_path)

    with pytest.raises(ValueError, match="files, not 0001_"):
        sql.migrations()
