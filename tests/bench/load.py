"""Puts load on a proxy: by wrk where it is installed, else by our own generator."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import TYPE_CHECKING

from call import BODY
from cpu import pinned

if TYPE_CHECKING:
    from call import Call

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Outcome:
    """What the load generator saw. Every answer that is not 2xx is an error."""

    requests: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float
    generator_cpu_s: float


def generator() -> str:
    """The name of the load generator that is used."""
    return "wrk" if shutil.which("wrk") else "own load generator"


def put(call: Call, connections: int, seconds: int, cores: frozenset[int]) -> Outcome:
    """Send the call over this many kept connections, each waiting for its answer, for a time."""
    argv = (_wrk if shutil.which("wrk") else _own)(call, connections, seconds)
    before = getrusage(RUSAGE_CHILDREN)
    with pinned(cores):
        ran = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=seconds + 60
        )
    after = getrusage(RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if ran.returncode:  # it could not even connect
        return Outcome(0, 1, float(seconds), 0.0, 0.0, cpu_s)
    return Outcome(**json.loads(ran.stdout.splitlines()[-1]), generator_cpu_s=cpu_s)


def _wrk(call: Call, connections: int, seconds: int) -> list[str]:
    url = f"http://127.0.0.1:{call.port}{call.path}"
    sizes = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s"]
    headers = {"Content-Type": "application/json", **call.headers}
    arguments = [BODY.decode(), *chain.from_iterable(headers.items())]
    return ["wrk", *sizes, "-s", str(HERE / "load.lua"), url, "--", *arguments]


def _own(call: Call, connections: int, seconds: int) -> list[str]:
    where = [str(call.port), call.path, str(connections), str(seconds), json.dumps(call.headers)]
    return [sys.executable, str(HERE / "raw_load.py"), *where]
