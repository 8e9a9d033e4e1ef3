"""Background tasks that are never lost: held until done, and their failures are logged."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

log = logging.getLogger(__name__)

_AGAIN_S: Final = 0.2
_AGAIN_MOST_S: Final = 5.0
_STOP_TURNS: Final = 4
_STOP_TURN_S: Final = 0.5


class Watch(Protocol):
    """Is told by name how each turn of work ended that is tried again."""

    def __call__(self, name: str, /, *, is_good: bool) -> None: ...


class Tasks:
    """A set of background tasks that end together.

    Failures of the `expected` types are left to whoever awaits the task, and not logged. In work
    that is tried again they are logged without a trace.
    """

    def __init__(
        self, expected: tuple[type[BaseException], ...] = (), watch: Watch | None = None
    ) -> None:
        self._expected = expected
        self._watch = watch
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background until it ends or `stop` is called."""
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - the one place
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def repeat(
        self, turn: Callable[[], Awaitable[object]], every_s: float, name: str
    ) -> asyncio.Task[Any]:
        """Do `turn` now and again, `every_s` after it has ended, until `stop` is called.

        Whatever a turn raises, there is a next one: soon at first, then every five seconds. A
        failure is logged once for each type until a turn works again, which is logged, too.
        """
        return self.start(self._repeat(turn, every_s, name), name)

    def persist(self, turn: Callable[[], Awaitable[object]], name: str) -> asyncio.Task[Any]:
        """Do `turn` until it works once or `stop` is called; failures are as in `repeat`."""
        return self.start(_until_it_works(turn, _Failures(name, self._expected, self._watch)), name)

    async def _repeat(
        self, turn: Callable[[], Awaitable[object]], every_s: float, name: str
    ) -> None:
        failures = _Failures(name, self._expected, self._watch)
        while True:
            await _until_it_works(turn, failures)
            if _is_told_to_end():  # the turn has swallowed it
                return
            await asyncio.sleep(every_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, self._expected):
            log.error("background task failed", exc_info=error, extra={"task": task.get_name()})

    async def stop(self) -> None:
        """Cancel what runs and wait until it has ended, but not for what swallows that again and again."""
        for _ in range(_STOP_TURNS):
            if not (running := list(self._running)):
                return
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=_STOP_TURN_S)
        if left := [task.get_name() for task in self._running]:
            log.error("background work does not end", extra={"tasks": sorted(left)})


async def _until_it_works(turn: Callable[[], Awaitable[object]], failures: _Failures) -> None:
    wait_s = _AGAIN_S
    while True:
        try:
            await turn()
        except (Exception, asyncio.CancelledError) as error:
            if _is_told_to_end():
                raise
            failures.tell(error)
        else:
            failures.end()
            return
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, _AGAIN_MOST_S)


def _is_told_to_end() -> bool:
    """True once this task was cancelled, which is more than a CancelledError from elsewhere."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _Failures:
    """What has been logged of the failures of one piece of work since it last worked."""

    def __init__(
        self, name: str, expected: tuple[type[BaseException], ...], watch: Watch | None
    ) -> None:
        self._name = name
        self._watch = watch
        self._expected = expected
        self._told: set[type[BaseException]] = set()

    def tell(self, error: BaseException) -> None:
        """Log a failure, unless one of its type was logged."""
        if self._watch is not None:
            self._watch(self._name, is_good=False)
        if type(error) in self._told:
            return
        self._told.add(type(error))
        expected = isinstance(error, self._expected)
        log.log(
            logging.WARNING if expected else logging.ERROR,
            "background work fails",
            exc_info=None if expected else error,
            extra={"task": self._name, "reason": str(error) or type(error).__name__},
        )

    def end(self) -> None:
        """Log that the work works again, if it had failed."""
        if self._watch is not None:
            self._watch(self._name, is_good=True)
        if self._told:
            self._told.clear()
            log.info("background work works again", extra={"task": self._name})
