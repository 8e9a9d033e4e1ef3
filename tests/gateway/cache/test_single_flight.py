"""One at a time: who waits, who goes on, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from gateway.cache.single_flight import SingleFlight

Wait = Callable[..., Any]


async def test_way_is_free_before_and_after() -> None:
    flights: SingleFlight[str] = SingleFlight()
    assert flights.running("a") is None
    with flights.begin("a", "why") as flight:
        assert flights.running("a") is flight
        assert flights.running("b") is None
        assert (flight.subject, flight.followers) == ("why", 0)

    assert flights.running("a") is None


@pytest.mark.parametrize(
    ("error", "ended"), [(None, True), (ValueError(), True), (asyncio.CancelledError(), False)]
)
async def test_followers_learn_whether_the_work_was_done(
    error: BaseException | None, ended: bool, eventually: Wait
) -> None:
    flights: SingleFlight[str] = SingleFlight()
    async with asyncio.TaskGroup() as group:
        with suppress(ValueError, asyncio.CancelledError), flights.begin("a") as flight:
            followers = [group.create_task(flight.ended()) for _ in range(3)]
            await eventually(lambda: flight.followers == 3)
            assert not any(follower.done() for follower in followers)
            if error is not None:
                raise error

    assert [follower.result() for follower in followers] == [ended] * 3


async def test_after_the_end_the_first_who_waited_leads_and_the_others_wait_for_it() -> None:
    flights: SingleFlight[str] = SingleFlight()
    order: list[int] = []

    async def work(number: int) -> None:
        while (flight := flights.running("a")) is not None:
            await flight.ended()
        with flights.begin("a"):
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work(number))
            await asyncio.sleep(0)

    assert order == [0, 1, 2, 3]


async def test_follower_that_gives_up_takes_nobody_with_it(eventually: Wait) -> None:
    flights: SingleFlight[str] = SingleFlight()
    async with asyncio.TaskGroup() as group:
        with flights.begin("a") as flight:
            first, second = (group.create_task(flight.ended()) for _ in range(2))
            await eventually(lambda: flight.followers == 2)
            first.cancel()
            await asyncio.wait([first])
            assert not second.done()

    assert second.result()


async def test_two_at_a_time_are_a_fault() -> None:
    flights: SingleFlight[str] = SingleFlight()
    with flights.begin("a"), pytest.raises(AssertionError):
        flights.begin("a")
