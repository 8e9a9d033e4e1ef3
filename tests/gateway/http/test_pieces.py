"""Bodies in pieces: gathered when they fit, as they were when they don't, and watched as they pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.http.messages import RawHeaders, Response
from gateway.http.pieces import End, Watched, gather, is_event_stream, is_stream
from gateway.problems import Rejected


class Pieces:
    """An iterator of bytes that knows whether it was closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)
        self.closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("length", [None, 6])
@pytest.mark.parametrize("pieces", [(b"abcdef",), (b"ab", b"", b"cd", b"ef")])
async def test_body_that_fits_becomes_bytes(pieces: tuple[bytes, ...], length: int | None) -> None:
    response = Response(200, [], Pieces(*pieces), length)

    assert await gather(response, 6) == b"abcdef"
    assert (response.body, response.length) == (b"abcdef", None)


async def test_bytes_are_what_they_are() -> None:
    assert await gather(Response(200, [], b"abc"), 3) == b"abc"
    assert await gather(Response(200, [], b"abcd"), 3) is None


async def test_body_that_is_declared_too_long_is_not_touched() -> None:
    pieces = Pieces(b"abc", b"def")
    response = Response(200, [], pieces, 6)

    assert await gather(response, 5) is None
    assert (response.body, response.length, pieces.left) == (pieces, 6, [b"abc", b"def"])


async def test_body_that_turns_out_too_long_still_comes_whole_and_no_more_is_read_than_needed() -> (
    None
):
    pieces = Pieces(b"ab", b"cd", b"ef", b"gh")
    response = Response(200, [], pieces)

    assert await gather(response, 3) is None
    assert pieces.left == [b"ef", b"gh"]
    assert not isinstance(response.body, bytes)
    assert [piece async for piece in response.body] == [b"ab", b"cd", b"ef", b"gh"]


async def test_end_of_a_body_that_was_put_together_again_is_passed_on() -> None:
    pieces, plain = Pieces(b"ab", b"cd"), Response(200, [], Pieces(b"x").__aiter__())
    response: Any = Response(200, [], pieces)
    await gather(response, 1)
    await response.body.aclose()

    assert pieces.closed
    assert await gather(plain, 1) == b"x"


async def test_generator_needs_no_end_of_its_own() -> None:
    class Bare:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            return b"on and on"

    response: Any = Response(200, [], Bare())
    await gather(response, 1)
    await response.body.aclose()


@pytest.mark.parametrize("length", [5, 7])
async def test_body_that_breaks_its_length_is_refused(length: int) -> None:
    with pytest.raises(Rejected) as caught:
        await gather(Response(200, [], Pieces(b"abc", b"def"), length), 10)

    assert caught.value.code == "upstream_invalid"


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8", True),
        (b"text/plain", False),
        (b"application/json", False),
    ],
)
def test_event_streams_are_told_by_their_type(media_type: bytes, expected: bool) -> None:
    assert is_event_stream([(b"content-type", media_type)]) is expected
    assert not is_event_stream([])


@pytest.mark.parametrize(
    ("method", "may_stream", "status", "fields", "expected"),
    [
        ("POST", False, 200, [], False),
        ("POST", False, 200, [(b"Content-Type", b"text/event-stream")], True),
        ("POST", True, 200, [], True),
        ("POST", True, 200, [(b"content-length", b"3")], False),
        ("POST", True, 204, [], False),
        ("HEAD", True, 200, [], False),
    ],
)
def test_streams_are_told_by_their_head(
    method: str, may_stream: bool, status: int, fields: RawHeaders, expected: bool
) -> None:
    response = Response(status, fields, b"abc")

    assert is_stream(method, response, may_stream=may_stream) is expected


Told = list[bytes | tuple[End, Exception | None]]


def watched(pieces: AsyncIterator[bytes]) -> tuple[Watched, Told]:
    told: Told = []
    return Watched(pieces, told.append, lambda *end: told.append(end)), told


async def broken(error: BaseException) -> AsyncIterator[bytes]:
    yield b"ab"
    raise error


async def test_pieces_are_seen_as_they_pass_and_their_end_before_the_reader_knows() -> None:
    pieces = Pieces(b"ab", b"", b"cd")
    body, told = watched(pieces)

    assert [await body.__anext__() for _ in range(3)] == [b"ab", b"", b"cd"] == told
    with pytest.raises(StopAsyncIteration):
        await body.__anext__()
    assert told[3:] == [(End.COMPLETE, None)]
    await body.aclose()
    assert (told[3:], pieces.closed) == ([(End.COMPLETE, None)], True)


async def test_pieces_that_break_off_end_with_the_error_that_the_reader_gets() -> None:
    error = Rejected("upstream_invalid", "Broken off.")
    body, told = watched(broken(error))

    with pytest.raises(Rejected) as caught:
        [piece async for piece in body]
    await body.aclose()
    assert caught.value is error
    assert told == [b"ab", (End.FAILED, error)]


@pytest.mark.parametrize("read", [lambda body: body.__anext__(), None], ids=["begun", "untouched"])
async def test_pieces_that_nobody_reads_on_are_given_up(
    read: Callable[[Watched], Any] | None,
) -> None:
    pieces = Pieces(b"ab", b"cd")
    body, told = watched(pieces)
    if read is not None:
        await read(body)
    await body.aclose()

    assert told[-1] == (End.GIVEN_UP, None)
    assert pieces.closed


async def test_reader_that_is_cancelled_has_not_given_up_before_it_says_so() -> None:
    body, told = watched(broken(asyncio.CancelledError()))
    await body.__anext__()

    with pytest.raises(asyncio.CancelledError):
        await body.__anext__()
    assert told == [b"ab"]
    await body.aclose()
    assert told == [b"ab", (End.GIVEN_UP, None)]


async def test_pieces_need_not_be_looked_at() -> None:
    told: Told = []
    body = Watched(Pieces(b"ab"), None, lambda *end: told.append(end))

    assert [piece async for piece in body] == [b"ab"]
    assert told == [(End.COMPLETE, None)]


async def test_who_looks_at_pieces_can_break_them_off() -> None:
    refused = Rejected("upstream_invalid", "Not this.")
    told: Told = []

    def refuse(_piece: bytes) -> None:
        raise refused

    body = Watched(Pieces(b"ab"), refuse, lambda *end: told.append(end))
    with pytest.raises(Rejected):
        await body.__anext__()
    assert told == [(End.FAILED, refused)]
