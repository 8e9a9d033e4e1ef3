"""Child processes: ready when a condition says so, ended for certain, and gone with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.lifecycle import processes
from gateway.lifecycle.processes import ProcessFault

PYTHON = sys.executable


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def test_what_a_program_says_is_kept_and_told(tmp_path: Path) -> None:
    log = tmp_path / "log"

    _, said = await processes.run(log, None, [PYTHON, "-c", "print('hello')"])

    assert said == "hello\n"
    assert log.read_text() == "hello\n"
    assert log.stat().st_mode & 0o777 == 0o600


async def test_failing_program_is_one_line_with_its_reason(tmp_path: Path) -> None:
    code = "import sys; print('FATAL:  no room', file=sys.stderr); sys.exit(3)"

    with pytest.raises(ProcessFault, match="failed: no room"):
        await processes.run(tmp_path / "log", None, [PYTHON, "-c", code])


async def test_missing_program_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ProcessFault, match="/no/such/program"):
        await processes.run(tmp_path / "log", None, ["/no/such/program"])


async def test_server_runs_until_it_is_ended(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"

    server, _ = await processes.run(
        tmp_path / "log", None, [PYTHON, "-c", code], is_ready=lambda _: ready.exists()
    )
    assert server.poll() is None
    await processes.end(server)

    assert server.poll() is not None


async def test_child_gets_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "hidden")
    code = "import os; print(sorted(os.environ))"

    _, said = await processes.run(tmp_path / "log", None, [PYTHON, "-c", code], {"A": "1"})

    assert "PGPASSWORD" not in said
    assert "'A'" in said


@pytest.mark.parametrize("interrupts", ["SIG_DFL", "SIG_IGN"])
async def test_server_ends_with_its_parent(
    tmp_path: Path, eventually: Callable[..., Any], interrupts: str
) -> None:
    """Also when a shell started it as a job in the background, for which interrupts are ignored."""
    told = tmp_path / "pid"
    code = textwrap.dedent(f"""
        import asyncio, pathlib, signal, sys
        from gateway.lifecycle import processes
        signal.signal(signal.SIGINT, signal.{interrupts})
        async def main():
            child = "import time; time.sleep(600)"
            server, _ = await processes.run(
                pathlib.Path({str(tmp_path / "log")!r}), None, [sys.executable, "-c", child],
                is_ready=lambda pid: True,
            )
            path = pathlib.Path({str(told)!r})
            path.with_suffix(".new").write_text(str(server.pid))
            path.with_suffix(".new").rename(path)
            await asyncio.sleep(600)
        asyncio.run(main())
    """)
    parent = subprocess.Popen([PYTHON, "-c", code])
    try:
        await eventually(told.exists)
        child = int(told.read_text())
        assert lives(child)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    if sys.platform == "linux":
        await eventually(lambda: not lives(child))
    else:
        os.kill(child, signal.SIGKILL)
        await eventually(lambda: not lives(child))


def test_child_whose_parent_is_gone_already_does_not_begin() -> None:
    follow = partial(processes._follow, os.getpid() + 1)  # noqa: SLF001 - a race that no test can win
    child = subprocess.Popen(
        [PYTHON, "-c", "print('begun')"],
        stdout=subprocess.PIPE,
        preexec_fn=follow,  # noqa: PLW1509 - as there
    )

    assert (child.communicate()[0], child.returncode) == (b"", 1)
