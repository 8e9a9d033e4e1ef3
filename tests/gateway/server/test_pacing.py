"""What one turn of the loop begins is bounded; who waits is served in order, and who leaves holds up nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.exchange import Exchange, Response
from gateway.server.pacing import Pacing
from tests.loopback import request

X = "/api/v1/gw/x"


class Turning:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self.number += 1
        self._handle = self._loop.call_soon(self._next)

    def stop(self) -> None:
        self._handle.cancel()


async def begin(turns: Pacing, note: Callable[[], None]) -> None:
    if not turns.begin():
        await turns.wait()
    note()


async def test_each_turn_begins_so_many_in_the_order_in_which_they_came() -> None:
    turns, turning, order = Pacing(asyncio.get_running_loop(), 3), Turning(), list[int]()
    in_turns: Counter[int] = Counter()

    async def one(number: int) -> None:
        await begin(turns, lambda: order.append(number))
        in_turns[turning.number] += 1

    await asyncio.gather(*(one(number) for number in range(10)))
    await asyncio.gather(*(one(number) for number in range(10, 14)))
    turning.stop()

    assert order == [*range(14)]
    assert max(in_turns.values()) == 3


async def test_who_leaves_takes_nobody_elses_turn() -> None:
    turns, begun = Pacing(asyncio.get_running_loop(), 1), list[int]()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(begin(turns, lambda number=number: begun.append(number)))  # type: ignore[misc] # bound
            for number in range(5)
        ]
        await asyncio.sleep(0)
        for task in tasks[1:4]:
            task.cancel()

    assert begun == [0, 4]


async def test_body_of_very_many_small_chunks_leaves_turns_to_others(
    serve: Callable[..., Awaitable[Any]],
) -> None:
    in_turns: Counter[int] = Counter()
    turning = Turning()

    async def read(exchange: Exchange) -> Response:
        async for piece in exchange.body.pieces():
            in_turns[turning.number] += len(piece)
        return Response(200, [], b"%d" % exchange.body.read_bytes)

    count = 200_000
    served = await serve(read)
    client = await served.client()
    await client.send(request("POST", X, [("Transfer-Encoding", "chunked")]))
    await client.send(b"1\r\nx\r\n" * count + b"0\r\n\r\n")
    answer = await client.answer()
    turning.stop()

    assert answer.body == b"%d" % count
    assert max(in_turns.values()) < 20_000


async def test_requests_that_come_together_leave_turns_to_others(
    serve: Callable[..., Awaitable[Any]],
) -> None:
    in_turns: Counter[int] = Counter()
    turning = Turning()

    async def count(_exchange: Exchange) -> Response:
        in_turns[turning.number] += 1
        return Response(200, [], b"here")

    served = await serve(count)
    clients = [await served.client() for _ in range(200)]
    for client in clients:
        client.sock.send(request("GET", X))  # all of it, before the loop looks at any
    answers = [await client.answer() for client in clients]
    turning.stop()

    assert [answer.status for answer in answers] == [200] * 200
    assert sum(in_turns.values()) == 200
    assert max(in_turns.values()) <= 64
