"""Background tasks: none is lost, none fails silently, and all end when told to."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable

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
