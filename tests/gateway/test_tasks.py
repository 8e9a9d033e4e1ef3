"""Background tasks: none is lost, none fails silently, and all end when told to."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from gateway.tasks import Tasks

Eventually = Callable[[Callable[[], object]], Awaitable[None]]


async def fail(error: Exception) -> None:
    raise error


async def test_task_that_nobody_holds_lives_until_it_is_done(eventually: Eventually) -> None:
    tasks, go, done = Tasks(), asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        done.append(1)

    tasks.start(work(), "work")
    await asyncio.sleep(0)
    gc.collect()
    go.set()
    await eventually(lambda: done)
    await tasks.stop()


async def test_failure_is_logged_with_its_cause_and_its_task(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    tasks = Tasks()
    tasks.start(fail(ValueError("broken")), "the name")
    await eventually(lambda: caplog.records)
    [record] = caplog.records

    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "broken"
    assert record.__dict__["task"] == "the name"


async def test_expected_failure_is_left_to_whoever_awaits(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(expected=(ConnectionError,))
    task = tasks.start(fail(ConnectionResetError("gone")), "upload")

    with pytest.raises(ConnectionResetError, match="gone"):
        await task
    await asyncio.sleep(0)
    assert caplog.records == []


async def test_stop_ends_what_runs_and_waits_for_its_cleanup() -> None:
    tasks, cleaned = Tasks(), []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(number)

    started = [tasks.start(work(number), f"{number}") for number in range(3)]
    await asyncio.sleep(0)
    await tasks.stop()

    assert sorted(cleaned) == [0, 1, 2]
    assert all(task.cancelled() for task in started)


async def test_stop_survives_a_cleanup_that_fails(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    tasks = Tasks()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("broken")

    tasks.start(work(), "rude")
    await asyncio.sleep(0)
    await tasks.stop()
    await eventually(lambda: caplog.records)

    assert [record.__dict__["task"] for record in caplog.records] == ["rude"]


async def test_stop_with_nothing_to_stop_returns_and_cancelled_tasks_are_no_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks()
    task = tasks.start(asyncio.Event().wait(), "waiting")
    task.cancel()
    await tasks.stop()
    await tasks.stop()

    assert caplog.records == []


Outcome = BaseException | None


class Turns:
    """A turn that fails or works as told, and works once it was told all; `done` counts them."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = iter(outcomes)
        self.done = 0

    async def __call__(self) -> None:
        self.done += 1
        if (error := next(self._outcomes, None)) is not None:
            raise error


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.message) for record in caplog.records]


@pytest.mark.parametrize(
    "error",
    [ValueError("broken"), TimeoutError(), RecursionError(), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
async def test_repeated_work_goes_on_whatever_it_raises(
    error: BaseException, eventually: Eventually
) -> None:
    tasks, turns = Tasks(), Turns(None, error, None)
    task = tasks.repeat(turns, 0, "turns")
    await eventually(lambda: turns.done > 4)

    assert not task.done()
    await tasks.stop()
    assert task.cancelled()


async def test_repeated_work_outlives_the_cancellation_of_what_it_waits_for(
    eventually: Eventually,
) -> None:
    tasks, done = Tasks(), []

    async def turn() -> None:
        done.append(1)
        if len(done) == 1:
            other = tasks.start(asyncio.Event().wait(), "other")
            await asyncio.sleep(0)
            other.cancel()
            await other

    tasks.repeat(turn, 0, "turns")
    await eventually(lambda: len(done) > 2)
    await tasks.stop()


async def test_repeated_work_ends_though_a_turn_swallows_its_cancellation() -> None:
    tasks, done = Tasks(), []

    async def turn() -> None:
        done.append(1)
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    for every_s in (0, 3600):
        tasks.repeat(turn, every_s, "turns")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.stop()

    assert len(done) == 2


async def test_failure_of_repeated_work_is_logged_once_until_it_works_again(
    caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    caplog.set_level(logging.INFO)
    tasks = Tasks(expected=(ConnectionError,))
    away, fault = ConnectionResetError("gone"), ValueError("broken")
    tasks.repeat(Turns(None, away, away, None, away, fault, None), 0, "the name")
    await eventually(lambda: len(caplog.records) == 5)
    await tasks.stop()

    fails, works = "background work fails", "background work works again"
    assert logged(caplog) == [
        (logging.WARNING, fails), (logging.INFO, works), (logging.WARNING, fails),
        (logging.ERROR, fails), (logging.INFO, works),
    ]  # fmt: skip
    assert {record.__dict__["task"] for record in caplog.records} == {"the name"}
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [
        None, None, None, fault, None,
    ]  # fmt: skip


async def test_repeated_work_that_fails_is_left_alone_for_longer_and_longer(
    monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    turns = Turns(*[ValueError()] * 7, None, ValueError(), None)
    monkeypatch.setattr("gateway.tasks.asyncio.sleep", noted)
    tasks = Tasks()
    tasks.repeat(turns, 60, "turns")
    async with asyncio.timeout(5):
        while turns.done < 11:
            await sleep(0)
    await tasks.stop()

    assert waits[:10] == [0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 60, 0.2, 60]


async def test_work_that_persists_ends_when_it_works(eventually: Eventually) -> None:
    tasks, turns = Tasks(), Turns(ValueError(), None)
    task = tasks.persist(turns, "once")
    await eventually(task.done)

    assert turns.done == 2
    assert task.exception() is None


async def test_stop_ends_although_work_swallows_its_cancellation(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once is made good by another one; always is told, and nobody waits for it."""
    monkeypatch.setattr("gateway.tasks._STOP_TURN_S", 0.05)
    tasks, go = Tasks(), asyncio.Event()
    told: list[int] = []

    async def swallow(most: int) -> None:
        while not go.is_set() and len(told) < most:
            try:
                await go.wait()
            except asyncio.CancelledError:
                told.append(1)

    once = tasks.start(swallow(1), "once")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.stop()
    assert once.done()
    assert caplog.records == []
    always = tasks.start(swallow(1_000), "always")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.stop()
    go.set()
    await always

    assert [record.__dict__["tasks"] for record in caplog.records] == [["always"]]
