"""What filters are built with: real objects, with a database only where a filter looks things up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import Clock, SystemClock
from gateway.database import Database
from gateway.directory import Directory
from gateway.identity.jwts import TokenRules, Tokens, TrustedKey
from gateway.lifecycle.wiring import Worker
from gateway.limits.memory import MemoryLimits
from gateway.metrics import Metrics
from gateway.model import Plan
from gateway.runtime import Runtime
from gateway.secrets.vault import MasterKey, Vault
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.attempts import Attempts
from gateway.upstream.connections import Upstreams
from gateway.usage.writer import UsageWriter
from tests.dataplane import LOOPBACK, Migrated, Rows, connect, working


@pytest.fixture
async def runtime(clock: Clock) -> AsyncIterator[Runtime]:
    """A runtime whose database is away."""
    database = Database("postgresql://127.0.0.1:1/nowhere", timeout_s=1)
    await database.open()
    metrics = Metrics("0")
    vault = Vault([MasterKey("first", bytes(32))])
    upstreams = Upstreams(AddressPolicy(Allowed.parse(text) for text in LOOPBACK))
    yield Runtime(
        directory=Directory(database, vault, Plan("", "default"), clock),
        tokens=Tokens(TokenRules("tests", "gateway"), [TrustedKey("HS256", "k" * 32)]),
        limits=MemoryLimits(clock),
        attempts=Attempts(upstreams, metrics, SystemClock(), random.random),
        usage=UsageWriter(database, metrics, flush_every_s=1, most_waiting=1000, keep_days=1),
        metrics=metrics,
    )
    await upstreams.close()
    await database.close()


@pytest.fixture
async def worker(database: Migrated, tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker's objects, with a database of their own."""
    async with working(database.dsn, tmp_path) as worker:
        yield worker


@pytest.fixture
async def rows(database: Migrated, worker: Worker) -> AsyncIterator[Rows]:
    """Makes rows in that database."""
    connection = await connect(database.dsn)
    yield Rows(connection, worker.vault)
    await connection.close()
