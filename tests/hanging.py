"""A run of the tests ends in every case: what hangs is told and ended, what was started is stopped.

pytest-timeout reads the settings and the markers; what happens when the time is over is done here. Of
its own methods one raises what uvloop logs and forgets, and the other ends a whole worker of xdist,
which gives the same test to the next one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, cast

import pytest

RUN: Final = "TEST_RUN"
"""The variable by which the processes that a run has started are known."""
_ENDING_S: Final = 5.0
"""What a run has started may take to end by itself."""

_ERRORS: Final = pytest.StashKey[int]()
"""Where the run's errors go, whatever pytest captures."""


class Hangs(SystemExit):
    """Fails a test that hangs: of what uvloop lets out of a callback, the kind that pytest reports."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how long a test may go on after it was failed."""
    parser.addoption("--timeout-grace", type=float, default=30.0, help="then its process is ended")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Mark what this run starts; a worker's run is that of its controller."""
    if not _is_worker(config):
        os.environ[RUN] = f"{os.getpid()}-{time.time_ns()}"
    config.stash[_ERRORS] = os.dup(2)  # pytest captures later what is written to 2


def pytest_sessionstart(session: pytest.Session) -> None:
    """Interrupt a run of several workers when `--session-timeout` is over: they look between tests."""
    limit_s = session.config.getoption("session_timeout", None)
    if limit_s and session.config.getoption("numprocesses", None):

        def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
            raise KeyboardInterrupt(f"the run has not ended within {limit_s} s")

        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, limit_s)


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Called by pytest-timeout when a test begins."""
    within_s: float = settings.timeout
    grace_s: float = item.config.getoption("timeout_grace")
    errors = item.config.stash[_ERRORS]

    def fail(_number: int, _frame: FrameType | None) -> NoReturn:
        sys.stderr.write(told())
        raise Hangs(f"{item.nodeid} has not ended within {within_s:g} s")

    def told() -> str:
        return f"\n{item.nodeid} hangs.\n\n{''.join(_stacks())}"

    def give_up() -> None:
        os.write(errors, told().encode(errors="replace"))
        if not _is_worker(item.config):
            _end_started(0)
        os._exit(1)

    last = threading.Timer(within_s + grace_s, give_up)
    last.daemon = True
    last.start()
    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, within_s)
    # For what never lets another thread run.
    faulthandler.dump_traceback_later(within_s + 2 * grace_s, exit=True, file=errors)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()
        last.cancel()

    cast("Any", item).cancel_timeout = cancel  # which pytest-timeout calls
    return True


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what is still there of what the run has started; the run has failed then."""
    if _is_worker(session.config):
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    if left := _end_started(_ENDING_S):
        os.write(session.config.stash[_ERRORS], "".join(left).encode(errors="replace"))
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _stacks() -> Iterator[str]:
    """Where every thread and every task of asyncio is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented, for debuggers
        yield f"Thread {names.get(ident, ident)}:\n"
        yield from traceback.format_stack(frame)
    for task in [found for found in gc.get_objects() if issubclass(type(found), asyncio.Task)]:
        if not task.done():
            yield f"Task {task.get_name()}:\n"
            yield from traceback.StackSummary.extract(_awaited(task.get_coro())).format()


def _awaited(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """The frames of a coroutine and of what it awaits, as far as they are Python's."""
    while coroutine is not None:
        for kind in ("cr", "gi", "ag"):
            if (frame := getattr(coroutine, f"{kind}_frame", None)) is not None:
                yield frame, frame.f_lineno
                inner = "gi_yieldfrom" if kind == "gi" else f"{kind}_await"
                coroutine = getattr(coroutine, inner)
                break
        else:
            return


def _end_started(within_s: float) -> list[str]:
    """Wait for the processes of this run, then kill them; a line for each that was killed."""
    deadline = time.monotonic() + within_s
    while (left := dict(_started())) and time.monotonic() < deadline:
        time.sleep(0.05)  # noqa: TID251 - a stranger's process has no event for us
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"left running, and killed: {line}\n" for line in left.values()]


def _started() -> Iterator[tuple[int, str]]:
    """The processes that inherited the mark of this run: ids, and what they are and whose."""
    mark = f"{RUN}={os.environ[RUN]}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            environ = (folder / "environ").read_bytes().split(b"\0")
            if mark in environ and int(folder.name) != os.getpid():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                test = next(
                    (e.decode() for e in environ if e.startswith(b"PYTEST_CURRENT_TEST")), ""
                )
                yield int(folder.name), f"{folder.name} {command[:200]} {test}"
