"""One timer for many deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.upstream.deadlines import TICK_S, Deadlines


class Waiting:
    def __init__(self) -> None:
        self.expired_at = 0.0

    def expire(self) -> None:
        self.expired_at = asyncio.get_running_loop().time()


async def test_deadline_that_passes_expires_once_and_not_early(
    eventually: Callable[..., Any],
) -> None:
    loop = asyncio.get_running_loop()
    deadlines, waiting = Deadlines(loop), Waiting()
    deadline = loop.time() + TICK_S / 2

    deadlines.watch(waiting, deadline)
    await eventually(lambda: waiting.expired_at)

    assert waiting.expired_at >= deadline


async def test_forgotten_deadline_never_expires(eventually: Callable[..., Any]) -> None:
    loop = asyncio.get_running_loop()
    deadlines, forgotten, later = Deadlines(loop), Waiting(), Waiting()

    deadlines.watch(forgotten, loop.time() + 0.01)
    deadlines.watch(later, loop.time() + 0.02)
    deadlines.forget(forgotten)
    deadlines.forget(forgotten)
    await eventually(lambda: later.expired_at)

    assert forgotten.expired_at == 0.0


async def test_watching_begins_again_after_a_quiet_time(eventually: Callable[..., Any]) -> None:
    loop = asyncio.get_running_loop()
    deadlines, first, second = Deadlines(loop), Waiting(), Waiting()
    deadlines.watch(first, loop.time())
    await eventually(lambda: first.expired_at)

    deadlines.watch(second, loop.time())
    await eventually(lambda: second.expired_at)

    assert second.expired_at > first.expired_at
