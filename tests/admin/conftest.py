"""The admin API on loopback with a database of its own, its users, and what they usually make."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import jwt
import orjson
import pytest
from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient

from admin.api import application
from admin.control import Control
from gateway.database import Database
from gateway.ids import uuid7
from gateway.secrets.files import Permitted, SecretFiles
from tests.admin.client import MAPS, START, Fetch, Make, Record, Tokened, User, Users
from tests.admin.controls import SIGNING_KEY, control_with
from tests.admin.every_route import Parts


class Migrated(Protocol):
    """What the fixture `database` gives."""

    @property
    def dsn(self) -> str: ...


@pytest.fixture
async def control(database: Migrated, tmp_path: Path) -> AsyncIterator[Control]:
    """What the admin API is built with, on a migrated database."""
    store = Database(database.dsn)
    await store.open()
    permitted = Permitted(str(tmp_path), ("api.daydream.live",))
    yield control_with(store, SecretFiles([permitted]))
    await store.close()


@pytest.fixture
async def http(control: Control, aiohttp_client: Any) -> TestClient[Any, Any]:
    """A client of the admin API without a token, which keeps no cookie."""
    client: TestClient[Any, Any] = await aiohttp_client(
        application(control), cookie_jar=DummyCookieJar()
    )
    return client


@pytest.fixture
async def cut_off(aiohttp_client: Any, token: Tokened) -> AsyncIterator[User]:
    """An admin of the team red whose admin API has no database: for what ends before it is asked."""
    store = Database("postgresql://postgres@/none?host=/nowhere", timeout_s=1)
    await store.open()
    http = await aiohttp_client(application(control_with(store)))
    yield User(http, token({"red": "admin"}), "red")
    await store.close()


@pytest.fixture
def token() -> Tokened:
    """Make a token: `token({"red": "admin"}, user="ana", life_s=60)`."""

    def make(teams: dict[str, str], user: str = "ana", life_s: float = 600) -> str:
        now = int(time.time())
        claims = {
            "iss": "tests",
            "aud": "service-gateway",
            "iat": now,
            "exp": now + int(life_s),
            "sub": user,
            "teams": teams,
        }
        return jwt.encode(claims, SIGNING_KEY, algorithm="HS256")

    return make


@pytest.fixture
def user(http: TestClient[Any, Any], token: Tokened) -> Users:
    """Make a user: `user("editor")`, `user("admin", team="blue")`."""

    def make(role: str, team: str = "red", name: str = "ana") -> User:
        return User(http, token({team: role}, name), team)

    return make


@pytest.fixture
def admin(user: Users) -> User:
    """An admin of the team red."""
    return user("admin")


@pytest.fixture
def editor(user: Users) -> User:
    """An editor of the team red."""
    return user("editor", name="ed")


@pytest.fixture
def viewer(user: Users) -> User:
    """A viewer of the team red."""
    return user("viewer", name="vic")


@pytest.fixture
def stranger(user: Users) -> User:
    """An admin of the team blue."""
    return user("admin", team="blue", name="sam")


@pytest.fixture
def make_connector(admin: User) -> Make:
    """Make a connector: `make_connector(slug="maps", by=stranger)`; by default one that can be published."""

    async def make(by: User = admin, **overrides: Any) -> dict[str, Any]:
        body = {
            "slug": "maps",
            "upstreamBaseUrl": "https://maps.example.com/v2",
            "endpoints": [{"name": "find", "method": "GET", "path": "/find/:place"}],
        }
        answer = await by.post("/connectors", {**body, **overrides})
        assert answer.status == 201, answer.text
        made: dict[str, Any] = answer.json
        return made

    return make


@pytest.fixture
async def parts(admin: User, make_connector: Make, record: Record) -> Parts:
    """One of each object of the team red, by the name of its path parameter."""
    return await one_of_each(admin, make_connector, record, "maps")


@pytest.fixture
async def foreign_parts(stranger: User, make_connector: Make, record: Record) -> Parts:
    """One of each object of the team blue."""
    return await one_of_each(stranger, make_connector, record, "atlas")


async def one_of_each(user: User, make_connector: Make, record: Record, slug: str) -> Parts:
    connector = await make_connector(by=user, slug=slug, authType="bearer", secrets={"token": "t"})
    path = f"/connectors/{connector['id']}/endpoints"
    published = (await user.post(f"/connectors/{connector['id']}/publish")).json
    return {
        "connector": connector["id"],
        "version": str(published["publishedVersion"]),
        "endpoint": (await user.get(path)).json["items"][0]["id"],
        "name": "token",
        "key": (await user.post("/keys", {"name": "app"})).json["id"],
        "plan": (await user.post("/plans", {"name": "gold"})).json["id"],
        "template": "daydream",
        "request": await record(0, team_id=user.team, connector=slug),
    }


@pytest.fixture
async def fetch(database: Migrated) -> AsyncIterator[Fetch]:
    """Look into the database past the API: `fetch("SELECT …", value)`."""
    connection = await asyncpg.connect(
        database.dsn, server_settings={"search_path": "plugin_service_gateway"}
    )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )

    async def run(statement: str, *values: Any) -> list[dict[str, Any]]:
        return list(map(dict, await connection.fetch(statement, *values)))

    yield run
    await connection.close()


@pytest.fixture
def record(fetch: Fetch) -> Record:
    """Put a usage record into the table, so many minutes after the start; answers its request id."""

    async def put(minutes: float, **fields: Any) -> str:
        row = {
            "at": START + timedelta(minutes=minutes),
            "request_id": str(uuid7()),
            "trace_id": "",
            "team_id": "red",
            "connector_id": MAPS,
            "connector": "maps",
            "endpoint": "find",
            "method": "GET",
            "caller_type": "key",
            "caller_id": "k",
            "status": 200,
            "source": "upstream",
            "error_code": "",
            "total_ms": 10.0,
            "upstream_ms": 8.0,
            "first_byte_ms": 9.0,
            "own_ms": 2.0,
            "bytes_in": 1,
            "bytes_out": 100,
            "attempts": 1,
            "cached": False,
            "client_gone": False,
            "target": "",
            "client_address": "",
            **fields,
        }
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await fetch(
            f"INSERT INTO gateway_usage_record ({', '.join(row)}) VALUES ({places})",  # noqa: S608 - names of ours
            *row.values(),
        )
        return str(row["request_id"])

    return put
