"""A probe: the transport of callers' requests, with notes of how far one came."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.exchange import Outgoing
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.probe import STAGES, Probe
from tests.certificates import self_signed
from tests.dataplane import LOOPBACK
from tests.gateway.sending import refused, sent
from tests.loopback import Upstream

POLICY = AddressPolicy(map(Allowed.parse, LOOPBACK))


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    made = Probe(POLICY)
    yield made
    await made.close()


async def test_request_goes_as_callers_do(probe: Probe, upstream: Upstream) -> None:
    begun = time.perf_counter()
    async with sent(probe, upstream, Outgoing("GET", "/x", [])) as answer:
        assert (answer.status, answer.body) == (200, b"ok")

    assert list(probe.reached) == ["address", "connect"]
    assert begun <= probe.reached["address"] <= probe.reached["connect"]


async def test_tls_is_noted_when_it_is_done(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self_signed(tmp_path))
        server = await asyncio.start_server(lambda _r, w: w.close(), sock=listener, ssl=tls)
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        trusting, other = Probe(POLICY, ca_file=str(tmp_path / "pem")), Probe(POLICY)
        await refused(trusting, url)
        rejected, _ = await refused(other, url)
        for probe in (trusting, other):
            await probe.close()
        server.close()

    assert tuple(trusting.reached) == STAGES
    assert sorted(trusting.reached.values()) == list(trusting.reached.values())
    assert tuple(other.reached) == ("address", "connect")
    assert "certificate" in rejected.detail


async def test_nobody_listens(probe: Probe) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    rejected, _ = await refused(probe, f"http://127.0.0.1:{port}")

    assert (rejected.code, list(probe.reached)) == ("upstream_unavailable", ["address"])


async def test_refused_address_reaches_nothing(upstream: Upstream) -> None:
    strict = Probe(AddressPolicy())
    rejected, _ = await refused(strict, upstream.url)
    await strict.close()

    assert (rejected.code, strict.reached) == ("upstream_blocked", {})
    assert upstream.connections == 0
