"""A client's connection: its requests are served in one task, and others are left to aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.exchange import Exchange, Response
from gateway.server.connection import Connection, Patience
from tests.loopback import chunked, request

Serve = Callable[..., Awaitable[Any]]
X = "/api/v1/gw/x"
ADMIN = "/api/v1/gw/admin/x"


class Tasks:
    """A pipeline that remembers in which tasks it was called."""

    def __init__(self) -> None:
        self.seen: list[asyncio.Task[Any] | None] = []

    async def __call__(self, exchange: Exchange) -> Response:
        self.seen.append(asyncio.current_task())
        return Response(200, [], b"ours " + await exchange.body.read())


async def theirs(request: web.BaseRequest) -> web.Response:
    """An admin plane."""
    return web.Response(body=b"theirs " + await request.read())


async def test_requests_of_a_connection_are_served_in_its_own_task(serve: Serve) -> None:
    tasks = Tasks()
    served = await serve(tasks)
    client, other = await served.client(), await served.client()
    for one in (client, client, other):
        await one.request("GET", X)
        assert (await one.answer()).status == 200

    assert tasks.seen[0] is tasks.seen[1] is not tasks.seen[2]


async def test_planes_take_turns_on_one_connection_in_the_order_of_its_requests(
    serve: Serve,
) -> None:
    served = await serve(Tasks(), web.Server(theirs))
    client = await served.client()
    paths = (X, X, ADMIN, X, ADMIN, X)
    await client.send(
        b"".join(request("POST", path, body=b"%d" % n) for n, path in enumerate(paths))
    )
    got = [(await client.answer()).body for _ in paths]

    assert got == [
        b"%s %d" % (b"theirs" if path == ADMIN else b"ours", n) for n, path in enumerate(paths)
    ]


async def test_what_is_not_http_is_refused_after_the_answers_before_it(serve: Serve) -> None:
    client = await (await serve(Tasks())).client()
    statuses = []
    for message in (request("GET", X), request("GET", X), b"\x16\x03\x01 hello\r\n\r\n"):
        await client.send(message)
        statuses.append((await client.answer()).status)

    assert statuses == [200, 200, 400]
    assert await client.gone() == b""


async def test_more_requests_than_the_queue_holds_are_all_answered_in_order(serve: Serve) -> None:
    client = await (await serve(Tasks())).client()
    async with asyncio.TaskGroup() as group:
        group.create_task(
            client.send(b"".join(request("POST", X, body=b"%d" % n) for n in range(200)))
        )
        got = [(await client.answer()).body for _ in range(200)]

    assert got == [b"ours %d" % n for n in range(200)]


@pytest.mark.parametrize("size", [70_000, 3_000_000])
async def test_body_beyond_the_buffer_arrives_whole(serve: Serve, size: int) -> None:
    async def count(exchange: Exchange) -> Response:
        pieces = [len(piece) async for piece in exchange.body.pieces()]
        return Response(200, [], b"%d" % sum(pieces))

    client = await (await serve(count)).client()
    head = f"POST {X} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    for message in (request("POST", X, body=b"x" * size), head + chunked([b"y" * size])):
        await client.send(message)
        assert (await client.answer("POST")).body == b"%d" % size


async def test_reading_is_not_resumed_where_it_was_not_paused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[bytes] = []
    receive = Connection.data_received

    def record(self: Connection, data: bytes) -> None:
        fed.append(data)
        receive(self, data)

    monkeypatch.setattr(Connection, "data_received", record)
    await (await serve(Tasks())).call("POST", X, body=b"small")

    assert len(fed) == 1


async def test_body_that_breaks_after_its_refusal_ends_the_connection(serve: Serve) -> None:
    async def refuse(_exchange: Exchange) -> Response:
        return Response(403, [], b"")

    client = await (await serve(refuse)).client()
    await client.send(
        f"POST {X} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    assert (await client.answer("POST")).status == 403
    await client.send(b"not a size\r\n")

    assert await client.gone() == b""


async def test_connection_without_a_request_is_closed_after_a_while(serve: Serve) -> None:
    served = await serve(Tasks(), patience=Patience(keep_alive_s=0.2))
    silent, client = await served.client(), await served.client()
    for _ in range(2):
        await client.request("GET", X)
        assert (await client.answer()).status == 200

    assert await client.gone() == b""
    assert await silent.gone() == b""


async def test_request_may_take_longer_than_a_connection_is_kept(serve: Serve) -> None:
    passed = asyncio.Event()

    async def wait(_exchange: Exchange) -> Response:
        asyncio.get_running_loop().call_later(0.3, passed.set)
        await passed.wait()
        return Response(200, [], b"at last")

    client = await (await serve(wait, patience=Patience(keep_alive_s=0.1))).client()
    await client.request("GET", X)

    assert (await client.answer()).body == b"at last"
