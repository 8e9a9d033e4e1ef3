"""Our own load generator, for machines without wrk. Prints its results as one line of JSON.

Sends one prebuilt request on each connection as soon as the answer before is complete, and parses
no more than a status and a Content-Length: in a benchmark a thorough client would be what is
measured. It takes about twice the CPU of wrk.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from time import perf_counter
from typing import cast

import uvloop

from call import BODY

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Run:
    """The figures of all connections together."""

    def __init__(self) -> None:
        self.going = True
        self.errors = 0
        self.latencies_s: list[float] = []


class Client(asyncio.Protocol):
    """One connection. An answer without a length, or a connection that ends, is an error."""

    def __init__(self, run: Run, request: bytes) -> None:
        self.run = run
        self.request = request
        self.received = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = LENGTH.search(self.received, 0, head)
        if length is None:
            self.transport.abort()
        elif len(self.received) >= head + 4 + int(length[1]):
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.run.going:
            self.run.errors += 1

    def _send(self) -> None:
        self.received = b""
        self.sent_at = perf_counter()
        self.transport.write(self.request)

    def _answered(self) -> None:
        if not self.run.going:
            return
        self.run.latencies_s.append(perf_counter() - self.sent_at)
        if self.received[9:10] != b"2":
            self.run.errors += 1
        self._send()


def request(port: int, path: str, headers: dict[str, str]) -> bytes:
    """The bytes of the call, head and body in one piece."""
    fields = {"Host": f"127.0.0.1:{port}", "Content-Type": "application/json", **headers}
    fields["Content-Length"] = str(len(BODY))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + BODY


async def main(port: str, path: str, connections: str, seconds: str, headers: str) -> None:
    """Run for a time and print what happened."""
    run = Run()
    sent = request(int(port), path, json.loads(headers))
    loop = asyncio.get_running_loop()
    began = perf_counter()
    for _ in range(int(connections)):
        await loop.create_connection(lambda: Client(run, sent), "127.0.0.1", int(port))
    await asyncio.sleep(float(seconds))
    run.going = False
    took_s = perf_counter() - began
    latencies = sorted(run.latencies_s) or [0.0]
    outcome = {
        "requests": len(run.latencies_s),
        "errors": run.errors,
        "seconds": took_s,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[len(latencies) * 99 // 100],
    }
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
