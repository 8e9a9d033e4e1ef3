"""What a refusal costs beside a proxied call, and what is left of goodput when far too many call.

Ratios of one gateway to itself, round after round, so that what else the machine does falls on both.
`make bench` prints them under its table; `python tests/bench/overload.py` prints them alone.
"""

from __future__ import annotations

import argparse
import http.client
import signal
import socket
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import gateway_under_test
import upstream
from children import ROOT, Children
from cpu import share_out
from sample import Bench, take

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway_under_test import Gateway
    from target import Target

CROWD = 1000
"""Connections that each call again as soon as they are answered: a connector takes 256 at a time."""
HEAD = "| of a proxied call, or of its peak | median | lowest to highest |\n|---|--:|--:|"


class Outcome(NamedTuple):
    """One call under overload, seen from outside."""

    goodput: float
    """Of the peak, the answers that were no refusals, per second."""
    slowest_health_s: float


@contextmanager
def measuring(gateway: Gateway, bench: Bench) -> Iterator[Overload]:
    """Everything that is refused is set up, and given back."""
    with ExitStack() as stack:
        yield Overload(gateway, list(_refused(gateway, stack)), bench)


class Overload:
    """Measures a round at a time, and shows the ratios."""

    def __init__(self, gateway: Gateway, refused: list[Target], bench: Bench) -> None:
        self._gateway = gateway
        self._refused = refused
        self._bench = bench
        self._costs: dict[str, list[float]] = {target.name: [] for target in refused}
        self._outcomes: list[Outcome] = []
        for target in (gateway.target, *refused):
            target.check()
            take(target, bench._replace(seconds=1))

    def round(self) -> None:
        """One ratio for each kind of refusal, and one of goodput."""
        proxied = take(self._gateway.target, self._bench)
        for target in self._refused:
            self._costs[target.name].append(take(target, self._bench).cpu_us / proxied.cpu_us)
        with _asking_for_health(self._gateway.status_port) as waits_s:
            crowd = take(self._gateway.target, self._bench._replace(connections=CROWD))
        good = crowd.per_s - crowd.errors / self._bench.seconds
        self._outcomes.append(Outcome(good / proxied.per_s, max(waits_s)))
        costs = "  ".join(f"{name} {each[-1]:.2f}" for name, each in self._costs.items())
        print(f"{costs}  goodput {good / proxied.per_s:.2f}", flush=True)

    def rendered(self) -> str:
        """The table."""
        rows = [_row(f"CPU of a refusal: {name}", each) for name, each in self._costs.items()]
        goodput = [outcome.goodput for outcome in self._outcomes]
        rows.append(_row(f"goodput at {CROWD:,} connections", goodput))
        slowest = max(outcome.slowest_health_s for outcome in self._outcomes)
        return "\n".join([HEAD, *rows, f"\nSlowest `/healthz` meanwhile: {1000 * slowest:.0f} ms."])


def _row(name: str, ratios: list[float]) -> str:
    return f"| {name} | {median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"


def _refused(gateway: Gateway, stack: ExitStack) -> Iterator[Target]:
    """Calls of the same gateway that it refuses, each for another reason."""
    target, admin = gateway.target, gateway.admin
    call = target.call
    plain = replace(target, checks_keys=False, same_bytes=False)
    unknown = call.headers["Authorization"].removeprefix("Bearer ")[:-3] + "AAA"
    yield replace(plain, name="401 of an unknown key", call=call.with_key(unknown), status=401)
    slow = admin.key("slow", {"rateLimit": 1, "rateWindow": 86_400})
    call.with_key(slow).send()
    yield replace(plain, name="429 of a rate", call=call.with_key(slow), status=429)
    silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}"
    admin.connector("full", url, maxConnections=1, maxWaiting=0, defaultTimeout=600_000)
    full = replace(call, path=call.path.replace("/bench/", "/full/"))
    holding = stack.enter_context(socket.create_connection(("127.0.0.1", full.port)))
    head = "".join(f"{name}: {value}\r\n" for name, value in full.headers.items())
    holding.sendall(f"POST {full.path} HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode())
    stack.enter_context(silent.accept()[0])
    yield replace(plain, name="503 of a full connector", call=full, status=503)


@contextmanager
def _asking_for_health(port: int) -> Iterator[list[float]]:
    """Ask now and again, and note how long each answer took, in seconds."""
    waits_s: list[float] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.wait(0.05) or not waits_s:
            began = perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            connection.close()
            waits_s.append(perf_counter() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield waits_s
    finally:
        enough.set()
        asking.join()


def main() -> None:
    """Measure this tree, or another one, alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=2, help="of load, for a line in a round")
    parser.add_argument("--tree", type=Path, default=ROOT)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name, Children(Path(name)) as kept:
        Path(name).chmod(0o711)  # PostgreSQL, run by root, is another user and must get through
        cores = share_out()
        upstream_pid, straight = upstream.start(kept, cores.load)
        bench = Bench(cores, upstream_pid, 32, options.seconds)
        gateway = gateway_under_test.start(
            kept, cores.proxy, straight.call.port, tree=options.tree.resolve()
        )
        with measuring(gateway, bench) as overload:
            for _ in range(options.rounds):
                overload.round()
            print(f"\n{overload.rendered()}")


if __name__ == "__main__":
    main()
