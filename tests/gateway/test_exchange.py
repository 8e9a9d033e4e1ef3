"""The exchange and its body: limits hold however the bytes come, and what was begun is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import orjson
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import StreamReader
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Body, Exchange, Outcome, problem, refusal
from gateway.problems import Rejected


def reader(*pieces: bytes, ended: bool = True) -> StreamReader:
    """aiohttp's own stream with what has come so far."""
    loop = asyncio.get_running_loop()
    connection = BaseProtocol(loop)
    connection.connection_made(asyncio.Transport())
    made = StreamReader(connection, 65536, loop=loop)
    for piece in pieces:
        made.feed_data(piece)
    if ended:
        made.feed_eof()
    return made


async def gathered(body: Body) -> list[bytes]:
    return [piece async for piece in body.pieces()]


async def refused(reading: Callable[[], object]) -> Rejected:
    with pytest.raises(Rejected) as caught:
        await reading()  # type: ignore[misc] # a coroutine function
    return caught.value


async def test_body_that_is_here_already_is_read_whole_without_waiting() -> None:
    body = Body(reader(b"one", b"two"), 6)

    assert body.arrived() == b"onetwo"
    assert await body.read() == await body.read() == b"onetwo"
    assert await gathered(body) == [b"onetwo"]
    assert body.read_bytes == 6


async def test_body_that_has_come_already_is_given_in_pieces() -> None:
    assert b"".join(await gathered(Body(reader(b"one", b"two"), 6))) == b"onetwo"


async def test_last_piece_is_given_when_the_end_comes_with_it() -> None:
    source = reader(b"first", ended=False)
    found = []
    async for piece in Body(source, None).pieces():
        found.append(piece)
        if len(found) == 1:
            source.feed_data(b"last")
            source.feed_eof()

    assert found == [b"first", b"last"]


async def test_pieces_are_given_as_they_come() -> None:
    source = reader(ended=False)
    found: list[bytes] = []

    async def read() -> None:
        async for piece in Body(source, None).pieces():
            found.append(piece)

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        for sent in (b"a", b"b"):
            source.feed_data(sent)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert found[-1] == sent
            assert not reading.done()
        source.feed_eof()

    assert found == [b"a", b"b"]


@given(st.lists(st.tuples(st.binary(max_size=5), st.booleans()), max_size=8), st.booleans())
def test_no_byte_is_lost_or_doubled_however_it_comes(
    sent: list[tuple[bytes, bool]], whole: bool
) -> None:
    async def run() -> bytes:
        source = reader(ended=False)

        async def feed() -> None:
            for piece, pause in sent:
                if piece:
                    source.feed_data(piece)
                if pause:
                    await asyncio.sleep(0)
            source.feed_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            body = Body(source, None)
            read = await body.read() if whole else b"".join(await gathered(body))
        assert body.read_bytes == len(read)
        return read

    assert asyncio.run(run()) == b"".join(piece for piece, _ in sent)


async def test_body_that_has_not_come_is_not_waited_for() -> None:
    source = reader(b"half", ended=False)
    body = Body(source, None)

    assert body.arrived() is None
    source.feed_eof()
    assert body.arrived() == b"half"


async def test_body_can_be_sent_again_when_all_of_it_is_here() -> None:
    assert Body(None).is_whole
    assert Body.of(b"x").is_whole
    body = Body(reader(b"one", b"two"), 6)
    assert not body.is_whole
    await body.read()

    assert body.is_whole


async def test_rest_of_a_body_that_was_passed_on_in_part_is_not_the_whole() -> None:
    source = reader(b"one", ended=False)
    body = Body(source, 6)
    async for _ in body.pieces():
        break
    source.feed_data(b"two")
    source.feed_eof()

    assert body.arrived() is None
    assert not body.is_whole


async def test_declared_length_past_the_limit_is_refused_before_a_byte_is_read() -> None:
    source = reader(b"123456", ended=False)
    body = Body(source, 6)
    body.limit(6)

    with pytest.raises(Rejected) as caught:
        body.limit(5)
    assert (caught.value.code, caught.value.status) == ("payload_too_large", 413)
    assert "5 bytes" in caught.value.detail
    assert source.read_nowait() == b"123456"


@pytest.mark.parametrize("ended", [True, False])
async def test_body_without_a_length_is_refused_at_the_limit(ended: bool) -> None:
    for reading in (lambda body: body.read, lambda body: lambda: gathered(body)):
        body = Body(reader(b"1234", b"56", ended=ended), None)
        body.limit(5)

        assert (await refused(reading(body))).code == "payload_too_large"


async def test_body_longer_than_it_said_is_refused_at_the_limit() -> None:
    body = Body(reader(b"1234", b"56"), 2)
    body.limit(5)

    assert (await refused(body.read)).code == "payload_too_large"


async def test_body_of_just_the_limit_passes() -> None:
    for declared in (5, None):
        body = Body(reader(b"12345"), declared)
        body.limit(5)
        assert await body.read() == b"12345"


async def test_limit_of_zero_lets_no_byte_pass() -> None:
    for body in (Body(None), Body(reader(), None), Body(reader(), 0)):
        body.limit(0)
        assert await body.read() == b""
    body = Body(reader(b"1"), None)
    body.limit(0)
    assert (await refused(body.read)).code == "payload_too_large"


async def test_client_that_waits_is_told_to_go_on_once_and_when_the_body_is_wanted() -> None:
    for read_whole in (True, False):
        told: list[int] = []
        source = reader(ended=False)
        body = Body(source, None, lambda told=told: told.append(1))  # type: ignore[misc] # a list of its own
        body.limit(100)

        assert body.arrived() is None
        assert told == []
        source.feed_data(b"body")
        source.feed_eof()
        assert (await body.read() if read_whole else b"".join(await gathered(body))) == b"body"
        assert told == [1]
        await body.read() if read_whole else None
        assert told == [1]


async def test_client_that_waits_is_not_told_to_go_on_when_its_body_is_refused() -> None:
    told: list[int] = []
    body = Body(reader(ended=False), 6, lambda: told.append(1))

    with pytest.raises(Rejected):
        body.limit(5)
    assert told == []


async def test_broken_body_fails_for_its_reader() -> None:
    source = reader(b"half", ended=False)
    source.set_exception(ConnectionResetError("gone"))

    with pytest.raises(ConnectionResetError):
        await Body(source, 10).read()


@pytest.mark.parametrize(("content", "empty"), [(b"", True), (b"x", False)])
async def test_body_that_is_made_here_is_whole(content: bytes, empty: bool) -> None:
    body = Body.of(content)

    assert body.is_empty is empty
    assert body.arrived() == await body.read() == content
    assert await gathered(body) == ([] if empty else [content])
    assert (body.declared_bytes, body.read_bytes) == (len(content), len(content))


async def test_only_a_request_without_a_body_is_empty() -> None:
    assert Body(None).is_empty
    assert not Body(reader(), 0).is_empty


def exchange() -> Exchange:
    return Exchange(
        "GET", "/p", "q=1", {}, (), Body(None), client_address="192.0.2.1", request_id="i"
    )


def test_exchanges_begin_alike_and_share_nothing() -> None:
    one, other = exchange(), exchange()
    one.on_exit(lambda: None)
    one.outcome.status, one.outcome.source = 200, "upstream"

    assert (other.known_caller, other.known_connector, other.known_endpoint) == (None, None, None)
    assert (other.outcome, other.limits) == (Outcome(), ())
    assert dict(other.params) == {}


def test_what_was_begun_is_ended_once_last_in_first_out() -> None:
    ended: list[int] = []
    held = exchange()
    for number in range(3):
        held.on_exit(lambda number=number: ended.append(number))  # type: ignore[misc] # its own number
    held.close()
    held.close()

    assert ended == [2, 1, 0]


def test_failure_to_end_one_thing_does_not_keep_the_others_from_it() -> None:
    ended: list[str] = []

    def fail() -> None:
        raise ValueError("broken")

    held = exchange()
    held.on_exit(lambda: ended.append("first"))
    held.on_exit(fail)
    held.on_exit(lambda: ended.append("last"))

    with pytest.raises(ValueError, match="broken"):
        held.close()
    assert ended == ["last", "first"]


def test_refusal_is_a_problem_document_with_the_id_and_what_it_adds() -> None:
    response = refusal(Rejected("rate_limited", "Slower.", retry_after_s=7), "an-id")
    assert isinstance(response.body, bytes)
    document = orjson.loads(response.body)

    assert response.status == document["status"] == 429
    assert (document["code"], document["requestId"]) == ("rate_limited", "an-id")
    assert response.headers == [
        (b"Content-Type", b"application/problem+json"), (b"X-Request-Id", b"an-id"), (b"Retry-After", b"7"),
    ]  # fmt: skip


def test_problem_leaves_the_id_in_a_field_to_who_puts_it_into_all_answers() -> None:
    response = problem(Rejected("forbidden", "No."), "an-id")

    assert response.headers == [(b"Content-Type", b"application/problem+json")]
    assert (
        orjson.loads(response.body if isinstance(response.body, bytes) else b"")["requestId"]
        == "an-id"
    )


def test_what_is_not_known_yet_is_none() -> None:
    held = exchange()

    assert [held.known_caller, held.known_connector, held.known_endpoint, held.known_outgoing] == [
        None
    ] * 4


def test_time_passes_from_the_beginning() -> None:
    held = exchange()

    assert 0 <= held.elapsed_s() <= held.elapsed_s() < 60
    assert held.at > 1_700_000_000
