"""Writes of one turn are sent together at its end, in order, and never to a closed transport."""

from __future__ import annotations

import asyncio
from typing import cast

from gateway.http.batching import WriteBatch


class Transport:
    """Records what is written; the reading side of a test."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, block: bytes) -> None:
        self.written.append(block)

    def is_closing(self) -> bool:
        return self.closed


def as_transport(transport: Transport) -> asyncio.Transport:
    return cast("asyncio.Transport", transport)


async def test_nothing_is_sent_before_the_turn_ends() -> None:
    batch, transport = WriteBatch(asyncio.get_running_loop()), Transport()

    batch.write(as_transport(transport), b"a")
    batch.write(as_transport(transport), b"b")
    before = list(transport.written)
    await asyncio.sleep(0)

    assert before == []
    assert transport.written == [b"a", b"b"]


async def test_each_turn_has_its_own_batch() -> None:
    batch, transport = WriteBatch(asyncio.get_running_loop()), Transport()

    for block in (b"a", b"b", b"c"):
        batch.write(as_transport(transport), block)
        await asyncio.sleep(0)

    assert transport.written == [b"a", b"b", b"c"]


async def test_transport_that_closed_meanwhile_gets_nothing_and_the_others_do() -> None:
    batch = WriteBatch(asyncio.get_running_loop())
    gone, there = Transport(), Transport()

    batch.write(as_transport(gone), b"a")
    batch.write(as_transport(there), b"b")
    gone.closed = True
    await asyncio.sleep(0)

    assert gone.written == []
    assert there.written == [b"b"]


async def test_flush_sends_at_once_and_once() -> None:
    batch, transport = WriteBatch(asyncio.get_running_loop()), Transport()

    batch.write(as_transport(transport), b"a")
    batch.flush()
    at_once = list(transport.written)
    await asyncio.sleep(0)

    assert at_once == transport.written == [b"a"]
