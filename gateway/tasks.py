"""Background tasks that are never lost: held until done, and their failures are logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class Tasks:
    """A set of background tasks that end together.

    Failures of the `expected` types are left to whoever awaits the task, and not logged.
    """

    def __init__(self, expected: tuple[type[BaseException], ...] = ()) -> None:
        self._expected = expected
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background until it ends or `stop` is called."""
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - the one place
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, self._expected):
            log.error("background task failed", exc_info=error, extra={"task": task.get_name()})

    async def stop(self) -> None:
        """Cancel what runs and wait until it has ended."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
