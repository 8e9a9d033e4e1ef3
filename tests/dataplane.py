"""The data plane under test: a gateway on loopback, with a database and rows of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import asyncpg
import orjson
import pytest
from multidict import CIMultiDict

from gateway import pipeline
from gateway.exchange import Body, Exchange, Filter, Proceed, Response
from gateway.identity import keys
from gateway.ids import uuid7
from gateway.lifecycle import wiring
from gateway.lifecycle.wiring import Worker
from gateway.model import Caller, Connector, Plan
from gateway.options import load
from gateway.problems import Rejected
from gateway.secrets.vault import Vault
from gateway.server.connection import Patience
from gateway.server.server import Server
from gateway.settings import DEFAULT_PIPELINE, Settings
from gateway.transform.compiling import compile_connector
from tests.loopback import PATIENCE_S, Client, Fields, Message

TEAM = "red"
KEY_ID = "00000000-0000-7000-8000-000000000001"
LOOPBACK = ("127.0.0.1", "::1")
GIVEN = frozenset({"caller", "connector", "endpoint", "outgoing"})
_EVERY = "SELECT * FROM gateway_usage_record ORDER BY at, request_id"


class Migrated(Protocol):
    """What the fixture `database` gives."""

    @property
    def dsn(self) -> str: ...


def endpoint(
    method: str = "GET", path: str = "/:rest*", name: str = "", **definition: Any
) -> dict[str, Any]:
    """An endpoint as a publish freezes it."""
    given = {"name": name or f"{method} {path}", "method": method, "path": path}
    return {"id": str(uuid7()), **given, "definition": definition}


ANYTHING = (endpoint("GET"), endpoint("POST"), endpoint("PUT"), endpoint("DELETE"))


def snapshot(
    url: str, endpoints: Sequence[Mapping[str, Any]] = ANYTHING, **definition: Any
) -> dict[str, Any]:
    """A connector as a publish freezes it."""
    definition["upstream_base_url"] = url
    given = {"id": str(uuid7()), "slug": "up", "definition": definition}
    return {**given, "endpoints": list(endpoints)}


def connector(url: str, *endpoints: Mapping[str, Any], **definition: Any) -> Connector:
    """A compiled connector of the team, without secrets."""
    frozen = snapshot(url, endpoints or ANYTHING, **definition)
    return compile_connector(frozen, team=TEAM, secrets={})


def caller(**settings: Any) -> Caller:
    """A key of the team; `plan` and everything else may be set."""
    plan = settings.pop("plan", Plan("plan", "default"))
    return Caller(
        **{"kind": "key", "id": KEY_ID, "name": "abc", "team": TEAM, "plan": plan} | settings
    )


def exchange(
    method: str = "GET",
    path: str = "/up/x",
    fields: Fields = (),
    body: bytes | None = None,
    at: Connector | None = None,
) -> Exchange:
    """An exchange made by hand; at a connector it has its endpoint and a caller, too."""
    path, _, query = path.partition("?")
    made = Exchange(
        method,
        path,
        query,
        CIMultiDict(fields),
        tuple((name.encode(), value.encode()) for name, value in fields),
        Body(None) if body is None else Body.of(body),
        client_address="192.0.2.1",
        request_id="request-1",
        traceparent=f"00-{'a' * 32}-{'b' * 16}-00",
    )
    if at is not None:
        made.caller, made.connector = caller(), at
        match = at.router.match(method, path[len(f"/{at.slug}") :])
        made.endpoint, made.params = match.route, match.params
    return made


def answering(status: int = 200, body: bytes = b"inner", fields: Fields = ()) -> Proceed:
    """The rest of a pipeline that gives this answer."""

    async def proceed(_exchange: Exchange) -> Response:
        return Response(status, [(n.encode(), v.encode()) for n, v in fields], body)

    return proceed


async def unreachable(_exchange: Exchange) -> Response:
    """The rest of a pipeline for a request that must not get there."""
    raise AssertionError("the request went on")


async def refusal_of(stage: Filter, refused: Exchange) -> Rejected:
    """The refusal with which a filter answers."""
    with pytest.raises(Rejected) as caught:
        await stage(refused, unreachable)
    return caught.value


class Watched(Exchange):
    """An exchange that notes which fields that filters give are read and filled."""

    noted: list[tuple[str, str]]

    @classmethod
    def of(cls, plain: Exchange) -> Watched:
        """This exchange, watched from now on."""
        watched = cls.__new__(cls)
        watched.__dict__.update(plain.__dict__, noted=[])
        return watched

    def __getattribute__(self, name: str) -> Any:
        if name in GIVEN:
            self.noted.append(("read", name))
        return super().__getattribute__(name.removeprefix("known_"))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in GIVEN:
            self.noted.append(("filled", name))
        super().__setattr__(name, value)

    async def end(self, _exchange: Exchange) -> Response:
        """The rest of a pipeline: what is noted until then is what counts."""
        self.noted = _Closed(self.noted)
        return Response(200)


class _Closed(list[tuple[str, str]]):
    def append(self, _entry: tuple[str, str]) -> None:
        """Too late to be noted."""


async def assert_honest(stage: Filter, plain: Exchange) -> None:
    """What a filter reads of its exchange before it goes on is its `needs`, what it fills its `gives`."""
    watched = Watched.of(plain)
    await stage(watched, watched.end)
    watched.close()
    assert {name for how, name in watched.noted if how == "read"} == stage.needs & GIVEN
    assert {name for how, name in watched.noted if how == "filled"} == stage.gives & GIVEN


class Rows:
    """Makes rows as the admin plane would; each change announces itself."""

    def __init__(self, connection: asyncpg.Connection[Any], vault: Vault) -> None:
        self.connection = connection
        self._vault = vault

    async def plan(self, name: str = "default", team: str = TEAM, **columns: Any) -> UUID:
        """A plan; answers its id."""
        values = {"id": uuid7(), "team_id": team, "name": name, "display_name": name}
        sizes = {"max_request_size": 1 << 20, "max_response_size": 10 << 20}
        rates = {"rate_limit": 100_000, "rate_window_s": 60}
        return await self._insert("gateway_plan", **values, **sizes, **(rates | columns))

    async def key(self, team: str = TEAM, **columns: Any) -> str:
        """A key; answers its value, of which characters 3 to 11 are its public id."""
        made = keys.make()
        owner = {"id": uuid7(), "team_id": team, "name": "a key", "created_by": "ana"}
        stored = {"public_id": made.public_id, "digest": made.digest}
        await self._insert("gateway_api_key", **(owner | stored | columns))
        return made.value

    async def connector(
        self,
        url: str,
        *endpoints: Mapping[str, Any],
        slug: str = "up",
        team: str = TEAM,
        secrets: Mapping[str, str] | None = None,
        **definition: Any,
    ) -> UUID:
        """A published connector with its secrets; answers its id."""
        frozen = snapshot(url, endpoints or ANYTHING, **definition) | {"slug": slug}
        id_ = UUID(frozen["id"])
        named = {"slug": slug, "display_name": slug, "created_by": "ana"}
        await self._insert(
            "service_connector", id=id_, team_id=team, status="draft", definition="{}", **named
        )
        for name, value in (secrets or {}).items():
            await self.secret(id_, name, value, team=team)
        await self.publish(id_, frozen, 1)
        return id_

    async def publish(self, id_: UUID, frozen: Mapping[str, Any], version: int) -> None:
        """Freeze a version of a connector and have callers get it."""
        document = orjson.dumps(frozen).decode()
        await self.run(
            "INSERT INTO connector_version (connector_id, team_id, version, snapshot, published_by)"
            " SELECT id, team_id, $2, $3, 'ana' FROM service_connector WHERE id = $1",
            *(id_, version, document),
        )
        await self.run(
            "UPDATE service_connector SET status = 'published', published_version = $2"
            " WHERE id = $1",
            *(id_, version),
        )

    async def secret(self, id_: UUID, name: str, value: str, team: str = TEAM) -> None:
        """Set a secret of a connector."""
        sealed = self._vault.seal(value, team=team, connector=str(id_), name=name)
        await self.run(
            "INSERT INTO connector_secret (connector_id, team_id, name, key_id, sealed, updated_by)"
            " VALUES ($1, $2, $3, $4, $5, 'ana') ON CONFLICT (connector_id, name)"
            " DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed",
            *(id_, team, name, sealed.key_id, sealed.content),
        )

    async def records(self, count: int) -> list[asyncpg.Record]:
        """The usage records, when there are so many; more or fewer is a failure."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := await self.connection.fetch(_EVERY)) < count:  # noqa: ASYNC110 - rows
                await asyncio.sleep(0.01)
        assert len(found) == count, [dict(row) for row in found]
        return found

    async def run(self, statement: str, *values: Any) -> None:
        """A statement of the test's own."""
        await self.connection.execute(statement, *values)

    async def _insert(self, table: str, **columns: Any) -> UUID:
        names, marks = ", ".join(columns), ", ".join(f"${n + 1}" for n in range(len(columns)))
        await self.run(f"INSERT INTO {table} ({names}) VALUES ({marks})", *columns.values())  # noqa: S608 - names of ours
        id_: UUID = columns["id"]
        return id_


@dataclass
class Gateway:
    """A running gateway: its objects, its port, rows to make and records to look at."""

    worker: Worker
    server: Server
    address: tuple[str, int]
    rows: Rows
    _clients: ExitStack
    _running: AsyncExitStack

    async def client(self) -> Client:
        """A new connection, closed at the end."""
        client = await Client.connect(self.address)
        self._clients.callback(client.close)
        return client

    async def call(
        self,
        method: str = "GET",
        path: str = "/up/x",
        fields: Fields = (),
        body: bytes | None = None,
        *,
        key: str = "",
    ) -> Message:
        """One request to the data plane on a connection of its own."""
        client = await self.client()
        credential = [("Authorization", f"Bearer {key}")] if key else []
        await client.request(method, f"/api/v1/gw{path}", [*credential, *fields], body)
        answer = await client.answer(method)
        client.close()
        return answer

    async def records(self, count: int = 1) -> list[asyncpg.Record]:
        """The usage records, when there are so many; more or fewer is a failure."""
        return await self.rows.records(count)

    async def stop(self) -> None:
        """Stop in order, as a process does; the rows can still be read."""
        await self._running.aclose()


async def connect(dsn: str) -> asyncpg.Connection[Any]:
    """A connection that sees the gateway's tables."""
    return await asyncpg.connect(dsn, server_settings={"search_path": "plugin_service_gateway"})


@asynccontextmanager
async def listening(server: Server) -> AsyncIterator[tuple[str, int]]:
    """A server on a free port; afterwards it is drained and nothing of it is left."""
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()[:2]
    try:
        yield host, port
    finally:
        listener.close()
        await server.drain(0)


@asynccontextmanager
async def working(dsn: str, data: Path, **settings: Any) -> AsyncIterator[Worker]:
    """A worker's objects as the wiring makes them, with quick flushes and loopback allowed."""
    given = {"upstream": {"allow_networks": list(LOOPBACK)}, "usage": {"flush_every_s": 0.02}}
    async with wiring.worker(load(Settings, given | settings), dsn, data, {}) as worker:
        yield worker


@asynccontextmanager
async def running(
    dsn: str,
    data: Path,
    entries: Sequence[Any] = DEFAULT_PIPELINE,
    patience: Patience | None = None,
    recheck_s: float = 5.0,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """A gateway with this pipeline. At its end nothing is in flight and no socket is left."""
    async with AsyncExitStack() as stack:
        connection = await connect(dsn)
        stack.push_async_callback(connection.close)
        clients = stack.enter_context(ExitStack())
        parts = await stack.enter_async_context(AsyncExitStack())
        worker = await parts.enter_async_context(working(dsn, data, **settings))
        proceed = pipeline.build(pipeline.plan(entries), worker.runtime)
        server = Server(
            proceed, None, worker.runtime.metrics, patience=patience, recheck_s=recheck_s
        )
        address = await parts.enter_async_context(listening(server))
        rows = Rows(connection, worker.vault)
        yield Gateway(worker, server, address, rows, clients, parts)
        await parts.aclose()
        assert (worker.runtime.metrics.in_flight, worker.runtime.metrics.streams_open) == (0, 0)
