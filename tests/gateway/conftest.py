"""A server around any callable, and connections to upstreams, for tests that need no pipeline."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Proceed
from gateway.metrics import Metrics
from gateway.server.server import Server
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from tests.dataplane import LOOPBACK, listening
from tests.gateway.stoppable import Stoppable, started
from tests.loopback import Client, Fields, Message


@dataclass
class Served:
    """A running server; `client()` is a new connection, closed at the end."""

    server: Server
    address: tuple[str, int]
    _clients: AsyncExitStack

    async def client(self) -> Client:
        client = await Client.connect(self.address)
        self._clients.callback(client.close)
        return client

    async def call(
        self, method: str, path: str, fields: Fields = (), body: bytes | None = None
    ) -> Message:
        """One request with this very target, on a connection of its own."""
        client = await self.client()
        await client.request(method, path, fields, body)
        return await client.answer(method)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Serve a callable as the pipeline: `await serve(proceed, base_path="/x")`."""
    async with AsyncExitStack() as stack:

        async def start(proceed: Proceed | None, admin: Any = None, **options: Any) -> Served:
            server = Server(proceed, admin, Metrics("0"), **options)
            address = await stack.enter_async_context(listening(server))
            return Served(server, address, stack)

        yield start


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    """Connections to upstreams; loopback is allowed."""
    made = Upstreams(AddressPolicy(map(Allowed.parse, LOOPBACK)))
    yield made
    await made.close()


@pytest.fixture
async def stoppable(open_directory: Path) -> AsyncIterator[Stoppable]:
    """A PostgreSQL of the test's own, running."""
    async with started(open_directory) as server:
        yield server
