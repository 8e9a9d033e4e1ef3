"""What every test can ask for: a migrated database of its own, and a clock that is turned by hand."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uvloop
from hypothesis import HealthCheck, settings

from gateway.database import Database
from gateway.lifecycle.embedded import Postgres
from gateway.settings import DEFAULT_PIPELINE
from tests.clocks import HandClock
from tests.dataplane import Gateway, running
from tests.loopback import Upstream

# How long a property takes to draw says something of the machine, nothing of the gateway.
settings.register_profile(
    "gateway",
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gateway")

pytest_plugins = ["tests.hanging"]

_QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_NUMBERS = itertools.count()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass(frozen=True)
class TestDatabase:
    """A database that nobody else uses, with every migration applied."""

    __test__ = False

    dsn: str
    name: str


@pytest.fixture
def clock() -> HandClock:
    """A clock that is turned by hand."""
    return HandClock()


@pytest.fixture(scope="session")
def open_directory() -> Iterator[Path]:
    """A directory that other accounts may enter: pytest's own is closed to PostgreSQL's."""
    path = Path(tempfile.mkdtemp(prefix="service-gateway-tests-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def postgres(open_directory: Path) -> Iterator[Postgres]:
    """The embedded PostgreSQL 18 with a migrated template database, once for all tests."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server = Postgres(open_directory / "postgres", os.environ, _QUICK)
        runner.run(server.__aenter__())
        try:
            runner.run(_make_template(server.dsn))
            yield server
        finally:
            runner.run(server.__aexit__())


async def _make_template(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    assert connection.get_server_version().major == 18
    await connection.execute("CREATE DATABASE template_gateway")
    await connection.close()
    database = Database(dsn.replace("/postgres?", "/template_gateway?"))
    await database.open()
    await database.migrate()
    await database.close()


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[TestDatabase]:
    """A clone of the template, dropped afterwards."""
    name = f"test_{os.getpid()}_{next(_NUMBERS)}"
    connection = await asyncpg.connect(postgres.dsn)
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE template_gateway STRATEGY FILE_COPY")
    yield TestDatabase(postgres.dsn.replace("/postgres?", f"/{name}?"), name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


async def eventually(condition: Callable[[], Any], within_s: float = 30.0) -> None:
    """Wait until a condition holds; fails when it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - whatever it is, nobody sets an event for it
            await asyncio.sleep(0.005)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    """Wait for a condition with a deadline."""
    return eventually


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A server on loopback whose behaviour the test scripts."""
    async with Upstream() as upstream:
        yield upstream


@pytest.fixture
async def gateway(
    database: TestDatabase, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Gateway]]]:
    """Start a gateway: `await gateway()` has the default pipeline, `await gateway([…])` another."""
    async with AsyncExitStack() as stack:

        async def start(entries: Sequence[Any] = DEFAULT_PIPELINE, **settings: Any) -> Gateway:
            made = running(database.dsn, tmp_path, entries, **settings)
            return await stack.enter_async_context(made)

        yield start
