"""One measurement of one target, and the medians over the rounds."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import load
from cpu import tree, used_s

if TYPE_CHECKING:
    from cpu import Cores
    from target import Target

SETTLE_S = 0.5
SETTLE_AT_MOST_S = 5.0
QUIET = 0.02


@dataclass(frozen=True)
class Sample:
    """Figures of a target; CPU in microseconds a request, `busy` as shares of a core."""

    cpu_us: float
    database_us: float
    per_s: float
    p50_ms: float
    p99_ms: float
    busy: float
    load_busy: float
    errors: float


class Bench(NamedTuple):
    """What all measurements have in common."""

    cores: Cores
    upstream_pid: int
    connections: int
    seconds: int


def take(target: Target, bench: Bench) -> Sample:
    """Load the target for a while, let it finish what it put off, and divide."""
    own, database = target.used_s()
    upstream = used_s(tree(bench.upstream_pid))
    outcome = load.put(target.call, bench.connections, bench.seconds, bench.cores.load)
    busy_s = sum(target.used_s()) - own - database
    load_s = outcome.generator_cpu_s + used_s(tree(bench.upstream_pid)) - upstream
    own_after, database_after = _settled(target)
    requests = max(outcome.requests, 1)
    return Sample(
        cpu_us=1e6 * (own_after - own) / requests,
        database_us=1e6 * (database_after - database) / requests,
        per_s=outcome.requests / outcome.seconds,
        p50_ms=outcome.p50_ms,
        p99_ms=outcome.p99_ms,
        busy=busy_s / outcome.seconds,
        load_busy=load_s / outcome.seconds,
        errors=outcome.errors,
    )


def medians(samples: list[Sample]) -> Sample:
    """The median of each figure by itself; of errors the sum, for one is one too many."""
    columns = list(zip(*(astuple(sample) for sample in samples), strict=True))
    middle = Sample(*(median(column) for column in columns))
    return replace(middle, errors=sum(sample.errors for sample in samples))


def _settled(target: Target) -> tuple[float, float]:
    """CPU seconds once the target is idle: records and logs that were put off count as well."""
    used = target.used_s()
    if target.pid is None:
        return used
    deadline = time.monotonic() + SETTLE_AT_MOST_S
    while time.monotonic() < deadline:
        time.sleep(SETTLE_S)  # noqa: TID251 - no other work here, and idleness is what is awaited
        before, used = used, target.used_s()
        if sum(used) - sum(before) <= QUIET * SETTLE_S:
            break
    return used
