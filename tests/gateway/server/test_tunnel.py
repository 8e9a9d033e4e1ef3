"""WebSockets through a gateway, byte by byte: the handshake, the tunnel, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.http.websocket import GOING_AWAY, accept_for
from tests.certificates import self_signed
from tests.dataplane import LOOPBACK, Gateway, endpoint
from tests.loopback import Call, Client, Fields, Message, Upstream, request

Start = Callable[..., Awaitable[Gateway]]
Eventually = Callable[..., Awaitable[None]]
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = accept_for(KEY.encode()).decode()
ASKING = (
    ("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
)  # fmt: skip
SWITCH = f"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n"
TALK_S = 1.5
TEXT = b"\x81\x02hi"
"""A frame from a server."""
CLOSE = b"\x88\x02\x03\xe8"
MASKED = b"\x81\x82\x00\x00\x00\x00ok"
"""A frame from a client."""


def switching(*more: bytes, fields: str = "") -> Callable[[Call], Awaitable[None]]:
    """A script that accepts, says these pieces, and then echoes until it is left alone."""

    async def script(call: Call) -> None:
        await call.send(f"{SWITCH}{fields}\r\n".encode() + b"".join(more))
        while piece := await call.receive():
            await call.send(piece)
        call.close()

    return script


class Way:
    """A gateway with an endpoint that may stream, and callers of it."""

    def __init__(self, running: Gateway, upstream: Upstream, key: str) -> None:
        self.running = running
        self.upstream = upstream
        self.key = key

    async def ask(
        self,
        *more: tuple[str, str],
        fields: Fields = ASKING,
        path: str = "/up/x",
        early: bytes = b"",
    ) -> Client:
        """A handshake, and what a hasty caller sends behind it."""
        client = await self.running.client()
        credential = ("Authorization", f"Bearer {self.key}")
        lines = [f"{name}: {value}" for name, value in (credential, *fields, *more)]
        head = [f"GET /api/v1/gw{path} HTTP/1.1", "Host: gateway", *lines, "", ""]
        await client.send("\r\n".join(head).encode() + early)
        return client

    async def open(self, *more: tuple[str, str], early: bytes = b"") -> tuple[Client, str]:
        """A tunnel, and the head of the 101."""
        client = await self.ask(*more, early=early)
        head = (await client.until(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n"), head
        return client, head

    async def refused(self, **how: Any) -> Message:
        """The answer to a handshake that comes to nothing."""
        client = await self.ask(**how)
        answer = await client.answer()
        client.close()
        return answer

    def is_clear(self) -> bool:
        """True when nothing of any tunnel is left."""
        metrics = self.running.worker.runtime.metrics
        held = len(self.running.server.connections), metrics.in_flight, metrics.streams_open
        return held == (0, 0, 0) and self.upstream.open == 0

    async def record(self) -> Any:
        """The one usage record."""
        return (await self.running.records())[0]


@asynccontextmanager
async def way(gateway: Start, upstream: Upstream, **own: Any) -> AsyncIterator[Way]:
    running = await gateway(upstream={"allow_networks": list(LOOPBACK)})
    await running.rows.plan()
    own = {"streaming_enabled": True, **own}
    entries = [endpoint("GET", **own), endpoint("GET", "/plain"), endpoint("POST", **own)]
    entries.append(endpoint("GET", "/once", **own, rate_limit=1))
    await running.rows.connector(upstream.url, *entries, max_connections=3, max_waiting=0)
    yield Way(running, upstream, await running.rows.key())


@pytest.fixture
async def through(gateway: Start, upstream: Upstream) -> AsyncIterator[Way]:
    upstream.script = switching()
    async with way(gateway, upstream) as made:
        yield made


def values(head: str, name: str) -> list[str]:
    fields = [line.partition(": ") for line in head.split("\r\n")[1:]]
    return [value for given, _, value in fields if given.lower() == name.lower()]


async def test_handshake_goes_upstream_and_its_answer_comes_back(through: Way) -> None:
    through.upstream.script = switching(
        fields="Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
    )
    extensions = "permessage-deflate; client_max_window_bits"
    client, head = await through.open(
        ("Sec-WebSocket-Protocol", "chat, other"), ("Sec-WebSocket-Extensions", extensions)
    )
    call = through.upstream.call
    client.close()

    assert call.field("upgrade") == "websocket"
    assert call.field("connection") == "Upgrade"
    assert call.field("sec-websocket-key") == KEY
    assert call.field("sec-websocket-version") == "13"
    assert call.field("sec-websocket-protocol") == "chat, other"
    assert call.field("sec-websocket-extensions") == extensions
    assert call.field("authorization") is None
    assert values(head, "Upgrade") == ["websocket"]
    assert values(head, "Connection") == ["Upgrade"]
    assert values(head, "Sec-WebSocket-Accept") == [ACCEPT]
    assert values(head, "Sec-WebSocket-Protocol") == ["chat"]
    assert values(head, "Sec-WebSocket-Extensions") == ["permessage-deflate"]
    assert values(head, "Content-Length") == values(head, "Transfer-Encoding") == []
    assert len(values(head, "X-Request-Id")) == len(values(head, "RateLimit")) == 1


async def test_bytes_pass_both_ways_and_are_counted(through: Way, eventually: Eventually) -> None:
    through.upstream.script = switching(TEXT)
    client, _ = await through.open()
    assert await client.until(TEXT) == TEXT
    metrics = through.running.worker.runtime.metrics
    assert metrics.streams_open == 1
    await client.send(MASKED)
    assert await client.until(MASKED) == MASKED
    await client.send(CLOSE)
    assert await client.until(CLOSE) == CLOSE
    client.close()
    record = await through.record()
    await eventually(through.is_clear)

    assert (record["status"], record["source"], record["error_code"]) == (101, "upstream", "")
    assert record["bytes_in"] == len(MASKED + CLOSE)
    assert record["bytes_out"] == len(TEXT + MASKED + CLOSE)
    assert record["attempts"] == 1


async def test_client_that_goes_after_a_close_has_not_gone_before_the_end(through: Way) -> None:
    client, _ = await through.open()
    await client.send(CLOSE)
    await client.until(CLOSE)
    client.close()

    assert not (await through.record())["client_gone"]


async def test_what_comes_early_is_held_until_the_upstream_has_switched(
    through: Way, eventually: Eventually
) -> None:
    go = asyncio.Event()

    async def late(call: Call) -> None:
        assert call.rest == b""
        await go.wait()
        assert call.rest == b""
        await switching()(call)

    through.upstream.script = late
    client = await through.ask(early=MASKED)
    await eventually(lambda: through.upstream.calls)
    await client.send(MASKED)
    go.set()
    await client.until(b"\r\n\r\n")
    assert await client.until(MASKED * 2) == MASKED * 2
    client.close()


@pytest.mark.parametrize("status", [200, 400, 401, 403, 426, 503])
async def test_any_other_answer_is_a_usual_one_and_so_is_what_follows(
    through: Way, status: int
) -> None:
    async def refuse(call: Call) -> None:
        await call.answer(status, fields=[("Upgrade", "websocket"), ("X-Own", "1")])

    through.upstream.script = refuse
    second = b"GET /api/v1/gw/up/second HTTP/1.1\r\nHost: a\r\n\r\n"
    client = await through.ask(early=second)
    first, then = await client.answer(), await client.answer()

    assert (first.status, first.body, first.field("x-own")) == (status, b"ok", "1")
    assert first.all("upgrade") == (["websocket"] if status == 426 else [])
    assert then.code == "unauthenticated"
    assert [call.target for call in through.upstream.calls] == ["/x"]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/up/plain", ASKING),
        ("/up/x", [*ASKING[:1], ("Upgrade", "h2c"), *ASKING[2:]]),
        ("/up/x", [("Connection", "keep-alive"), *ASKING[1:]]),
        ("/up/x", [*ASKING[:3], ("Sec-WebSocket-Version", "12")]),
        ("/up/x", [*ASKING, ("Content-Length", "2")]),
        ("/up/x", [*ASKING, ("Transfer-Encoding", "chunked")]),
    ],
)
async def test_request_that_may_not_switch_is_sent_on_without_its_upgrade(
    through: Way, path: str, fields: Fields
) -> None:
    async def usual(call: Call) -> None:
        await call.answer()

    through.upstream.script = usual
    body = {"Content-Length": b"{}", "Transfer-Encoding": b"2\r\n{}\r\n0\r\n\r\n"}
    early = body.get(fields[-1][0], b"")
    answer = await through.refused(path=path, fields=fields, early=early)
    call = through.upstream.call

    assert (answer.status, answer.body) == (200, b"ok")
    assert call.all("upgrade") == call.all("connection") == []


@pytest.mark.parametrize(
    "offered",
    [["h2c, websocket"], ["foo,WebSocket"], ["h2c", "websocket"], ["websocket, h2c"]],
)
async def test_websocket_among_other_protocols_is_a_handshake(
    through: Way, offered: list[str]
) -> None:
    fields = [("Upgrade", name) for name in offered]
    client = await through.ask(fields=[*ASKING[:1], *fields, *ASKING[2:]])
    head = (await client.until(b"\r\n\r\n")).decode()
    await client.send(MASKED)
    await client.until(MASKED)
    client.close()

    assert head.startswith("HTTP/1.1 101 ")
    assert values(head, "Upgrade") == ["websocket"]


async def test_old_http_cannot_switch(through: Way) -> None:
    async def usual(call: Call) -> None:
        await call.answer()

    through.upstream.script = usual
    client = await through.running.client()
    lines = [
        f"{name}: {value}" for name, value in (("Authorization", f"Bearer {through.key}"), *ASKING)
    ]
    await client.send("\r\n".join(["GET /api/v1/gw/up/x HTTP/1.0", *lines, "", ""]).encode())

    assert (await client.until(b"ok")).startswith(b"HTTP/1.1 200 OK")
    assert through.upstream.call.all("upgrade") == []


HOSTILE = {
    "wrong accept": SWITCH.replace(ACCEPT, "x" * 28),
    "no accept": SWITCH.partition("Sec-")[0],
    "another protocol": SWITCH.replace("Upgrade: websocket", "Upgrade: h2c"),
    "no upgrade": SWITCH.replace("Upgrade: websocket\r\n", ""),
    "no connection": SWITCH.replace("Connection: Upgrade\r\n", ""),
    "length": f"{SWITCH}Content-Length: 5\r\n",
    "chunks": f"{SWITCH}Transfer-Encoding: chunked\r\n",
    "another status": SWITCH.replace("101", "199"),
}


@pytest.mark.parametrize("raw", HOSTILE.values(), ids=HOSTILE.keys())
async def test_switch_that_does_not_accept_is_refused(
    through: Way, eventually: Eventually, raw: str
) -> None:
    async def script(call: Call) -> None:
        await call.send(f"{raw}\r\n".encode() + TEXT)
        await call.gone()

    through.upstream.script = script
    answer = await through.refused()

    assert answer.code in {"upstream_invalid", "upstream_unavailable"}
    assert answer.status == 502
    await eventually(through.is_clear)


async def test_switch_that_nobody_asked_for_is_refused(through: Way) -> None:
    answer = await through.refused(path="/up/plain")

    assert answer.code == "upstream_invalid"


async def test_refusals_come_before_the_upgrade(through: Way) -> None:
    key, through.key = through.key, "gw_wrong"
    unknown = await through.refused()
    through.key = key
    first = await through.ask(path="/up/once")
    await first.until(b"\r\n\r\n")
    too_many = await through.refused(path="/up/once")
    first.close()

    assert unknown.code == "unauthenticated"
    assert too_many.code == "rate_limited"
    assert too_many.field("retry-after") is not None
    assert len(through.upstream.calls) == 1


async def test_client_that_goes_takes_its_upstream_along(
    through: Way, eventually: Eventually
) -> None:
    for leave in (Client.close, Client.reset, Client.end):
        client, _ = await through.open()
        await client.send(MASKED)
        leave(client)
        await eventually(through.is_clear)

    records = await through.running.records(3)
    assert {(row["status"], row["client_gone"]) for row in records} == {(101, True)}


async def test_last_words_of_a_client_reach_the_upstream(through: Way) -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(call: Call) -> None:
        await call.send(f"{SWITCH}\r\n".encode())
        heard.set_result(await call.gone())

    through.upstream.script = listen
    client, _ = await through.open()
    await client.send(MASKED + CLOSE)
    client.close()

    assert await heard == MASKED + CLOSE


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_upstream_that_goes_takes_its_client_along(
    through: Way, eventually: Eventually, how: str
) -> None:
    async def leave(call: Call) -> None:
        await call.send(f"{SWITCH}\r\n".encode() + TEXT)
        await call.until(MASKED)
        call.close() if how == "close" else call.reset()

    through.upstream.script = leave
    client, _ = await through.open()
    await client.until(TEXT)
    await client.send(MASKED)
    assert await client.gone() == b""
    await eventually(through.is_clear)
    record = await through.record()

    assert (record["error_code"], record["client_gone"]) == ("upstream_invalid", False)


async def test_upstream_that_breaks_off_after_its_close_has_ended_well(
    through: Way, eventually: Eventually
) -> None:
    async def leave(call: Call) -> None:
        await call.send(f"{SWITCH}\r\n".encode() + CLOSE)
        await call.until(MASKED)
        call.reset()

    through.upstream.script = leave
    client, _ = await through.open()
    await client.until(CLOSE)
    await client.send(MASKED)
    assert await client.gone() == b""
    await eventually(through.is_clear)
    record = await through.record()

    assert (record["error_code"], record["client_gone"]) == ("", False)


async def test_silence_on_both_sides_ends_it_and_words_of_one_do_not(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    async def silent(call: Call) -> None:
        await call.send(f"{SWITCH}\r\n".encode())
        await call.gone()

    upstream.script = silent
    async with way(gateway, upstream, idle_timeout=600, timeout=1000) as through:
        client, _ = await through.open()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while loop.time() < begun + TALK_S:
            await client.send(MASKED)
            await asyncio.sleep(0.02)
        assert await client.gone() == GOING_AWAY
        await eventually(through.is_clear)
        record = await through.record()

    assert (record["error_code"], record["client_gone"]) == ("upstream_timeout", False)
    assert record["total_ms"] > TALK_S * 1000


async def test_slots_are_held_for_as_long_as_it_is_open(
    through: Way, eventually: Eventually
) -> None:
    clients = [(await through.open())[0] for _ in range(3)]
    assert (await through.refused()).code == "overloaded"
    for client in clients:
        client.close()
    await eventually(through.is_clear)
    (await through.open())[0].close()


MOST_FLOODED = 400


async def flood(peer: Call | Client) -> int:
    """Send until nobody takes it any more; answers how often 64 KiB were taken."""
    for count in range(MOST_FLOODED):
        try:
            async with asyncio.timeout(0.3):
                await peer.send(b"\x82\x7e\xff\xff" + bytes(65_535))
        except TimeoutError:
            return count
    return MOST_FLOODED


async def test_client_that_does_not_read_slows_its_upstream(
    through: Way, eventually: Eventually
) -> None:
    counts: list[int] = []

    async def talk(call: Call) -> None:
        await call.send(f"{SWITCH}\r\n".encode())
        counts.append(await flood(call))
        await call.gone()

    through.upstream.script = talk
    client, _ = await through.open()
    await eventually(lambda: counts)
    client.reset()
    await eventually(through.is_clear)

    assert counts[0] < MOST_FLOODED


async def test_upstream_that_does_not_read_slows_its_client_and_is_left_in_time(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    """Of a client whose words are not read it is not known whether it is still there."""
    held = asyncio.Event()

    async def deaf(call: Call) -> None:
        await call.send(f"{SWITCH}\r\n".encode())
        await held.wait()

    upstream.script = deaf
    async with way(gateway, upstream, idle_timeout=600) as through:
        client, _ = await through.open()
        assert await flood(client) < MOST_FLOODED
        client.reset()
        server, metrics = through.running.server, through.running.worker.runtime.metrics
        await eventually(lambda: metrics.in_flight == 0 and not server.connections)
        held.set()
        await eventually(through.is_clear)


async def test_gateway_that_stops_says_so_and_lets_both_sides_finish(
    through: Way, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    async def polite(call: Call) -> None:
        await call.send(f"{SWITCH}\r\n".encode() + TEXT[:2])
        await call.until(MASKED)
        await call.send(TEXT[2:] + TEXT)
        await call.until(CLOSE)
        await call.send(CLOSE)
        call.close()

    through.upstream.script = polite
    client, _ = await through.open()
    await client.until(TEXT[:2])
    server = through.running.server
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        group.create_task(server.drain(4))
        await eventually(lambda: server.draining)
        await client.send(MASKED)
        assert await client.until(GOING_AWAY) == TEXT[2:] + GOING_AWAY
        await client.send(CLOSE)
        assert await client.gone() == b""
    record = await through.record()

    assert (record["error_code"], record["client_gone"]) == ("", False)
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


async def test_gateway_that_stops_does_not_wait_for_those_who_stay(
    through: Way, eventually: Eventually
) -> None:
    client, _ = await through.open()
    await through.running.server.drain(0.1)

    assert await client.gone() == GOING_AWAY
    await eventually(through.is_clear)


async def test_tunnel_that_opens_while_the_gateway_stops_is_closed_at_once(
    through: Way, eventually: Eventually
) -> None:
    go = asyncio.Event()

    async def late(call: Call) -> None:
        await go.wait()
        await switching()(call)

    through.upstream.script = late
    client = await through.ask()
    await eventually(lambda: through.upstream.calls)
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        group.create_task(through.running.server.drain(4))
        await eventually(lambda: through.running.server.draining)
        go.set()
        await client.until(b"\r\n\r\n")
        assert await client.until(GOING_AWAY) == GOING_AWAY
        client.close()


async def test_connection_that_was_a_tunnel_is_used_for_nothing_else(
    through: Way, eventually: Eventually
) -> None:
    for _ in range(2):
        client, _ = await through.open()
        client.close()
        await eventually(through.is_clear)

    assert through.upstream.connections == 2


async def test_handshake_behind_another_request_waits_for_its_turn(through: Way) -> None:
    async def either(call: Call) -> None:
        if call.target == "/first":
            await call.answer(body=b"first")
        else:
            await switching(TEXT)(call)

    through.upstream.script = either
    credential = ("Authorization", f"Bearer {through.key}")
    client = await through.running.client()
    first = request("GET", "/api/v1/gw/up/first", [credential])
    second = request("GET", "/api/v1/gw/up/second", [credential, *ASKING])
    await client.send(first + second + MASKED)
    head = await client.until(b"first")
    assert head.startswith(b"HTTP/1.1 200")
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await client.until(MASKED) == TEXT + MASKED
    client.close()


async def test_upstream_may_be_behind_tls(
    gateway: Start, upstream: Upstream, eventually: Eventually, tmp_path: Path
) -> None:
    tls, ended = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), asyncio.Event()
    tls.load_cert_chain(self_signed(tmp_path))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"{SWITCH}\r\n".encode() + TEXT)
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
        writer.close()
        ended.set()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    trusting = {"allow_networks": list(LOOPBACK), "ca_file": str(tmp_path / "pem")}
    running = await gateway(upstream=trusting)
    await running.rows.plan()
    own = endpoint("GET", streaming_enabled=True)
    await running.rows.connector(f"https://127.0.0.1:{port}", own)
    through = Way(running, upstream, await running.rows.key())
    client, _ = await through.open()
    assert await client.until(TEXT) == TEXT
    await client.send(MASKED * 50_000)
    got = b""
    while len(got) < len(MASKED) * 50_000:
        got += await client.receive()
    client.close()
    await eventually(lambda: ended.is_set() and through.is_clear())
    server.close()

    assert got == MASKED * 50_000
