"""Callers that go away, 200 in each phase: nothing of them is left, but one record each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.attacks.strict import BREAKER
from tests.dataplane import LOOPBACK, Gateway, endpoint
from tests.loopback import Call, Client, Upstream, chunked, request

Start = Callable[..., Awaitable[Gateway]]
Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
SETTINGS = {"upstream": {"allow_networks": list(LOOPBACK), "breaker": BREAKER}}
AT_A_TIME = 50
ROUNDS = 4
FIRST = 2
"""How many calls there are before those that leave."""
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UP = "/api/v1/gw/up"
SCHEMA = {"type": "object"}
ENDPOINTS = (
    endpoint("GET"), endpoint("POST"), endpoint("POST", "/read", body_schema=SCHEMA),
)  # fmt: skip


async def stay(call: Call) -> None:
    """Answer only what warms up; begin a stream for who asks for one, and go when the gateway goes."""
    if call.target == "/warm":
        await call.answer(fields=[("Connection", "close")])
        call.close()
        return
    if call.target == "/stream":
        await call.send(CHUNKED + chunked([b"first"]).removesuffix(b"0\r\n\r\n"))
    await call.gone()


class Crowd:
    """A gateway with as many slots as callers, none to spare, and callers that leave."""

    def __init__(self, running: Gateway, upstream: Upstream, credential: tuple[str, str]) -> None:
        self.running = running
        self.upstream = upstream
        self.credential = credential
        self.clients: list[Client] = []

    def head(self, method: str, path: str, *fields: tuple[str, str]) -> bytes:
        return request(method, UP + path, [self.credential, *fields])

    async def send(self, raw: bytes) -> None:
        """Everybody connects and sends this."""
        self.clients = [await self.running.client() for _ in range(AT_A_TIME)]
        for client in self.clients:
            await client.send(raw)

    def leave(self) -> None:
        """Half of them hang up, half break the connection."""
        for number, client in enumerate(self.clients):
            client.reset() if number % 2 else client.close()

    def is_gone(self) -> bool:
        """True when neither side holds anything of them."""
        metrics = self.running.worker.runtime.metrics
        held = len(self.running.server.connections), metrics.in_flight, metrics.streams_open
        return held == (0, 0, 0) and self.upstream.open == 0

    async def records(self, count: int) -> list[Any]:
        """The records after those of the first calls."""
        return (await self.running.records(FIRST + count))[FIRST:]

    async def warm(self) -> None:
        """As many at once as there are slots: every one of them is free."""
        await self.send(self.head("GET", "/warm", ("Connection", "close")))
        for client in self.clients:
            assert (await client.answer()).status == 200
            client.close()


@pytest.fixture
async def crowd(gateway: Start, upstream: Upstream) -> Crowd:
    upstream.script = stay
    running = await gateway(**SETTINGS)
    await running.rows.plan()
    slots: dict[str, Any] = {"max_connections": AT_A_TIME, "max_waiting": 0}
    await running.rows.connector(upstream.url, *ENDPOINTS, **slots)
    queue: dict[str, Any] = {"max_connections": 1, "max_waiting": AT_A_TIME}
    await running.rows.connector(upstream.url, slug="queue", **queue)
    key = await running.rows.key()
    for slug in ("up", "queue"):  # a caller who is gone before the key is looked up is unknown
        assert (await running.call(path=f"/{slug}/warm", key=key)).status == 200
    return Crowd(running, upstream, ("Authorization", f"Bearer {key}"))


async def leaving(
    crowd: Crowd, eventually: Eventually, raw: bytes, there: Callable[[], bool], piece: bytes = b""
) -> None:
    """Let 200 callers come so far, and leave; then nothing of them is left."""
    tasks = len(asyncio.all_tasks())
    for _ in range(ROUNDS):
        await crowd.send(raw)
        await eventually(there)
        for client in crowd.clients if piece else ():
            await client.until(piece)
        crowd.leave()
        await eventually(crowd.is_gone)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)


LENGTH = ("Content-Length", "100000")
PHASES = {
    "body": ("POST", "/x", (LENGTH,), b"some of it", 499),
    "body-in-chunks": ("POST", "/x", (("Transfer-Encoding", "chunked"),), b"5\r\nhel", 499),
    "body-to-be-checked": ("POST", "/read", (LENGTH, ("Content-Type", "application/json")), b"{", 499),
    "waiting": ("GET", "/x", (), b"", 499),
    "waiting-after-a-body": ("POST", "/x", (("Content-Length", "2"),), b"{}", 499),
    "stream": ("GET", "/stream", (), b"", 200),
}  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
async def test_caller_that_leaves_in_an_exchange_leaves_one_record(
    crowd: Crowd, eventually: Eventually, caplog: pytest.LogCaptureFixture, phase: str
) -> None:
    method, path, fields, body, status = PHASES[phase]
    reaches = phase != "body-to-be-checked"

    def there() -> bool:
        metrics = crowd.running.worker.runtime.metrics
        arrived = crowd.upstream.open if reaches else AT_A_TIME
        return (metrics.in_flight, arrived) == (AT_A_TIME, AT_A_TIME)

    piece = b"first\r\n" if phase == "stream" else b""
    with caplog.at_level(logging.ERROR):
        raw = crowd.head(method, path, *fields) + body
        await leaving(crowd, eventually, raw, there, piece)
    records = await crowd.records(ROUNDS * AT_A_TIME)

    assert {(row["status"], row["client_gone"]) for row in records} == {(status, True)}
    assert len({row["request_id"] for row in records}) == len(records)
    assert caplog.records == []
    await crowd.warm()


@pytest.mark.parametrize("size", [1, 3, 30, -4, -2])
async def test_caller_that_leaves_in_the_head_leaves_nothing(
    crowd: Crowd, eventually: Eventually, size: int
) -> None:
    raw = crowd.head("GET", "/x")
    server = crowd.running.server
    await leaving(crowd, eventually, raw[:size], lambda: len(server.connections) == AT_A_TIME)

    await crowd.warm()
    assert {row["status"] for row in await crowd.records(AT_A_TIME)} == {200}


async def test_caller_that_leaves_the_queue_leaves_one_record(
    crowd: Crowd, eventually: Eventually
) -> None:
    raw = request("GET", "/api/v1/gw/queue/x", [crowd.credential])
    metrics = crowd.running.worker.runtime.metrics
    await leaving(crowd, eventually, raw, lambda: metrics.in_flight == AT_A_TIME)
    records = await crowd.records(ROUNDS * AT_A_TIME)

    assert {(row["status"], row["client_gone"]) for row in records} == {(499, True)}
    warm = request("GET", "/api/v1/gw/queue/warm", [crowd.credential, ("Connection", "close")])
    await crowd.send(warm)
    assert {(await client.answer()).status for client in crowd.clients} == {200}
