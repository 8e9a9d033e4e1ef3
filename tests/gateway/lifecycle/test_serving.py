"""The life of a serving process: it starts in order or says why not, drains, and leaves with 0."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.dataplane import Migrated, connect
from tests.e2e.process import Gateway, fetch
from tests.loopback import Client

Make = Callable[..., Gateway]


@pytest.fixture
def process(database: Migrated, tmp_path: Path) -> Iterator[Make]:
    """Make a gateway process on the database; at the end it is stopped."""
    made: list[Gateway] = []

    def make(settings: str = "", dsn: str = database.dsn) -> Gateway:
        gateway = Gateway(tmp_path, f"database: {{dsn: '{dsn}', timeout_s: 1}}\n{settings}")
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.stop()


def lines(gateway: Gateway) -> list[dict[str, Any]]:
    """What it logged."""
    said = gateway.said().splitlines()
    return [json.loads(line) for line in said if line.startswith("{")]


async def test_process_is_ready_serves_and_leaves_with_zero(
    process: Make, database: Migrated
) -> None:
    gateway = process()
    gateway.start()
    alive = fetch(f"{gateway.status}/healthz")
    refused = fetch(f"{gateway.base}/api/v1/gw/x/y")
    scraped = fetch(f"{gateway.status}/metrics")
    status = gateway.stop()

    assert (alive.status, refused.status, refused.json["code"]) == (200, 401, "unauthenticated")
    requests = 'gateway_requests_total{code="401",connector="",endpoint="",method="GET",source="gateway"} 1.0'
    assert requests in scraped.body.decode()
    assert status == 0
    assert [line["message"] for line in lines(gateway)] == ["serving", "draining", "stopped"]
    connection = await connect(database.dsn)
    assert await connection.fetchval("SELECT count(*) FROM gateway_usage_record") == 1
    await connection.close()


async def test_request_in_flight_finishes_while_the_process_is_told_to_stop(process: Make) -> None:
    """The rest of its body comes after the signal."""
    gateway = process()
    gateway.start()
    body = b'{"slug": "x"}'
    client = await Client.connect(("127.0.0.1", gateway.port))
    await client.send(
        b"POST /api/v1/gw/admin/connectors HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nx-team-id: acme\r\nContent-Length: %d\r\n\r\n%b"
        % (gateway.token().encode(), len(body), body[:5])
    )
    assert fetch(f"{gateway.base}/api/v1/gw/x").status == 401  # so the head above has come, too
    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(gateway.stop)
        gateway.wait_for("draining")
        ready = fetch(f"{gateway.status}/readyz")
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(("127.0.0.1", gateway.port))
        await client.send(body[5:])
        got = await client.answer("POST")
        client.close()

    assert (ready.status, ready.json["reason"]) == (503, "draining")
    assert (got.status, got.field("connection"), got.complete) == (422, "close", True)
    assert stopping.result() == 0


async def test_connections_are_taken_for_a_moment_after_readiness_is_gone(process: Make) -> None:
    gateway = process()
    listening = f"server: {{listen: '127.0.0.1:{gateway.port}'"
    text = gateway.config.read_text().replace(listening, f"{listening}, drain_delay_s: 60")
    gateway.config.write_text(text)
    gateway.start()
    assert gateway.process is not None
    gateway.process.terminate()
    gateway.wait_for("draining")
    ready = fetch(f"{gateway.status}/readyz")
    client = await Client.connect(("127.0.0.1", gateway.port))
    await client.request("GET", "/api/v1/gw/x/y")
    got = await client.answer()
    client.close()
    gateway.process.kill()
    gateway.process.wait(10)
    gateway.process = None

    assert (ready.status, ready.json["reason"]) == (503, "draining")
    assert (got.status, got.field("connection")) == (401, "close")


@pytest.mark.parametrize("setting", ["server.listen", "status.listen"])
async def test_port_that_is_taken_is_told_in_one_line(process: Make, setting: str) -> None:
    gateway = process()
    port = gateway.port if setting == "server.listen" else gateway.status_port
    with socket.create_server(("127.0.0.1", port)):
        done = gateway.command("serve")

    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith(f"cannot listen on 127.0.0.1:{port} ({setting}): Address already in use")
    )
    assert "Traceback" not in done.stderr


async def test_database_that_is_not_there_is_told_in_one_line(process: Make) -> None:
    done = process(dsn="postgresql://ada:s3cret@127.0.0.1:1/nowhere").command("serve")

    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "PostgreSQL at 127.0.0.1:1 does not answer" in done.stderr
    assert "database.dsn" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


async def test_schema_of_a_newer_version_is_told_in_one_line(
    process: Make, database: Migrated
) -> None:
    connection: asyncpg.Connection[Any] = await connect(database.dsn)
    await connection.execute("INSERT INTO schema_migration VALUES (999, 'later', 'x')")
    await connection.close()
    done = process().command("serve")

    assert done.returncode == 1
    assert "install the newer version of service-gateway" in done.stderr
    assert "Traceback" not in done.stderr


async def test_planes_may_have_listeners_of_their_own(process: Make, tmp_path: Path) -> None:
    gateway = process()
    admin = tmp_path / "admin.socket"
    gateway.config.write_text(f"{gateway.config.read_text()}admin: {{listen: 'unix:{admin}'}}\n")
    gateway.start()
    shared = fetch(f"{gateway.base}/api/v1/gw/admin/connectors")
    client = await Client.connect(str(admin))
    await client.request("GET", "/api/v1/gw/admin/connectors")
    own = await client.answer()
    await client.request("GET", "/api/v1/gw/x/y")
    other = await client.answer()
    client.close()

    # where the planes are apart, callers reach no admin plane: `admin` is a connector like any
    assert (shared.status, shared.json["code"]) == (401, "unauthenticated")
    assert "x-team-id" not in shared.json["detail"]
    assert (own.status, other.status, other.code) == (401, 404, "not_found")
    assert gateway.stop() == 0
