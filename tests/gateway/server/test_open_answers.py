"""What ends with a credential or a connector: streams that are open, too, and the record says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.http.websocket import POLICY_VIOLATION, accept_for
from tests.dataplane import LOOPBACK, Gateway, endpoint, running
from tests.loopback import Call, Client, Upstream, request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = [
    ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
]  # fmt: skip
SWITCH = (
    "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_for(KEY.encode()).decode()}\r\n\r\n"
).encode()
EVENTS = b"HTTP/1.1 200 x\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b"9\r\ndata: 1\n\n\r\n"
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
NETWORKS = {"allow_networks": list(LOOPBACK)}
Eventually = Callable[..., Awaitable[None]]


async def talking(call: Call) -> None:
    """Accept either, and stay until the gateway goes."""
    if call.field("upgrade"):
        await call.send(SWITCH)
    else:
        await call.send(EVENTS + EVENT)
    while await call.receive():
        pass
    call.close()


class Open:
    """A stream that is open, and what it rests on."""

    def __init__(self, made: Gateway, key: str, connector: Any, client: Client) -> None:
        self.made, self.key, self.connector, self.client = made, key, connector, client

    async def run(self, statement: str, *values: Any) -> None:
        await self.made.rows.run(statement, *values)

    async def of_key(self, change: str, *values: Any) -> None:
        update = f"UPDATE gateway_api_key SET {change} WHERE public_id = $1"  # noqa: S608 - ours
        await self.run(update, self.key[3:11], *values)

    async def of_connector(self, change: str) -> None:
        await self.run(f"UPDATE service_connector SET {change} WHERE id = $1", self.connector)  # noqa: S608 - ours


async def revoked(it: Open) -> None:
    await it.of_key("revoked_at = now()")


async def expired(it: Open) -> None:
    await it.of_key("expires_at = now() + interval '0.3 s'")


async def bound_elsewhere(it: Open) -> None:
    await it.of_key("allowed_endpoints = '{other}'")


async def unpublished(it: Open) -> None:
    await it.of_connector("status = 'draft', published_version = NULL")


async def archived(it: Open) -> None:
    await it.of_connector("status = 'archived', published_version = NULL")


async def purged(it: Open) -> None:
    await archived(it)
    await it.run("DELETE FROM service_connector WHERE id = $1", it.connector)


ENDS: dict[Callable[[Open], Awaitable[None]], str] = {
    revoked: "unauthenticated",
    expired: "unauthenticated",
    bound_elsewhere: "forbidden",
    unpublished: "connector_not_found",
    archived: "connector_not_found",
    purged: "connector_not_found",
}


@asynccontextmanager
async def opened(database: Any, data: Any, upstream: Upstream, fields: Any) -> AsyncIterator[Open]:
    upstream.script = talking
    async with running(database.dsn, data, recheck_s=0.05, upstream=NETWORKS) as made:
        await made.rows.plan()
        connector = await made.rows.connector(upstream.url, endpoint("GET", streaming_enabled=True))
        key, client = await made.rows.key(), await made.client()
        sent = [("Authorization", f"Bearer {key}"), *fields]
        await client.send(request("GET", "/api/v1/gw/up/x", sent))
        await client.until(b"\r\n\r\n")
        yield Open(made, key, connector, client)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_event_stream_ends_with_what_it_rests_on(
    end: Callable[[Open], Awaitable[None]],
    database: Any,
    tmp_path: Any,
    upstream: Upstream,
    eventually: Eventually,
) -> None:
    async with opened(database, tmp_path, upstream, []) as it:
        await it.client.until(EVENT)
        await end(it)
        assert await it.client.gone() == b""  # no last chunk: it was broken off
        record = (await it.made.records())[0]
        assert (record["status"], record["error_code"]) == (200, ENDS[end])
        assert not record["client_gone"]
        await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_websocket_ends_with_what_it_rests_on(
    end: Callable[[Open], Awaitable[None]],
    database: Any,
    tmp_path: Any,
    upstream: Upstream,
    eventually: Eventually,
) -> None:
    async with opened(database, tmp_path, upstream, UPGRADE) as it:
        await end(it)
        assert await it.client.until(POLICY_VIOLATION) == POLICY_VIOLATION
        await it.client.send(b"\x81\x82\x00\x00\x00\x00ok")  # goes nowhere
        assert await it.client.gone() == b""
        record = (await it.made.records())[0]
        assert (record["status"], record["error_code"]) == (101, ENDS[end])
        assert (record["client_gone"], record["bytes_in"]) == (False, 0)
        await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("fields", [[], UPGRADE], ids=["events", "websocket"])
async def test_stream_goes_on_while_postgresql_is_away_and_after_other_changes(
    fields: Any, database: Any, tmp_path: Any, upstream: Upstream
) -> None:
    async with opened(database, tmp_path, upstream, fields) as it:
        await it.of_key("name = 'renamed'")
        await it.made.worker.database.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await it.client.gone()
        it.client.close()
