"""A connector's slots around real upstreams: bounded, in order, timely, and never lost."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.exchange import Exchange
from gateway.problems import Rejected
from gateway.upstream.answer import Blameless
from gateway.upstream.breaker import BreakerSettings
from tests.gateway.sending import whole
from tests.gateway.trying import (
    Eventually,
    Hands,
    Trying,
    asking,
    closed_port,
    closes,
    hangs,
    resets,
    status,
    trying,
    upstream_of,
)
from tests.loopback import Call, Upstream, say_ok

FEW = BreakerSettings(least_attempts=4)
Task = asyncio.Task[Any]


@pytest.fixture
async def tries(clock: Hands) -> AsyncIterator[Trying]:
    async with trying(clock, breaker=FEW) as made:
        yield made


def start(tries: Trying, *requests: Exchange) -> list[Task]:
    loop = asyncio.get_running_loop()
    return [loop.create_task(tries.outcome(request)) for request in requests]


async def cancelled(*tasks: Task) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_hung_upstream_holds_its_bound_and_no_more(
    tries: Trying, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = hangs
    at = upstream_of(upstream.url, max_connections=3, max_waiting=2)
    requests = [asking(at) for _ in range(10)]
    tasks = start(tries, *requests)
    await eventually(lambda: len(upstream.calls) == 3)
    slots = tries.lane(at).slots
    refused = [task.result() for task in tasks if task.done()]

    assert (slots.taken, slots.waiting, refused) == (3, 2, ["overloaded"] * 5)
    outcomes = [request.outcome for request in requests[5:]]
    assert {(made.attempts, made.target, made.upstream_s) for made in outcomes} == {(0, "", 0)}
    await cancelled(*tasks)
    assert slots.is_idle
    assert len(upstream.calls) == 3


async def test_hung_upstream_costs_its_own_callers_only(
    tries: Trying, upstream: Upstream, eventually: Eventually
) -> None:
    async with Upstream() as well:
        upstream.script = hangs
        at = upstream_of(upstream.url, max_connections=5)
        tasks = start(tries, *(asking(at) for _ in range(100)))
        await eventually(lambda: len(upstream.calls) == 5)
        other = upstream_of(well.url, max_connections=5)

        assert [await tries.outcome(asking(other)) for _ in range(50)] == [200] * 50
        await cancelled(*tasks)


async def test_refusal_says_when_to_come_back(
    tries: Trying, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = hangs
    at = upstream_of(upstream.url, max_connections=1, max_waiting=0)
    (task,) = start(tries, asking(at))
    await eventually(lambda: upstream.calls)
    refused = await tries.refused(asking(at))

    assert (refused.code, refused.status) == ("overloaded", 503)
    assert (b"Retry-After", b"1") in refused.headers
    await cancelled(task)


async def test_requests_are_sent_in_the_order_in_which_they_came(
    tries: Trying, upstream: Upstream
) -> None:
    at = upstream_of(upstream.url, max_connections=1)
    requests = [asking(at, fields=[("X-Number", str(n))]) for n in range(20)]
    assert await asyncio.gather(*start(tries, *requests)) == [200] * 20

    assert [call.field("x-number") for call in upstream.calls] == [str(n) for n in range(20)]
    assert upstream.connections == 1


async def test_nothing_waits_beyond_the_endpoints_time(upstream: Upstream) -> None:
    """Neither in the queue, nor for the upstream after it."""
    upstream.script = hangs
    loop = asyncio.get_running_loop()
    async with trying(SystemClock()) as tries:
        at = upstream_of(upstream.url, max_connections=1, timeout=2000)
        begun = loop.time()
        first = asking(upstream_of(upstream.url, timeout=1000))
        first.connector = at
        outcomes = await asyncio.gather(*start(tries, first, asking(at), asking(at)))
        took_s = loop.time() - begun

    assert outcomes == ["upstream_timeout", "upstream_timeout", "overloaded"]
    assert 1.99 <= took_s < 3  # the loop's clock counts milliseconds
    assert len(upstream.calls) == 2


async def test_open_breaker_refuses_before_the_queue_and_after_it(
    tries: Trying, upstream: Upstream, eventually: Eventually
) -> None:
    go = asyncio.Event()

    async def fail(call: Call) -> None:
        await go.wait()
        await call.answer(500)

    upstream.script = fail
    at = upstream_of(upstream.url, max_connections=4, max_waiting=50)
    tasks = start(tries, *(asking(at) for _ in range(40)))
    await eventually(lambda: len(upstream.calls) == 4)
    go.set()

    assert sorted(map(str, await asyncio.gather(*tasks))) == ["500"] * 4 + ["circuit_open"] * 36
    assert len(upstream.calls) == 4


async def test_stream_holds_its_slot_until_its_last_byte(
    tries: Trying, upstream: Upstream, eventually: Eventually
) -> None:
    end = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await end.wait()
        await call.send(b"0\r\n\r\n")

    upstream.script = stream
    at = upstream_of(upstream.url, max_connections=1)
    first = asking(at)
    answer = await tries.send(first)
    pieces = answer.pieces()
    assert await anext(pieces) == b"a"
    (second,) = start(tries, asking(at))
    slots = tries.lane(at).slots
    await eventually(lambda: slots.waiting)
    end.set()
    assert [piece async for piece in pieces] == []
    assert (slots.taken, slots.waiting) == (1, 1)
    first.close()

    assert await second == 200
    assert slots.is_idle


async def test_answer_that_is_here_as_a_whole_holds_nothing(
    tries: Trying, upstream: Upstream
) -> None:
    at = upstream_of(upstream.url, max_connections=1, max_waiting=0)
    requests = [asking(at) for _ in range(3)]
    answers = [await tries.send(request) for request in requests]

    assert [answer.body for answer in answers] == [b"ok"] * 3
    assert tries.lane(at).slots.is_idle
    assert upstream.connections == 1
    for request in requests:
        request.close()


async def test_new_version_with_more_slots_lets_those_who_wait_through(
    tries: Trying, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = hangs
    at = upstream_of(upstream.url, max_connections=1)
    tasks = start(tries, asking(at), asking(at), asking(at))
    await eventually(lambda: upstream.calls)
    wider = dataclasses.replace(upstream_of(upstream.url, max_connections=9), id=at.id)
    tasks += start(tries, asking(wider))

    await eventually(lambda: len(upstream.calls) == 4)
    await cancelled(*tasks)


async def test_caller_that_goes_away_between_two_attempts_holds_nothing(
    clock: Hands, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = status(503)
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.get_running_loop().create_future()

    async with trying(clock, sleep=sleep) as tries:
        (task,) = start(tries, asking(at := upstream_of(upstream.url, retries=1)))
        await waiting.wait()
        assert tries.lane(at).slots.taken == 1
        await cancelled(task)

        assert tries.lane(at).slots.is_idle


@pytest.mark.parametrize("seed", range(4))
async def test_slots_never_leak_whatever_callers_and_upstreams_do(
    upstream: Upstream, seed: int
) -> None:
    """200 requests with retries at two targets that misbehave, cancelled at random."""
    chance = random.Random(seed)

    async def streams(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await asyncio.sleep(0)
        await call.send(b"0\r\n\r\n")

    scripts = [say_ok, say_ok, closes, resets, hangs, status(503), status(429), streams]

    async def any_of_them(call: Call) -> None:
        await chance.choice(scripts)(call)

    async def call(at: Any) -> None:
        request = asking(at, chance.choice(["GET", "POST"]))
        await asyncio.sleep(chance.random() / 10)
        try:
            answer = await made.send(request)
            assert made.lane(at).slots.taken <= 5
            if chance.random() < 0.7:
                await whole(answer)
        finally:
            request.close()

    upstream.script = any_of_them
    urls = [upstream.url, f"http://127.0.0.1:{closed_port()}"]
    never = BreakerSettings(least_attempts=10**9)
    async with trying(
        SystemClock(), breaker=never, chance=chance.random, sleep=asyncio.sleep
    ) as made:
        targets = [{"url": url} for url in urls]
        at = upstream_of(upstream.url, 3, targets=targets, max_connections=5, timeout=400)
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(call(at)) for _ in range(200)]
        while left := [task for task in tasks if not task.done()]:
            if chance.random() < 0.3:
                chance.choice(left).cancel()
            await asyncio.sleep(0.001)
        ends = {type(end) for end in await asyncio.gather(*tasks, return_exceptions=True)}

        assert ends <= {type(None), Rejected, Blameless, asyncio.CancelledError}
        assert made.lane(at).slots.is_idle
