"""How requests end before their time: the gateway drains, or the client goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.exchange import Exchange, Response
from tests.dataplane import Gateway, endpoint
from tests.loopback import Call, Client, Reader, Upstream, chunked, request

Serve = Callable[..., Awaitable[Any]]
Start = Callable[..., Awaitable[Gateway]]
Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
X = "/api/v1/gw/x"
AT_ONCE_S = 1.0


class Gate:
    """A pipeline that waits until it is opened, and streams one piece before."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0
        self.cancelled = 0

    async def wait(self, exchange: Exchange) -> Response:
        try:
            await self._pass()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response(200, [], await exchange.body.read() or b"done")

    async def stream(self, _exchange: Exchange) -> Response:
        async def come() -> AsyncIterator[bytes]:
            yield b"first"
            await self._pass()
            yield b"last"

        return Response(200, [], come())

    async def _pass(self) -> None:
        self.waiting += 1
        await self.opened.wait()


async def test_drain_lets_what_is_in_flight_finish_and_says_so(
    serve: Serve, eventually: Eventually
) -> None:
    gate = Gate()
    served = await serve(gate.wait)
    idle, busy = await served.client(), await served.client()
    await busy.request("GET", X)
    await eventually(lambda: gate.waiting)
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(served.server.drain(10))
        assert await idle.gone() == b""
        assert not draining.done()
        gate.opened.set()
        got = await busy.answer()

    assert (got.body, got.complete, got.field("connection")) == (b"done", True, "close")
    assert await busy.gone() == b""


async def test_server_that_leaves_serves_on_and_each_answer_is_the_last_of_its_connection(
    serve: Serve,
) -> None:
    gate = Gate()
    gate.opened.set()
    served = await serve(gate.wait)
    kept = await served.client()
    await kept.request("GET", X)
    first = await kept.answer()
    served.server.leave()
    await kept.request("GET", X)
    second = await kept.answer()
    new = await served.call("GET", X)

    assert (first.field("connection"), second.field("connection")) == (None, "close")
    assert (new.status, new.field("connection")) == (200, "close")
    assert await kept.gone() == b""


async def test_what_the_end_of_a_drain_cuts_is_the_gateways_doing(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    """One waits for its answer and is told; of another the head is out, and it breaks off."""

    async def script(call: Call) -> None:
        if call.target == "/stream":
            await call.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
            )
        await call.gone()

    upstream.script = script
    started = await gateway()
    await started.rows.plan()
    await started.rows.connector(upstream.url, streaming_enabled=True)
    key = await started.rows.key()
    waiting, streaming = await started.client(), await started.client()
    credential = [("Authorization", f"Bearer {key}")]
    await waiting.request("GET", "/api/v1/gw/up/wait", credential)
    await streaming.request("GET", "/api/v1/gw/up/stream", credential)
    assert b"one" in await streaming.until(b"one")
    await eventually(lambda: len(upstream.calls) == 2)
    await started.server.drain(0)
    told = await waiting.answer()
    records = {record["status"]: record for record in await started.records(2)}

    assert (told.status, told.code, told.field("connection")) == (503, "draining", "close")
    assert set(records) == {503, 200}
    assert all(record["error_code"] == "draining" for record in records.values())
    assert not any(record["client_gone"] for record in records.values())


async def test_drain_lets_an_upload_that_is_under_way_arrive(
    serve: Serve, eventually: Eventually
) -> None:
    gate = Gate()
    served = await serve(gate.wait)
    client = await served.client()
    await client.send(request("POST", X, [("Content-Length", "8")]) + b"four")
    await eventually(lambda: gate.waiting)
    async with asyncio.TaskGroup() as group:
        group.create_task(served.server.drain(10))
        await eventually(lambda: served.server.draining)
        gate.opened.set()
        await client.send(b"more")
        got = await client.answer()

    assert (got.body, got.complete) == (b"fourmore", True)


async def test_drain_lets_a_stream_end(serve: Serve, eventually: Eventually) -> None:
    gate = Gate()
    served = await serve(gate.stream)
    client = await served.client()
    await client.request("GET", X)
    await eventually(lambda: gate.waiting)
    async with asyncio.TaskGroup() as group:
        group.create_task(served.server.drain(10))
        await eventually(lambda: served.server.draining)
        gate.opened.set()
        got = await client.answer()

    assert (got.body, got.complete) == (b"firstlast", True)
    assert await client.gone() == b""


async def test_drain_cuts_what_takes_too_long(serve: Serve, eventually: Eventually) -> None:
    gate = Gate()
    served = await serve(gate.wait)
    client = await served.client()
    await client.request("GET", X)
    await eventually(lambda: gate.waiting)
    await served.server.drain(0.05)

    assert (await client.answer()).code == "draining"
    assert await client.gone() == b""
    assert gate.cancelled == 1


async def test_drain_of_an_idle_server_is_over_at_once(serve: Serve) -> None:
    served = await serve(Gate().wait)
    begun = asyncio.get_running_loop().time()
    await served.server.drain(30)

    assert asyncio.get_running_loop().time() - begun < 5


@pytest.mark.parametrize("leave", [Client.close, Client.reset])
@pytest.mark.parametrize("sent", [b"", b"GET /api/v1/", request("GET", X)[:-2]])
async def test_client_that_leaves_before_its_head_is_complete_leaves_nothing(
    gateway: Start, eventually: Eventually, leave: Callable[[Client], None], sent: bytes
) -> None:
    running = await gateway()
    client = await running.client()
    await client.send(sent)
    await eventually(lambda: running.server.connections)
    leave(client)

    await eventually(lambda: not running.server.connections)
    await running.stop()
    assert await running.records(0) == []


async def hang(call: Call) -> None:
    """Read what comes until the gateway is gone."""
    await call.gone()


async def begin(call: Call) -> None:
    """Begin an answer and hang."""
    await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    await call.gone()


async def answer_early(call: Call) -> None:
    """Answer before the body has come, keeping the connection."""
    await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
    await call.gone()


UPLOAD = request("POST", "/api/v1/gw/up/x", [("Content-Length", "1000000")]) + b"a" * 1000
CHUNKS = request("POST", "/api/v1/gw/up/x", [("Transfer-Encoding", "chunked")]) + b"1\r\na\r\n"
WHOLE = request("POST", "/api/v1/gw/up/x", body=b"a" * 1000)
PLAIN = request("GET", "/api/v1/gw/up/x")


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
@pytest.mark.parametrize(
    ("sent", "script", "status", "bytes_in", "bytes_out"),
    [
        (UPLOAD, hang, 499, 1000, 0),
        (CHUNKS, hang, 499, 1, 0),
        (WHOLE, hang, 499, 1000, 0),
        (PLAIN, hang, 499, 0, 0),
        (PLAIN, begin, 200, 0, 5),
        (UPLOAD, begin, 200, 1000, 5),
        (UPLOAD, answer_early, 200, 1000, 5),
        (CHUNKS, answer_early, 200, 1, 5),
    ],
    ids=["uploading", "chunking", "waiting-post", "waiting-get", "streaming", "streaming-both",
         "early", "early-chunked"],
)  # fmt: skip
async def test_client_that_leaves_takes_its_upstream_along_and_is_recorded_once(
    gateway: Start,
    upstream: Upstream,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    leave: Callable[[Client], None],
    sent: bytes,
    script: Any,
    status: int,
    bytes_in: int,
    bytes_out: int,
) -> None:
    upstream.script = script
    running = await gateway()
    await running.rows.connector(upstream.url)
    credential = f"\r\nAuthorization: Bearer {await running.rows.key()}\r\n".encode()
    client = await running.client()
    await client.send(sent.replace(b"\r\n", credential, 1))
    await eventually(lambda: upstream.calls)
    if bytes_out:
        reader = Reader(client, "POST")
        while len(reader.message.body) < bytes_out:
            assert await reader.more()
    leave(client)

    async with asyncio.timeout(AT_ONCE_S):
        await eventually(lambda: upstream.open == 0)
    await running.stop()
    (record,) = await running.records(1)
    assert (record["status"], record["client_gone"]) == (status, True)
    assert (record["bytes_in"], record["bytes_out"]) == (bytes_in, bytes_out)
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == []
    assert {task.get_name() for task in asyncio.all_tasks()} & {"upload", "load"} == set()


async def test_connection_whose_upload_broke_is_not_given_to_the_next_caller(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    """Its upstream still waits for the rest of a body: the next request would be taken for that."""

    async def early(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if call.method == "POST":
            await call.gone()

    upstream.script = early
    running = await gateway()
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    client = await running.client()
    await client.send(CHUNKS.replace(b"\r\n", f"\r\nAuthorization: Bearer {key}\r\n".encode(), 1))
    got = await client.answer("POST")
    client.reset()
    await eventually(lambda: upstream.open == 0)
    second = await running.call(key=key)

    assert (got.body, second.body) == (b"ok", b"ok")
    assert [call.method for call in upstream.calls] == ["POST", "GET"]


async def test_client_that_leaves_while_its_body_is_checked_is_recorded_once(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    running = await gateway()
    await running.rows.connector(upstream.url, endpoint("POST", "/x", body_pattern="a"))
    key = await running.rows.key()
    client = await running.client()
    await client.send(UPLOAD.replace(b"\r\n", f"\r\nAuthorization: Bearer {key}\r\n".encode(), 1))
    await eventually(lambda: running.worker.runtime.metrics.in_flight)
    client.close()
    await eventually(lambda: not running.worker.runtime.metrics.in_flight)
    await running.stop()

    (record,) = await running.records(1)
    assert (record["status"], record["client_gone"]) == (499, True)
    assert upstream.calls == []


async def test_hundreds_of_clients_that_leave_leave_nothing(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = hang
    running = await gateway()
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    await running.rows.plan(rate_limit=1_000_000, daily_quota=None, monthly_quota=None)
    block = PLAIN.replace(b"\r\n", f"\r\nAuthorization: Bearer {key}\r\n".encode(), 1)
    for _ in range(20):
        clients = [await running.client() for _ in range(25)]
        for client in clients:
            await client.send(block)
        await eventually(lambda: upstream.open == 25)
        for client in clients:
            client.reset()
        await eventually(lambda: upstream.open == 0)
    await eventually(lambda: running.worker.runtime.metrics.in_flight == 0)
    await running.stop()

    records = await running.records(500)
    assert {(record["status"], record["client_gone"]) for record in records} == {(499, True)}


async def test_body_with_chunks_arrives_when_the_gateway_drains_while_it_is_passed_on(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    running = await gateway()
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    client = await running.client()
    await client.send(CHUNKS.replace(b"\r\n", f"\r\nAuthorization: Bearer {key}\r\n".encode(), 1))
    await eventually(lambda: upstream.calls)
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(running.server.drain(10))
        await eventually(lambda: running.server.draining)
        await client.send(chunked([b"b"]))
        got = await client.answer("POST")
        await draining

    assert (got.status, got.complete, upstream.call.body) == (200, True, b"ab")
