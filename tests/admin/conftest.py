"""The admin API on loopback with a database of its own, its users, and what they usually make."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

import asyncpg
import jwt
import orjson
import pytest
from aiohttp.test_utils import TestClient

from admin.api import application
from admin.control import Control
from gateway.addresses import AddressPolicy
from gateway.database import Database
from gateway.model import Plan
from gateway.tokens import TokenRules, Tokens, TrustedKey
from gateway.vault import MasterKey, Reference, Vault
from tests.admin.client import Fetch, Make, Tokened, User, Users
from tests.admin.every_route import Parts

SIGNING_KEY = "a signing key that is long enough for HS256"
ENVIRONMENT = {"DAYDREAM_API_KEY": "dd-from-environment", "OTHER_KEY": "not for everyone"}
REFERENCES = [
    Reference("DAYDREAM_API_KEY", ("api.daydream.live",)),
    Reference("OTHER_KEY", ("other.example.com",)),
]


class Migrated(Protocol):
    """What the fixture `database` gives."""

    @property
    def dsn(self) -> str: ...


def control_with(store: Database) -> Control:
    """What the admin API is built with."""
    rules = TokenRules(issuer="tests", audience="service-gateway")
    return Control(
        database=store,
        vault=Vault([MasterKey("first", bytes(range(32)))], REFERENCES, ENVIRONMENT),
        tokens=Tokens(rules, [TrustedKey("HS256", SIGNING_KEY)]),
        policy=AddressPolicy(),
        default_plan=Plan(id="", name="default"),
    )


@pytest.fixture
async def control(database: Migrated) -> AsyncIterator[Control]:
    """What the admin API is built with, on a migrated database."""
    store = Database(database.dsn)
    await store.open()
    yield control_with(store)
    await store.close()


@pytest.fixture
async def http(control: Control, aiohttp_client: Any) -> TestClient[Any, Any]:
    """A client of the admin API without a token."""
    client: TestClient[Any, Any] = await aiohttp_client(application(control))
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
async def parts(admin: User, make_connector: Make) -> Parts:
    """One of each object of the team red, by the name of its path parameter."""
    connector = await make_connector(authType="bearer", secrets={"token": "t"})
    path = f"/connectors/{connector['id']}/endpoints"
    return {
        "connector": connector["id"],
        "endpoint": (await admin.get(path)).json["items"][0]["id"],
        "name": "token",
        "key": (await admin.post("/keys", {"name": "app"})).json["id"],
        "plan": (await admin.post("/plans", {"name": "gold"})).json["id"],
        "template": "daydream",
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
