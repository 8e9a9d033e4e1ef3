"""What the operating system says that processes have used, and which core they may run on.

Linux only: reads /proc. All times are CPU seconds, user and system added.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Cores(NamedTuple):
    """The cores of the proxy under test, and those of the load generator with its upstream."""

    proxy: frozenset[int]
    load: frozenset[int]


def share_out() -> Cores:
    """One core for the proxy, another for the rest; the same for both where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(allowed[:1]), frozenset(allowed[-1:]))


@contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Children started inside the block inherit these cores; this process gets its own back."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(root: int | None) -> set[int]:
    """The ids of a process and everything below it; empty for None and for the dead."""
    if root is None or not Path(f"/proc/{root}").exists():
        return set()
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children[int(fields[1])].append(int(entry.name))
    found, waiting = set(), [root]
    while waiting:
        pid = waiting.pop()
        found.add(pid)
        waiting += children[pid]
    return found


def used_s(pids: Iterable[int]) -> float:
    """CPU seconds of these processes so far, with those of their children that have ended."""
    ticks = 0
    for pid in pids:
        if fields := _stat(pid):
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat that follow the name (proc(5): state is 3, here 0)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
