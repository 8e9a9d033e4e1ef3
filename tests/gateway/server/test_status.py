"""The status listener: alive whatever happens, ready when it says so, metrics as they stand."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.server.status import application


async def test_liveness_depends_on_nothing_and_readiness_says_why_not(aiohttp_client: Any) -> None:
    reasons = ["draining", ""]
    client = await aiohttp_client(application(Metrics("0"), lambda: reasons[-1]))
    ready = await client.get("/readyz")
    alive = await client.get("/healthz")
    assert (ready.status, await ready.json()) == (200, {"status": "ready"})
    assert (alive.status, await alive.json()) == (200, {"status": "alive"})
    reasons.pop()
    ready, alive = await client.get("/readyz"), await client.get("/healthz")

    assert (ready.status, alive.status) == (503, 200)
    assert await ready.json() == {"status": "not ready", "reason": "draining"}


async def test_what_is_remarked_is_told_of_a_process_that_is_ready(aiohttp_client: Any) -> None:
    remarks = {"configuration": "snapshot"}
    client = await aiohttp_client(application(Metrics("0"), lambda: "", lambda: remarks))
    ready = await client.get("/readyz")

    assert (ready.status, await ready.json()) == (200, {"status": "ready", **remarks})


async def test_metrics_are_scraped_as_they_stand(aiohttp_client: Any) -> None:
    metrics = Metrics("1.2.3")
    client = await aiohttp_client(application(metrics, lambda: ""))
    for count in (1, 2):
        metrics.finished(
            "up", "get", "GET", 200, "upstream", total_s=1, first_byte_s=1, own_s=0, upstream_s=1
        )
        scraped = await client.get("/metrics")
        families = {f.name: f for f in text_string_to_metric_families(await scraped.text())}
        (sample,) = families["gateway_requests"].samples
        assert (sample.value, sample.labels["connector"]) == (count, "up")

    assert scraped.headers["Content-Type"].startswith("text/plain; version=")
    assert families["gateway_build_info"].samples[0].labels == {"version": "1.2.3"}
    assert "process_resident_memory_bytes" in families


async def test_nothing_else_is_served(aiohttp_client: Any) -> None:
    client = await aiohttp_client(application(Metrics("0"), lambda: ""))

    assert (await client.get("/")).status == 404
    assert (await client.post("/metrics")).status == 405
