"""A probe for the event loop: how long it did not come round, in its thread's processor time."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.tasks import Tasks

MOST_S = 0.05
"""How long one callback may hold the loop, in seconds of its thread's processor time."""
_BEAT_S = 0.001


class LoopWatch:
    """The longest time between two beats, which is at least that of the longest callback."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def beat(self) -> None:
        """Beat until cancelled. Other threads and processes do not count."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(_BEAT_S)
            now = time.thread_time()
            self.longest_s, last = max(self.longest_s, now - last), now


@asynccontextmanager
async def watching(most_s: float = MOST_S) -> AsyncIterator[LoopWatch]:
    """Fail when a callback of the running loop, whichever it is, holds it for longer."""
    watch, tasks = LoopWatch(), Tasks()
    gc.collect()
    gc.freeze()  # what the tests themselves have made is no work of the code under test
    tasks.start(watch.beat(), "loop watch")
    await asyncio.sleep(_BEAT_S)
    try:
        yield watch
        await asyncio.sleep(2 * _BEAT_S)
    finally:
        await tasks.stop()
        gc.unfreeze()
    assert watch.longest_s <= most_s, f"the loop was held for {watch.longest_s:.3f} s"
