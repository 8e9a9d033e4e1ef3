"""What callers, quotas, usage records and metrics see when nothing is sent, or more than once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prometheus_client import CollectorRegistry

from gateway.prometheus import registry_of
from gateway.settings import DEFAULT_PIPELINE
from tests.dataplane import Gateway, endpoint
from tests.loopback import Call, Client, Message, Upstream, request, saying

Start = Callable[..., Awaitable[Gateway]]
Eventually = Callable[..., Awaitable[None]]
FEW = {"breaker": {"least_attempts": 3, "open_s": 30}, "allow_networks": ["127.0.0.1"]}


def samples(registry: CollectorRegistry, name: str) -> dict[str, float]:
    """The samples of a metric by connector."""
    found = [s for family in registry.collect() for s in family.samples if s.name == name]
    return {sample.labels["connector"]: sample.value for sample in found}


async def test_open_breaker_is_told_counted_and_costs_no_quota(
    gateway: Start, upstream: Upstream
) -> None:
    upstream.script = saying(b"no HTTP\r\n\r\n", close=True)
    running = await gateway(upstream=FEW)
    await running.rows.connector(upstream.url)
    key = await running.rows.key(plan_id=await running.rows.plan("small", daily_quota=5))
    answers = [await running.call(key=key) for _ in range(9)]
    refused = answers[3:]
    registry = registry_of(running.worker.runtime.metrics.snapshot)

    assert [answer.status for answer in answers] == [502] * 3 + [503] * 6
    assert {answer.code for answer in refused} == {"circuit_open"}
    assert all(1 <= int(answer.field("retry-after") or 0) <= 30 for answer in refused)
    assert {answer.json()["retryable"] for answer in refused} == {True}
    assert samples(registry, "gateway_breaker_state") == {"up": 2}
    assert samples(registry, "gateway_upstream_healthy") == {"up": 0}
    records = await running.records(9)
    assert [(row["attempts"], row["source"]) for row in records[:3]] == [(1, "gateway")] * 3
    assert {(row["attempts"], row["source"], row["error_code"]) for row in records[3:]} == {
        (0, "gateway", "circuit_open")
    }
    assert {(row["upstream_ms"], row["target"]) for row in records[3:]} == {(0, "")}


async def test_full_queue_is_told_at_once_and_costs_no_quota(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    go = asyncio.Event()

    async def waits(call: Call) -> None:
        await go.wait()
        await call.answer()

    upstream.script = waits
    running = await gateway(upstream=FEW)
    await running.rows.connector(upstream.url, max_connections=2, max_waiting=1)
    key = await running.rows.key(plan_id=await running.rows.plan("small", daily_quota=5))
    tasks: list[asyncio.Task[Message]] = []
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            tasks.append(group.create_task(running.call(key=key)))
        await eventually(lambda: len(upstream.calls) == 2)
        tasks.append(group.create_task(running.call(key=key)))
        await eventually(lambda: running.worker.runtime.metrics.in_flight == 3)
        refused = [await running.call(key=key) for _ in range(4)]
        go.set()

    assert {(answer.status, answer.code) for answer in refused} == {(503, "overloaded")}
    assert {answer.field("retry-after") for answer in refused} == {"1"}
    assert [task.result().status for task in tasks] == [200] * 3
    assert [(await running.call(key=key)).status for _ in range(3)] == [200, 200, 429]
    records = await running.records(10)
    assert sum(row["attempts"] for row in records) == 5


async def test_retries_are_one_request_with_several_attempts(
    gateway: Start, upstream: Upstream
) -> None:
    async def third_time(call: Call) -> None:
        await call.answer(503 if len(upstream.calls) < 3 else 200)

    upstream.script = third_time
    running = await gateway()
    own = endpoint("GET", retries=5)
    await running.rows.connector(upstream.url, own, endpoint("POST", retries=5))
    key = await running.rows.key(plan_id=await running.rows.plan("small", daily_quota=5))
    answer = await running.call(key=key)

    assert (answer.status, answer.body, len(upstream.calls)) == (200, b"ok", 3)
    (record,) = await running.records(1)
    assert (record["attempts"], record["status"], record["source"]) == (3, 200, "upstream")
    assert record["target"] == f"127.0.0.1:{upstream.port}"
    registry = registry_of(running.worker.runtime.metrics.snapshot)
    assert samples(registry, "gateway_retries_total") == {"up": 2}
    assert samples(registry, "gateway_breaker_state") == {"up": 0}


async def test_callers_that_hang_up_leave_nothing_behind(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    """10,000 of them: some have a slot, some wait for one, some are refused at that moment."""

    async def never(call: Call) -> None:
        await call.gone()

    upstream.script = never
    running = await gateway()
    connector = str(await running.rows.connector(upstream.url, max_connections=20, max_waiting=20))
    key = await running.rows.key(plan_id=await running.rows.plan())
    metrics, attempts = running.worker.runtime.metrics, running.worker.runtime.attempts
    head = request("GET", "/api/v1/gw/up/x", [("Authorization", f"Bearer {key}")])

    async def call() -> Client:
        client = await Client.connect(running.address)
        await client.send(head)
        return client

    for _ in range(200):
        clients = await asyncio.gather(*(call() for _ in range(50)))
        await eventually(lambda: upstream.open)
        for client in clients:
            client.reset()
        await eventually(lambda: metrics.in_flight == 0)
    lane = attempts._lanes[connector]  # noqa: SLF001 - what is held is the promise

    assert lane.slots.is_idle
    assert [place.in_flight for place in lane.targets.members.values()] == [0]
    await eventually(lambda: upstream.open == 0)


async def test_full_connector_takes_nothing_of_a_refused_callers_limits(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    may_answer = asyncio.Event()

    async def when_told(call: Call) -> None:
        await may_answer.wait()
        await call.answer(200)

    upstream.script = when_told
    running = await gateway()
    await running.rows.connector(upstream.url, max_connections=1, max_waiting=1)
    plan = await running.rows.plan("small", rate_limit=3)
    key = await running.rows.key(plan_id=plan)
    lanes = running.worker.runtime.attempts._lanes  # noqa: SLF001 - the second has to be waiting
    async with asyncio.TaskGroup() as group:
        served = [group.create_task(running.call(key=key)) for _ in range(2)]
        await eventually(lambda: any(lane.slots.waiting for lane in lanes.values()))
        refused = [await running.call(key=key) for _ in range(5)]
        may_answer.set()

    assert [task.result().status for task in served] == [200, 200]
    assert {(answer.status, answer.json()["code"]) for answer in refused} == {(503, "overloaded")}
    assert [answer.field("retry-after") for answer in refused] == ["1"] * 5
    assert running.worker.runtime.metrics.rejections == {("proxy", "overloaded"): 5}
    assert (await running.call(key=key)).status == 200, "the third of three"
    assert {row["attempts"] for row in await running.records(8)} == {0, 1}


async def test_full_connector_leaves_the_cache_its_hits(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    async def kept_or_hung(call: Call) -> None:
        if call.target == "/kept":
            await call.answer(200, fields=[("Cache-Control", "max-age=60, public")])
        else:
            await call.gone()

    upstream.script = kept_or_hung
    running = await gateway([*DEFAULT_PIPELINE[:8], "cache", *DEFAULT_PIPELINE[8:]])
    await running.rows.connector(upstream.url, max_connections=1, max_waiting=0)
    key = await running.rows.key(plan_id=await running.rows.plan())
    assert (await running.call(path="/up/kept", key=key)).status == 200
    holding = await running.client()
    await holding.request("GET", "/api/v1/gw/up/hung", [("Authorization", f"Bearer {key}")])
    await eventually(lambda: len(upstream.calls) == 2)

    assert (await running.call(path="/up/other", key=key)).status == 503
    assert (await running.call(path="/up/kept", key=key)).status == 200
