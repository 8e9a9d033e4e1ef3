"""What is large or lasts long passes through: memory stays flat, and the slower side sets the pace."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Gateway, eventually
from tests.e2e.services import gateway_to_loopback

MIB = 1 << 20
GIB = 1 << 30
BLOCK = bytes(range(256)) * (MIB // 256)
MOST_GROWTH = 32 * MIB
MOST_OF_A_STREAM = 60 * 1024
STREAMS = 400


class Source:
    """An upstream on threads: sends GIB bytes, counts what it gets, or tells one event and waits."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.sent = 0
        self.got = 0
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, AssertionError):
            while True:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        head, rest = read_head(connection)
        if head.startswith(b"GET /down"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
            self.sent = 0
            while self.sent < GIB:
                connection.sendall(BLOCK)
                self.sent += MIB
        elif head.startswith(b"POST /up"):
            self.got = len(rest)
            while self.got < GIB and (piece := connection.recv(MIB)):
                self.got += len(piece)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        else:
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
            )

    def close(self) -> None:
        """End everything."""
        self.listener.close()
        for connection in self.open:
            connection.close()


def read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The head of a message, and what came with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = connection.recv(65_536)
        assert piece, got
        got += piece
    head, _, rest = got.partition(b"\r\n\r\n")
    return head, rest


@pytest.fixture(scope="module")
def source() -> Iterator[Source]:
    """The upstream."""
    source = Source()
    yield source
    source.close()


class Route:
    """A gateway in front of the upstream, and a key for it."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.gateway = gateway
        self.key = key

    def ask(self, method: str, path: str, *fields: str) -> socket.socket:
        """A connection on which the head of a request was sent."""
        connection = socket.create_connection(("127.0.0.1", self.gateway.port), timeout=60)
        lines = (f"{method} /api/v1/gw/source{path} HTTP/1.1", "Host: a",
                 f"Authorization: Bearer {self.key}", *fields, "", "")  # fmt: skip
        connection.sendall("\r\n".join(lines).encode())
        return connection

    def memory(self, name: str) -> int:
        """Bytes of the gateway: VmRSS now, VmHWM at the most so far."""
        assert self.gateway.process is not None
        for line in Path(f"/proc/{self.gateway.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)

    def open_streams(self) -> int:
        """What the gateway says of its streams."""
        text = self.gateway.scrape()
        return int(float(text.split("\ngateway_streams_open ")[1].split("\n")[0]))


@pytest.fixture(scope="module")
def route(open_directory: Path, source: Source) -> Iterator[Route]:
    """A gateway whose plan lets a gibibyte pass."""
    with gateway_to_loopback(open_directory) as gateway:
        token = gateway.token()

        def admin(path: str, content: Any) -> Any:
            return gateway.admin("POST", path, content, token=token)

        endpoints = [
            {"name": "down", "method": "GET", "path": "/down"},
            {"name": "up", "method": "POST", "path": "/up"},
            {"name": "events", "method": "GET", "path": "/events", "streamingEnabled": True},
        ]
        connector = {
            "slug": "source", "displayName": "Source", "maxConnections": 2 * STREAMS,
            "upstreamBaseUrl": f"http://127.0.0.1:{source.port}", "endpoints": endpoints,
        }  # fmt: skip
        admin("/connectors", connector)
        admin("/connectors/source/publish", {})
        sizes = {"maxRequestSize": 2 * GIB, "maxResponseSize": 2 * GIB}
        plan = admin("/plans", {"name": "wide", "rateLimit": 100_000, **sizes})
        yield Route(gateway, admin("/keys", {"name": "k", "planId": plan["id"]})["key"])


def test_gibibyte_down_is_whole_and_memory_flat(route: Route, source: Source) -> None:
    before = route.memory("VmHWM")
    with route.ask("GET", "/down") as connection:
        _, rest = read_head(connection)
        got, wrong = len(rest), 0
        view = memoryview(bytearray(MIB))
        while got < GIB:
            count = connection.recv_into(view)
            assert count
            wrong += view[0] != got % 256
            got += count

    assert (got, wrong) == (GIB, 0)
    assert route.memory("VmHWM") - before < MOST_GROWTH


def test_gibibyte_up_is_whole_and_memory_flat(route: Route, source: Source) -> None:
    before = route.memory("VmHWM")
    with route.ask("POST", "/up", f"Content-Length: {GIB}") as connection:
        for _ in range(GIB // MIB):
            connection.sendall(BLOCK)
        head, rest = read_head(connection)

    assert (head[:12], rest, source.got) == (b"HTTP/1.1 200", b"ok", GIB)
    assert route.memory("VmHWM") - before < MOST_GROWTH


def test_caller_that_does_not_read_holds_the_upstream_back(route: Route, source: Source) -> None:
    before = route.memory("VmRSS")
    with route.ask("GET", "/down") as connection:
        read_head(connection)
        seen = -1
        while seen != source.sent:
            seen = source.sent
            time.sleep(0.3)  # noqa: TID251 - that nothing comes any more has no event
        assert 0 < source.sent < GIB // 8
        assert route.memory("VmRSS") - before < MOST_GROWTH
    eventually(lambda: route.open_streams() == 0, route.gateway)


def test_open_event_streams_cost_little_each(route: Route) -> None:
    with ExitStack() as stack:
        before = 0
        for number in range(STREAMS + 1):
            connection = stack.enter_context(route.ask("GET", "/events"))
            head, _ = read_head(connection)
            assert head.startswith(b"HTTP/1.1 200"), head
            if not number:
                before = route.memory("VmRSS")
        eventually(lambda: route.open_streams() == STREAMS + 1, route.gateway)

        assert (route.memory("VmRSS") - before) / STREAMS < MOST_OF_A_STREAM
    eventually(lambda: route.open_streams() == 0, route.gateway)
