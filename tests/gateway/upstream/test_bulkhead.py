"""Slots of a connector: bounded, in order, and never lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from gateway.problems import Rejected
from gateway.upstream.bulkhead import Bulkhead

LONG_S = 30.0


async def taking(slots: Bulkhead, most_s: float = LONG_S) -> None:
    """Take a slot, waiting for it if need be."""
    if not slots.enter():
        await slots.wait(most_s)


async def test_slots_are_free_up_to_the_bound() -> None:
    slots = Bulkhead(2, 5)

    assert [slots.enter() for _ in range(3)] == [True, True, False]
    assert (slots.taken, slots.is_idle) == (2, False)


async def test_who_waits_gets_slots_in_order_of_arrival() -> None:
    slots, order = Bulkhead(1, 10), list[int]()

    async def passing(number: int) -> None:
        await taking(slots)
        order.append(number)
        slots.leave()

    assert slots.enter()
    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(passing(number))
            await asyncio.sleep(0)
        assert slots.waiting == 10
        slots.leave()

    assert order == [*range(10)]
    assert slots.is_idle


async def test_newcomer_does_not_overtake_who_waits(eventually: Callable[..., Any]) -> None:
    slots = Bulkhead(1, 10)
    assert slots.enter()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(taking(slots))
        await eventually(lambda: slots.waiting)
        slots.leave()
        assert not slots.enter()
        await waiting

    assert (slots.taken, slots.waiting) == (1, 0)


@pytest.mark.parametrize("most_waiting", [0, 1, 3])
async def test_one_more_than_may_wait_is_refused_at_once(most_waiting: int) -> None:
    slots = Bulkhead(1, most_waiting)
    assert slots.enter()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(taking(slots)) for _ in range(most_waiting)]
        await asyncio.sleep(0)
        with pytest.raises(Rejected) as caught:
            await slots.wait(LONG_S)
        for task in tasks:
            task.cancel()

    assert (caught.value.code, caught.value.status) == ("overloaded", 503)
    assert (b"Retry-After", b"1") in caught.value.headers
    assert (slots.taken, slots.waiting) == (1, 0)


@pytest.mark.parametrize("most_s", [0.01, 0, -1])
async def test_nobody_waits_beyond_its_time(most_s: float) -> None:
    slots = Bulkhead(1, 1)
    assert slots.enter()
    with pytest.raises(Rejected, match="overloaded"):
        await slots.wait(most_s)

    assert (slots.taken, slots.waiting) == (1, 0)
    slots.leave()
    assert slots.is_idle


async def test_caller_that_goes_away_while_it_waits_leaves_the_queue() -> None:
    slots = Bulkhead(1, 5)
    assert slots.enter()
    first, second = (asyncio.get_running_loop().create_task(taking(slots)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert slots.waiting == 1
    slots.leave()
    await second

    assert (slots.taken, slots.waiting) == (1, 0)


async def test_slot_that_comes_when_its_caller_has_just_gone_goes_to_the_next() -> None:
    slots = Bulkhead(1, 5)
    assert slots.enter()
    loop = asyncio.get_running_loop()
    first, second = (loop.create_task(taking(slots)) for _ in range(2))
    await asyncio.sleep(0)
    slots.leave()  # the first has it, and has not been told yet
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await second

    assert (first.cancelled(), slots.taken, slots.waiting) == (True, 1, 0)


async def test_more_slots_are_given_at_once_and_fewer_when_they_come_back() -> None:
    slots = Bulkhead(1, 5)
    assert slots.enter()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(taking(slots))
        await asyncio.sleep(0)
        slots.resize(3, 5)
    assert (slots.taken, slots.waiting) == (3, 0)

    slots.resize(1, 5)
    slots.leave()
    assert not slots.enter()
    slots.leave()
    slots.leave()

    assert slots.enter()


@pytest.mark.parametrize("seed", range(20))
async def test_slots_never_leak_whatever_is_cancelled(seed: int) -> None:
    """500 callers that come, hold, time out and go away at random: the gauge is back at zero."""
    chance, slots, most = random.Random(seed), Bulkhead(5, 40), 0

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def call() -> None:
        nonlocal most
        await turns(chance.randrange(30))
        await taking(slots, chance.choice([0, 0.0005, LONG_S]))
        try:
            most = max(most, slots.taken)
            await turns(chance.randrange(5))
        finally:
            slots.leave()

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(call()) for _ in range(500)]
    while waiting := [task for task in tasks if not task.done()]:
        if chance.random() < 0.7:
            chance.choice(waiting).cancel()
        if chance.random() < 0.1:
            slots.resize(chance.randrange(1, 6), chance.randrange(40))
        await asyncio.sleep(0)
    ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(end) for end in ends} <= {type(None), Rejected, asyncio.CancelledError}
    assert type(None) in {type(end) for end in ends}
    assert 0 < most <= 5
    assert slots.is_idle
