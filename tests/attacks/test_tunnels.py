"""WebSockets that are cut, a hundred at each turn in every phase: nothing of them is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.http.websocket import accept_for
from tests.attacks.strict import BREAKER
from tests.dataplane import LOOPBACK, Gateway, endpoint
from tests.loopback import Call, Client, Upstream, request

Start = Callable[..., Awaitable[Gateway]]
Eventually = Callable[..., Awaitable[None]]
SETTINGS = {"upstream": {"allow_networks": list(LOOPBACK), "breaker": BREAKER}}
TUNNELS = 100
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SWITCH = (
    "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {accept_for(KEY.encode()).decode()}\r\n\r\n"
).encode()
BIG = b"\x82\x7e\xff\xff" + bytes(65_535)
"""A frame that never fits into what a slow reader takes at once."""
PHASES = ("waiting", "early", "open", "half-a-frame", "talking", "half-an-answer", "closing")


class Stage:
    """An upstream that does what the path's phase wants, and stays until one side is told to go."""

    def __init__(self, leaving: str) -> None:
        self.goes_itself = leaving == "upstream"
        self.go = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        phase = call.target[1:]
        if phase == "warm":
            await call.answer(fields=[("Connection", "close")])
            call.close()
            return
        if phase not in {"waiting", "early"}:
            await call.send(SWITCH)
        if phase == "half-an-answer":
            await call.send(BIG[:1000])
        if phase == "closing":
            await call.send(b"\x88\x02\x03\xe8")
        if phase == "talking":
            while not self.go.is_set() or not self.goes_itself:
                await call.send(BIG)
        if not self.goes_itself:
            await call.gone()
            return
        await self.go.wait()
        call.reset() if call.connection % 2 else call.close()


async def come_so_far(client: Client, phase: str, credential: tuple[str, str]) -> None:
    """Open a tunnel as far as its phase."""
    fields = [
        credential, ("Connection", "Upgrade, close"), ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY),
    ]  # fmt: skip
    await client.send(request("GET", f"/api/v1/gw/up/{phase}", fields))
    if phase == "early":
        await client.send(BIG)
    if phase not in {"waiting", "early"}:
        assert b" 101 " in await client.until(b"\r\n\r\n")
    if phase == "half-a-frame":
        await client.send(BIG[:1000])
    if phase in {"half-an-answer", "closing", "talking"}:
        await client.receive()


@pytest.mark.parametrize("leaving", ["client", "upstream"])
async def test_tunnels_that_are_cut_leave_nothing_but_their_records(
    gateway: Start,
    upstream: Upstream,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    leaving: str,
) -> None:
    stage = upstream.script = Stage(leaving)
    running = await gateway(**SETTINGS)
    await running.rows.plan()
    own: dict[str, Any] = {"max_connections": TUNNELS, "max_waiting": 0}
    await running.rows.connector(upstream.url, endpoint("GET", streaming_enabled=True), **own)
    credential = ("Authorization", f"Bearer {await running.rows.key()}")
    assert (await running.call(path="/up/warm", fields=[credential])).status == 200
    metrics, tasks = running.worker.runtime.metrics, len(asyncio.all_tasks())

    def is_clear() -> bool:
        held = len(running.server.connections), metrics.in_flight, metrics.streams_open
        return held == (0, 0, 0) and upstream.open == 0

    phases = [PHASES[number % len(PHASES)] for number in range(TUNNELS)]
    with caplog.at_level(logging.ERROR):
        clients = [await running.client() for _ in phases]
        first = len(upstream.calls)
        async with asyncio.TaskGroup() as group:
            for client, phase in zip(clients, phases, strict=True):
                group.create_task(come_so_far(client, phase, credential))
        await eventually(lambda: len(upstream.calls) == first + TUNNELS, 20)
        stage.go.set()
        if leaving == "client":
            for number, client in enumerate(clients):
                client.reset() if number % 2 else client.close()
        else:
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(client.gone())
            for client in clients:
                client.close()
        await eventually(is_clear)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks, 20)
    records = (await running.records(1 + TUNNELS))[1:]

    assert len({row["request_id"] for row in records}) == TUNNELS
    assert {row["status"] for row in records} == ({101, 499} if leaving == "client" else {101, 502})
    assert caplog.records == []
    warm = [await running.client() for _ in range(TUNNELS)]
    for client in warm:
        await client.send(request("GET", "/api/v1/gw/up/warm", [credential]))
    assert {(await client.answer()).status for client in warm} == {200}
