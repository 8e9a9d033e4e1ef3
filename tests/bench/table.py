"""The results as a Markdown table with the conditions under which they came about."""

from __future__ import annotations

import platform
import subprocess
import sysconfig
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import envoy_peer as envoy
import load
import nginx_peer as nginx
import peers
import upstream
from children import ROOT
from cpu import share_out
from sample import medians

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sample import Bench, Sample

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
FULL = 0.9
HEAD = """\
| proxy | CPU per request | lowest to highest | ratio to Envoy | requests/s | p50 | p99 | its core | load's core |
|---|--:|--:|--:|--:|--:|--:|--:|--:|"""

Results = dict[str, list["Sample"]]


def rendered(results: Results, bench: Bench) -> str:
    """The whole block: conditions, table, errors if there were any."""
    envoy_us = medians(results[peers.ENVOY]).cpu_us if peers.ENVOY in results else None
    lines = [f"{_conditions(bench, results)}\n", HEAD]
    for name, samples in results.items():
        lines += _rows(name, samples, envoy_us)
    return "\n".join([*lines, *_doubts(results)])


def save(block: str) -> None:
    """Put the block between the markers of the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{block}\n{END}{after}")


def _rows(name: str, samples: list[Sample], envoy_us: float | None) -> list[str]:
    middle = medians(samples)
    rest = (
        f"{middle.per_s:,.0f} | {middle.p50_ms:.2f} ms | {middle.p99_ms:.2f} ms"
        f" | {middle.busy:.0%} | {middle.load_busy:.0%} |"
    )
    if not middle.cpu_us:
        return [f"| {name} | | | | {rest}"]
    rows = [f"| {name} | {_cost([s.cpu_us for s in samples], middle.cpu_us, envoy_us)} | {rest}"]
    if middle.database_us:
        with_database = [s.cpu_us + s.database_us for s in samples]
        cost = _cost(with_database, middle.cpu_us + middle.database_us, envoy_us)
        rows.append(f"| … with the PostgreSQL that it runs | {cost} | | | | | |")
    return rows


def _doubts(results: Results) -> Iterator[str]:
    for name, samples in results.items():
        if errors := sum(sample.errors for sample in samples):
            yield f"\n**{name}: {errors:.0f} calls failed; its figures are worth nothing.**"
    every = [sample for samples in results.values() for sample in samples]
    if idle := sum(max(sample.busy, sample.load_busy) < FULL for sample in every):
        yield (
            f"\nIn {idle} of {len(every)} measurements neither core was full: other programs were "
            "at work, or there are too few connections, which makes a call look dearer than it is."
        )


def _cost(each_us: list[float], middle_us: float, envoy_us: float | None) -> str:
    ratio = f"{middle_us / envoy_us:.2f}" if envoy_us else ""
    return f"{middle_us:.1f} µs | {min(each_us):.1f} to {max(each_us):.1f} | {ratio}"


def _conditions(bench: Bench, results: Results) -> str:
    rounds = len(next(iter(results.values())))
    one_core = share_out().proxy == share_out().load
    pinned = "one core for all" if one_core else "the proxy on one core, the rest on another"
    parts = [
        time.strftime("%Y-%m-%d", time.gmtime()),
        f"{platform.system()} {platform.machine()}, {_cpu_model()}, {pinned}",
        f"{python()}{_peer_versions()}",
        f"load: {load.generator()}, {bench.connections} connections, {rounds} rounds of "
        f"{bench.seconds} s each, upstream: {upstream.kind()}; medians of the rounds",
    ]
    return "Measured " + "; ".join(parts) + "."


def python() -> str:
    """The interpreter, how it was built (that alone may be a fifth of all), and what counts in it."""
    built = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    pgo = "with" if "--enable-optimizations" in built else "without"
    lto = "with" if "--with-lto" in built else "without"
    return (
        f"CPython {platform.python_version()} ({pgo} PGO, {lto} LTO, {platform.python_compiler()}), "
        f"aiohttp {version('aiohttp')}, uvloop {version('uvloop')}"
    )


def _peer_versions() -> str:
    found = ""
    if program := envoy.program():
        found += f", Envoy {envoy.version(program)}"
    if program := nginx.program():
        printed = subprocess.run([program, "-v"], capture_output=True, text=True, check=True)
        found += f", nginx {printed.stderr.strip().rpartition('/')[2]}"
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"
