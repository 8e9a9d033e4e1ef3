"""A PostgreSQL that closes nothing and answers nothing, at each moment of a process's life."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio import to_thread
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane import Rows, connect
from tests.e2e.process import Gateway, eventually, fetch
from tests.gateway.stoppable import Stoppable, started
from tests.loopback import Upstream

QUICK_S = 1.0
STOP_S = 30.0
"""The drain, the last attempts to write, and what a busy machine adds."""
VAULT: Any = None


@pytest.fixture
async def server(open_directory: Path) -> AsyncIterator[Stoppable]:
    """A PostgreSQL of the test's own, migrated."""
    async with started(open_directory) as server:
        yield server


@pytest.fixture
def process(server: Stoppable, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway process, not started yet; killed at the end if it still runs."""
    settings = (
        f"database: {{dsn: '{server.dsn}', timeout_s: 1}}\n"
        "upstream: {allow_networks: ['127.0.0.1']}\nusage: {flush_every_s: 0.1}\n"
    )
    gateway = Gateway(tmp_path, settings)
    yield gateway
    if gateway.process is not None:
        gateway.process.kill()
        gateway.process.wait()


async def caller(server: Stoppable, upstream: Upstream) -> str:
    """The key of a caller of a connector."""
    connection = await connect(server.dsn)
    rows = Rows(connection, VAULT)
    await rows.plan()
    await rows.connector(upstream.url)
    key = await rows.key()
    await connection.close()
    return key


async def recorded(server: Stoppable) -> int:
    connection = await connect(server.dsn)
    found = await connection.fetchval("SELECT count(*) FROM gateway_usage_record")
    await connection.close()
    return int(found)


async def test_silent_at_the_start_it_is_told_in_time(server: Stoppable, process: Gateway) -> None:
    with server.silent():
        begun = time.monotonic()
        done = process.command("serve")

    assert time.monotonic() - begun < STOP_S
    assert done.returncode == 1
    assert "does not answer" in done.stderr.splitlines()[-1]


async def test_silent_at_the_start_known_callers_are_served_from_the_snapshot_until_it_answers(
    server: Stoppable, process: Gateway, upstream: Upstream
) -> None:
    key, other = await caller(server, upstream), await another(server)
    await to_thread(process.start)
    assert await call(process, key) == [200] * 5
    assert await to_thread(process.stop) == 0
    with server.silent():
        await to_thread(process.start)
        ready = await to_thread(fetch, f"{process.status}/readyz")
        scraped = await to_thread(process.scrape)
        begun = time.monotonic()
        assert await call(process, key) == [200] * 5
        assert time.monotonic() - begun < 5 * QUICK_S
        unknown = await to_thread(process.call, "/up/x", other)
    assert (ready.status, ready.json["configuration"]) == (200, "snapshot")
    assert "\ngateway_config_snapshot_seconds " in scraped
    assert (unknown.status, unknown.json["code"]) == (503, "store_unavailable")

    def is_back() -> bool:
        return "configuration" not in fetch(f"{process.status}/readyz").json

    await to_thread(eventually, is_back, process)
    assert await call(process, other) == [200] * 5
    connection = await connect(server.dsn)
    await connection.execute("UPDATE gateway_api_key SET revoked_at = now()")
    await connection.close()

    def is_refused() -> bool:
        return process.call("/up/x", key).status == 401

    await to_thread(eventually, is_refused, process)
    await to_thread(process.stop, signal.SIGKILL)
    with server.silent():
        await to_thread(process.start)
        gone = await to_thread(process.call, "/up/x", key)
    assert gone.status in {401, 503}, "a revocation that was seen is not forgotten"
    assert await to_thread(process.stop) == 0


async def another(server: Stoppable) -> str:
    """The key of a caller who has not called yet."""
    connection = await connect(server.dsn)
    key = await Rows(connection, VAULT).key()
    await connection.close()
    return key


async def test_silent_while_serving_known_callers_do_not_wait_and_the_stop_loses_nothing(
    server: Stoppable, process: Gateway, upstream: Upstream
) -> None:
    key = await caller(server, upstream)
    process.start()
    # in threads of its own: the upstream answers on this test's loop
    assert await call(process, key) == [200] * 5
    with server.silent():
        begun = time.monotonic()
        assert await call(process, key) == [200] * 5
        assert time.monotonic() - begun < 5 * QUICK_S
        ready = await to_thread(fetch, f"{process.status}/readyz")
        begun = time.monotonic()
        status = await to_thread(process.stop)
        took = time.monotonic() - begun

    assert (ready.status, status) == (200, 0), process.said()
    assert took < STOP_S
    process.start()
    await to_thread(eventually, lambda: "usage records are left" in process.said(), process)
    async with asyncio.timeout(20):
        while await recorded(server) < 10:  # noqa: ASYNC110 - rows
            await asyncio.sleep(0.05)
    assert await recorded(server) == 10
    assert process.stop() == 0


async def test_silent_before_the_start_of_the_stop_and_back_during_it_everything_is_written(
    server: Stoppable, process: Gateway, upstream: Upstream
) -> None:
    key = await caller(server, upstream)
    process.start()
    assert await call(process, key) == [200] * 5
    assert process.process is not None
    with server.silent():
        assert await call(process, key) == [200] * 5
        process.process.terminate()
        await to_thread(process.wait_for, "draining")
    assert await to_thread(process.process.wait, STOP_S) == 0
    process.process = None

    assert "left" not in process.said()
    assert await recorded(server) == 10


async def call(process: Gateway, key: str) -> list[int]:
    """The statuses of some calls, one after the other."""
    return [(await to_thread(process.call, "/up/x", key)).status for _ in range(5)]
