"""Measures what the gateway costs beside the proxies it is compared with, and prints a table.

All run at once and are loaded in turn, round after round (A B C A B C …), so that whatever else
the machine does falls on all alike. `make bench`, or `python tests/bench/run.py --help`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import gateway_under_test
import overload
import peers
import profiled
import table
import upstream
from children import Children, NotStarted
from cpu import share_out
from sample import Bench, Sample, take
from target import Target, WrongAnswer


def main() -> None:
    """Start everything, measure, print, end everything."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name, Children(Path(name)) as kept:
        Path(name).chmod(0o711)  # PostgreSQL, run by root, is another user and must get through
        cores = share_out()
        upstream_pid, straight = upstream.start(kept, cores.load)
        bench = Bench(cores, upstream_pid, options.connections, options.seconds)
        if options.profile:
            profiled.run(kept, bench, straight.call.port)
            return
        gateway = gateway_under_test.start(kept, cores.proxy, straight.call.port)
        gateway.target.check()
        others = _started(kept, cores.proxy, straight.call.port)
        results = _measured([gateway.target, *others, straight], bench, options.rounds)
        with overload.measuring(gateway, bench) as under:
            for _ in range(options.rounds):
                under.round()
            block = f"{table.rendered(results, bench)}\n\n{under.rendered()}"
    print(f"\n{block}\n\nWhere our time goes: {sys.executable} {sys.argv[0]} --profile")
    if options.save:
        table.save(block)
        print(f"Saved in {table.PAGE}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=3, help="of load, for a target in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s: a rough idea")
    parser.add_argument("--save", action="store_true", help="put the table in docs/performance.md")
    parser.add_argument("--profile", action="store_true", help="profile the gateway instead")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 1
    return options


def _started(children: Children, cores: frozenset[int], upstream_port: int) -> list[Target]:
    """Every other proxy that is there and answers as it should; of the rest, why not."""
    targets = []
    for start in peers.ALL:
        try:
            target = start(children, cores, upstream_port)
            target.check()
            targets.append(target)
        except (NotStarted, WrongAnswer, OSError) as fault:
            print(f"not measured: {fault}")
    return targets


def _measured(targets: list[Target], bench: Bench, rounds: int) -> table.Results:
    for target in targets:
        take(target, bench._replace(seconds=1))
    results: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for number in range(1, rounds + 1):
        for target in targets:
            sample = take(target, bench)
            results[target.name].append(sample)
            cost = f"{sample.cpu_us:8.1f} µs" if target.pid else ""
            print(
                f"{number}/{rounds}  {target.name:48} {cost:11}  {sample.per_s:9,.0f}/s", flush=True
            )
    return results


if __name__ == "__main__":
    main()
