"""Places: how many requests are in flight, who waits, who is sent away, and that none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from filters.concurrency import Concurrency, Options
from gateway.exchange import Exchange, Response
from gateway.options import OptionFaults, load
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.settings import DEFAULT_PIPELINE
from tests.dataplane import (
    Gateway,
    answering,
    assert_honest,
    caller,
    connector,
    exchange,
    refusal_of,
)
from tests.loopback import Call, Reader, Upstream

AT = connector("http://up")
Wait = Callable[..., Any]
Start = Callable[..., Awaitable[Gateway]]
FULL = {"most_in_flight": 1, "most_waiting": 0}


def stage(runtime: Runtime, **options: Any) -> Concurrency:
    return Concurrency(load(Options, options), runtime)


def asking(team: str = "red", key: str = "k") -> Exchange:
    made = exchange(at=AT)
    made.caller = caller(team=team, id=key)
    return made


async def served(stage: Concurrency, count: int = 1, **who: str) -> list[Exchange]:
    """So many requests whose answers are still being sent."""
    requests = [asking(**who) for _ in range(count)]
    for request in requests:
        await stage(request, answering())
    return requests


async def fits(stage: Concurrency) -> bool:
    """True when one more request gets a place; it gives it back."""
    request = asking("somebody else")
    try:
        await stage(request, answering())
    except Rejected:
        return False
    finally:
        request.close()
    return True


@pytest.mark.parametrize(
    "options", [{"most_in_flight": 0}, {"most_waiting": -1}, {"wait_s": -1}, {"per_team": 0}]
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(OptionFaults):
        load(Options, options)


async def test_request_past_the_bound_is_sent_away_at_once(runtime: Runtime) -> None:
    places = stage(runtime, most_in_flight=2, most_waiting=0)
    first, second = await served(places, 2)
    refused = await refusal_of(places, asking())
    first.close()

    assert (refused.code, refused.status) == ("overloaded", 503)
    assert refused.headers == [(b"Retry-After", b"1")]
    assert runtime.metrics.limit_decisions == {
        ("in_flight", "admitted", "memory"): 2, ("in_flight", "refused", "memory"): 1
    }  # fmt: skip
    assert await fits(places)
    second.close()


async def test_place_is_held_until_the_exchange_is_over(runtime: Runtime) -> None:
    places = stage(runtime, **FULL)
    [request] = await served(places)
    assert not await fits(places)

    request.close()
    assert await fits(places)


async def test_those_who_wait_get_places_in_their_order(runtime: Runtime, eventually: Wait) -> None:
    places, order = stage(runtime, most_in_flight=1, most_waiting=3, wait_s=30), []
    [holding] = await served(places)

    async def wait(number: int) -> None:
        request = asking()
        await places(request, answering())
        order.append(number)
        request.close()

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(wait(number))
        await eventually(lambda: places.waiting == 3)
        full = await refusal_of(places, asking())
        holding.close()
        # who comes now stands behind those who wait, even where a place is free
        late = group.create_task(wait(3))

    assert late.done()
    assert (full.code, order) == ("overloaded", [0, 1, 2, 3])
    assert await fits(places)


@pytest.mark.parametrize("wait_s", [0, 0.01])
async def test_waiting_has_an_end(runtime: Runtime, wait_s: float) -> None:
    places = stage(runtime, most_in_flight=1, most_waiting=1, wait_s=wait_s)
    [holding] = await served(places)
    for _ in range(3):
        assert (await refusal_of(places, asking())).code == "overloaded"

    holding.close()
    assert await fits(places)


async def test_team_has_a_bound_of_its_own(runtime: Runtime) -> None:
    places = stage(runtime, per_team=2)
    first, *_ = await served(places) + await served(places, key="another key")
    refused = await refusal_of(places, asking())
    other = await places(asking("blue"), answering())
    first.close()
    [again] = await served(places)

    assert (refused.code, refused.status) == ("too_many_concurrent", 429)
    assert refused.headers == [(b"Retry-After", b"1")]
    assert other.body == b"inner"
    decisions = runtime.metrics.limit_decisions
    assert decisions["per_team", "admitted", "memory"] == 4
    assert decisions["per_team", "refused", "memory"] == 1
    again.close()


async def test_request_that_is_sent_away_leaves_its_teams_place(runtime: Runtime) -> None:
    places = stage(runtime, **FULL, per_team=1)
    [holding] = await served(places, team="blue")
    for _ in range(3):
        request = asking()
        assert (await refusal_of(places, request)).code == "overloaded"
        request.close()

    holding.close()
    [again] = await served(places)
    assert (await refusal_of(places, asking())).code == "too_many_concurrent"
    again.close()


async def test_thousand_aborts_leak_no_place(runtime: Runtime, eventually: Wait) -> None:
    options = {"most_in_flight": 5, "most_waiting": 995, "wait_s": 30, "per_team": 1000}
    places, gate = stage(runtime, **options), asyncio.Event()

    async def held(_request: Exchange) -> Response:
        await gate.wait()
        return Response(200)

    async def call() -> None:
        request = asking()
        with suppress(asyncio.CancelledError):
            try:
                await places(request, held)
            finally:
                request.close()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call()) for _ in range(1000)]
        await eventually(lambda: places.waiting == 995)
        for task in tasks[::2] + tasks[1::2]:
            task.cancel()

    assert places.waiting == 0
    holding = await served(places, 5)
    one_too_many = asyncio.gather(places(asking(), answering()))
    await eventually(lambda: places.waiting == 1)
    holding[0].close()
    await one_too_many


async def test_place_is_free_again_when_the_last_byte_has_left(
    gateway: Start, upstream: Upstream
) -> None:
    entry = {"concurrency": FULL}
    running = await gateway([*DEFAULT_PIPELINE[:3], entry, *DEFAULT_PIPELINE[3:]])
    key = await running.rows.key()
    await running.rows.connector(upstream.url)
    gate = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await gate.wait()
        await call.send(b"0\r\n\r\n")

    upstream.script = script
    client = await running.client()
    await client.request("GET", "/api/v1/gw/up/x", [("Authorization", f"Bearer {key}")])
    reader = Reader(client)
    while not reader.message.pieces:
        await reader.more()
    during = await running.call(key=key)
    gate.set()
    while await reader.more():
        pass
    after = await running.call(key=key)

    assert (during.status, during.code, during.field("retry-after")) == (503, "overloaded", "1")
    assert (reader.message.complete, after.status) == (True, 200)


async def test_it_reads_and_fills_what_it_says(runtime: Runtime) -> None:
    await assert_honest(stage(runtime, per_team=1), asking())
