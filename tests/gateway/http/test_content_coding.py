"""gzip: who takes it, and that what is coded is what was there."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.content_coding import Gzipped, gzipped, takes_gzip

GZIP = 31


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, False), ("", False), ("identity", False), ("br, zstd", False),
        ("gzip", True), ("GZip", True), ("x-gzip", True), ("br, gzip", True),
        ("gzip;q=0", False), ("gzip;q=0.000", False), ("gzip ; q=0.001", True),
        ("*", True), ("*;q=0", False), ("*;q=0, gzip", True), ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity", False), ("gzip;q=0.5, identity;q=0.5", True),
        ("gzip;q=0.5, *;q=0.9", False), ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=2", False), ("gzip;q=", False), ("gzip;level=1", False), ("gzip;q=0.1234", False),
        ("gzip;q=0, gzip", False), (",, gzip ,", True), ("deflate;q=1, \tgzip\t;\tq=1.000", True),
    ],
)  # fmt: skip
def test_gzip_is_taken_by_those_who_say_so(field: str | None, expected: bool) -> None:
    assert takes_gzip(field) is expected


@given(st.text(max_size=60))
def test_any_field_can_be_read(field: str) -> None:
    assert takes_gzip(field) in {True, False}


async def these(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@given(st.binary(max_size=300_000), st.integers(1, 9))
def test_whole_body_comes_back(content: bytes, level: int) -> None:
    assert gzip.decompress(asyncio.run(gzipped(content, level))) == content


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_body_in_pieces_comes_back(pieces: list[bytes]) -> None:
    async def code() -> list[bytes]:
        return [coded async for coded in Gzipped(these(pieces), 5)]

    assert gzip.decompress(b"".join(asyncio.run(code()))) == b"".join(pieces)


async def test_each_piece_can_be_read_when_it_comes() -> None:
    pieces = [b"first", b"second" * 30_000, b"third"]
    decoder = zlib.decompressobj(wbits=GZIP)
    coded = Gzipped(these(pieces), 5)

    assert [decoder.decompress(await coded.__anext__()) for _ in pieces] == pieces
    assert decoder.decompress(await coded.__anext__()) == b""
    assert decoder.eof
    assert [piece async for piece in coded] == []


async def test_others_have_their_turn_while_a_large_body_is_coded() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        other = group.create_task(count())
        await gzipped(bytes(64 << 14), 1)
        other.cancel()

    assert turns >= 15


async def test_failure_of_the_pieces_is_passed_on_and_so_is_their_end() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"a"
        raise ConnectionError

    ended = False

    async def endless() -> AsyncIterator[bytes]:
        nonlocal ended
        try:
            while True:
                yield b"a"
        finally:
            ended = True

    with pytest.raises(ConnectionError):
        _ = [piece async for piece in Gzipped(broken(), 5)]
    coded = Gzipped(endless(), 5)
    await coded.__anext__()
    await coded.aclose()

    assert ended


async def test_pieces_need_no_end_of_their_own() -> None:
    class Bare:
        async def __anext__(self) -> bytes:
            return b""

    bare: Any = Bare()
    coded = Gzipped(bare, 5)

    assert await coded.__anext__() == b""
    await coded.aclose()
