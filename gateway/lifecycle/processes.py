"""Child processes that end with the process that started them, and what they say to a log.

Used for embedded servers; a server is ready when a condition says so, not when a program returns.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import pwd
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.002
LOG_LIMIT_BYTES: Final = 10_000_000
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
PR_SET_PDEATHSIG: Final = 1
_PRCTL: Final[Any] = getattr(ctypes.CDLL(None), "prctl", None)


class ProcessFault(Exception):
    """A program cannot run; the text is one line that says what to do."""


def open_private(path: Path) -> io.FileIO:
    """A file for this user alone, to read and append; never through a symbolic link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return io.FileIO(path, "a+", opener=lambda name, _: os.open(name, flags, 0o600))


async def run(
    log_path: Path,
    account: pwd.struct_passwd | None,
    command: Sequence[str],
    environ: Mapping[str, str] | None = None,
    is_ready: Callable[[int], bool] = lambda _: False,
) -> tuple[subprocess.Popen[bytes], str]:
    """Run a command until it has ended, or a server until it is ready; also what it said.

    It is told to stop when this process dies (on Linux). Raises ProcessFault when it fails.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a server started in this thread would be stopped when the thread ends")
    # A change of user clears this wish, so it is made between that and exec.
    follow = _PRCTL and partial(_follow, os.getpid())
    with open_private(log_path) as log:
        if (start := log.seek(0, os.SEEK_END)) > LOG_LIMIT_BYTES:
            start = log.truncate(0)
        try:
            program = subprocess.Popen(  # noqa: ASYNC220, S603 - starts at once, and is ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"LC_ALL": "C", **(environ or {})},  # nothing of PG*, no secret of the gateway
                user=account and account.pw_uid,
                group=account and account.pw_gid,
                extra_groups=[] if account else None,
                start_new_session=True,  # Ctrl-C is for the gateway, which stops its servers last
                preexec_fn=follow,  # noqa: PLW1509 - system calls, which take no lock
            )
        except OSError as error:
            user = account.pw_name if account else "this user"
            raise ProcessFault(f"let {user} run {command[0]}: {error.strerror}") from error
        try:
            await until(lambda: program.poll() is not None or is_ready(program.pid))
        except BaseException:
            await end(program)
            raise
        log.seek(start)
        said = log.read().decode(errors="replace")
    if program.returncode:
        reasons = re.findall(r"(?:FATAL|PANIC|error): +(.+)", said) + said.splitlines()[-1:]
        raise ProcessFault(f"{command[0]} failed: {reasons[0] if reasons else 'without a word'}")
    return program, said


def _follow(parent: int) -> None:
    """Have this process, a child before its exec, told to stop when its parent is gone."""
    signal.signal(STOP_SIGNALS[0], signal.SIG_DFL)  # a shell's job in the background ignores it
    _PRCTL(PR_SET_PDEATHSIG, STOP_SIGNALS[0])
    if os.getppid() != parent:  # gone before it could be asked for
        os._exit(1)


async def end(program: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, with more force each time that it has not in time."""
    for number in STOP_SIGNALS:
        program.send_signal(number)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await until(lambda: program.poll() is not None)
            return


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    while not condition():  # noqa: ASYNC110 - what a file says, or a stranger does, is no event
        await asyncio.sleep(POLL_S)


def answers(path: Path) -> bool:
    """True when something accepts connections at a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        return connection.connect_ex(str(path)) == 0
