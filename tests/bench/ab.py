"""Compares two trees of the gateway: what a call costs in this one beside another.

Both run at once and are loaded in turn (A B, B A, A B …). Each round gives one ratio, so that what
else the machine does falls on both; the result is the median of the ratios.
`python tests/bench/ab.py OTHER_TREE` with the one interpreter and its packages for both.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import gateway_under_test
import table
import upstream
from children import ROOT, Children
from cpu import share_out
from sample import Bench, Sample, take

if TYPE_CHECKING:
    from target import Target

LEAST_ROUNDS = 10


def main() -> None:
    """Start both, measure, print, end both."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name, Children(Path(name)) as kept:
        Path(name).chmod(0o711)  # PostgreSQL, run by root, is another user and must get through
        cores = share_out()
        upstream_pid, straight = upstream.start(kept, cores.load)
        bench = Bench(cores, upstream_pid, options.connections, options.seconds)
        pair = [
            gateway_under_test.start(
                kept, cores.proxy, straight.call.port, tree=tree, name=name
            ).target
            for name, tree in (("this", ROOT), ("other", options.other))
        ]
        for target in pair:
            target.check()
            take(target, bench._replace(seconds=1))
        print(f"{table.python()}\nthis: {ROOT}, other: {options.other}", flush=True)
        ratios = [_round(number, pair, bench) for number in range(1, options.rounds + 1)]
    low, _, high = quantiles(ratios, n=4)
    print(
        f"\nCPU per request, this tree / the other: {median(ratios):.3f} (median of {len(ratios)} "
        f"rounds; the middle half {low:.3f} to {high:.3f}, all {min(ratios):.3f} to {max(ratios):.3f})"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("other", type=lambda path: Path(path).resolve(), help="the other tree")
    parser.add_argument("--rounds", type=int, default=LEAST_ROUNDS, help="at least 10")
    parser.add_argument("--seconds", type=int, default=1, help="of load, for a tree in a round")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"fewer than {LEAST_ROUNDS} rounds tell nothing")
    if not (options.other / "gateway" / "__main__.py").is_file():
        parser.error(f"{options.other} is no tree of the gateway")
    return options


def _round(number: int, pair: list[Target], bench: Bench) -> float:
    """Measure both, in an order that changes; the ratio of this tree to the other."""
    samples: list[Sample] = [take(target, bench) for target in pair[:: -1 if number % 2 else 1]]
    this, other = samples[:: -1 if number % 2 else 1]
    if failed := this.errors + other.errors:
        sys.exit(f"{failed:.0f} calls failed: the figures are worth nothing")
    ratio = this.cpu_us / other.cpu_us
    print(f"{number:2}  {this.cpu_us:7.1f} µs  {other.cpu_us:7.1f} µs  {ratio:.3f}", flush=True)
    return ratio


if __name__ == "__main__":
    main()
