"""gzip for those who take it: what is compressed, what never is, and that streams still stream."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from filters.compress import Compress, Options
from gateway.exchange import Exchange, Response
from gateway.options import OptionFaults, load
from gateway.pipeline import plan
from gateway.runtime import Runtime
from gateway.settings import DEFAULT_PIPELINE
from tests.dataplane import Gateway, answering, assert_honest, exchange
from tests.loopback import Call, Fields, Reader, Upstream, chunked

Start = Callable[..., Awaitable[Gateway]]
JSON = ("Content-Type", "application/json")
TAKES = ("Accept-Encoding", "gzip")
LONG = b'{"a": 1}' * 1000


def stage(**options: Any) -> Compress:
    return Compress(load(Options, options), cast("Runtime", None))


def asking(method: str = "GET", *fields: tuple[str, str]) -> Exchange:
    return exchange(method, fields=fields or [TAKES])


def named(response: Response, name: str) -> list[str]:
    lower = name.lower().encode()
    return [value.decode() for n, value in response.headers if n.lower() == lower]


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"level": 0}, "level"), ({"level": 10}, "level"), ({"least_bytes": 0}, "least_bytes"),
     ({"media_types": []}, "media_types names no type"), ({"brotli": True}, "unknown setting")],
)  # fmt: skip
def test_options_are_checked(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(OptionFaults, match=fault):
        load(Options, options)


def test_place_inside_of_respond_is_refused() -> None:
    assert plan(["usage", "compress", *DEFAULT_PIPELINE[1:]])[1].name == "compress"

    with pytest.raises(OptionFaults) as caught:
        plan([*DEFAULT_PIPELINE[:2], "compress", *DEFAULT_PIPELINE[2:]])
    assert str(caught.value) == (
        "pipeline[2] compress must stand before respond, which gives a final_answer"
    )


async def test_answer_is_sent_in_gzip() -> None:
    fields: Fields = [JSON, ("ETag", '"v1"'), ("Accept-Ranges", "bytes"), ("Content-Length", "8000"),
                      ("Vary", "Origin"), ("X-Own", "1")]  # fmt: skip
    response = await stage()(asking(), answering(body=LONG, fields=fields))

    assert isinstance(response.body, bytes)
    assert len(response.body) < len(LONG) / 10
    assert gzip.decompress(response.body) == LONG
    assert response.headers == [
        (b"Content-Type", b"application/json"), (b"Vary", b"Origin"), (b"X-Own", b"1"),
        (b"Vary", b"Accept-Encoding"), (b"Content-Encoding", b"gzip"), (b"ETag", b'W/"v1"'),
    ]  # fmt: skip


async def test_weak_entity_tag_stays_as_it_is() -> None:
    response = await stage()(asking(), answering(body=LONG, fields=[JSON, ("ETag", 'W/"v1"')]))

    assert named(response, "etag") == ['W/"v1"']


@pytest.mark.parametrize(
    "media_type",
    ["text/html", "TEXT/HTML; charset=utf-8", "application/problem+json", "image/svg+xml"],
)
async def test_listed_types_are_compressed(media_type: str) -> None:
    inner = answering(body=LONG, fields=[("Content-Type", media_type)])

    assert named(await stage()(asking(), inner), "content-encoding") == ["gzip"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 200),
        ([("Content-Type", "image/png")], 200),
        ([("Content-Type", "text/event-stream")], 200),
        ([("Content-Type", "Text/Event-Stream; charset=utf-8")], 200),
        ([JSON, ("Content-Encoding", "br")], 200),
        ([JSON, ("content-range", "bytes 0-9/20")], 200),
        ([JSON], 206),
        ([JSON, ("Repr-Digest", "sha-256=:x:")], 200),
        ([JSON, ("Content-MD5", "x")], 200),
        ([JSON, ("Cache-Control", "public"), ("cache-control", "No-Transform, max-age=1")], 200),
        ([JSON, ("Cache-Control", "no-transform; oops, no-transform")], 200),
    ],
)
async def test_what_must_stay_as_it_is_does(fields: Fields, status: int) -> None:
    inner = answering(status, LONG, fields)
    response = await stage()(asking(), inner)

    assert response.body == LONG
    assert response.headers == (await inner(asking())).headers


async def test_small_answers_are_not_worth_it() -> None:
    compress = stage(least_bytes=100)
    small = await compress(asking(), answering(body=b"a" * 99, fields=[JSON]))
    large = await compress(asking(), answering(body=b"a" * 100, fields=[JSON]))
    empty = await stage(least_bytes=1)(asking(), answering(body=b"", fields=[JSON]))

    assert (small.body, named(small, "vary"), empty.body) == (b"a" * 99, [], b"")
    assert named(large, "content-encoding") == ["gzip"]


@pytest.mark.parametrize(
    "accept",
    [("Accept", "x"), ("Accept-Encoding", "br"), ("Accept-Encoding", "gzip;q=0")],
)
async def test_caller_that_does_not_take_it_gets_the_plain_answer(accept: tuple[str, str]) -> None:
    response = await stage()(asking("GET", accept), answering(body=LONG, fields=[JSON]))

    assert (response.body, named(response, "vary")) == (LONG, ["Accept-Encoding"])


async def test_repeated_accept_encoding_is_one_list() -> None:
    request = asking("GET", ("Accept-Encoding", "br"), ("accept-encoding", "gzip"))
    response = await stage()(request, answering(body=LONG, fields=[JSON]))

    assert named(response, "content-encoding") == ["gzip"]


async def bodyless(
    method: str, status: int, *fields: tuple[bytes, bytes], asked: Fields = (TAKES,)
) -> Response:
    async def inner(_request: Exchange) -> Response:
        return Response(status, list(fields), b"", 5000)

    return await stage()(asking(method, *asked), inner)


async def test_head_has_the_fields_of_its_get() -> None:
    given = [(b"Content-Type", b"text/plain"), (b"ETag", b'"a"')]
    whole = await stage()(asking(), answering(body=LONG, fields=[(n.decode(), v.decode()) for n, v in given]))  # fmt: skip
    head = await bodyless("HEAD", 200, *given)

    for name in ("ETag", "Vary", "Content-Encoding", "Content-Type"):
        assert named(head, name) == named(whole, name) != []
    assert (head.body, head.length) == (b"", None)
    plain = await bodyless("HEAD", 200, *given, asked=[("Accept-Encoding", "br")])
    assert (named(plain, "ETag"), named(plain, "Vary"), plain.length) == (['"a"'], ["Accept-Encoding"], 5000)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "asked", "tag", "vary"),
    [
        ([(b"Content-Type", b"text/plain")], [TAKES], 'W/"a"', ["Accept-Encoding"]),
        ([(b"Content-Type", b"text/plain")], [("X", "y")], '"a"', ["Accept-Encoding"]),
        ([(b"Content-Type", b"image/png")], [TAKES], '"a"', []),
        ([(b"Cache-Control", b"no-transform")], [TAKES], '"a"', []),
        ([], [TAKES, ("If-None-Match", 'W/"a"')], 'W/"a"', ["Accept-Encoding"]),
        ([], [TAKES, ("If-None-Match", '"b", W/"a"')], 'W/"a"', ["Accept-Encoding"]),
        ([], [TAKES, ("If-None-Match", '"a"')], '"a"', ["Accept-Encoding"]),
        ([], [("If-None-Match", 'W/"a"')], '"a"', ["Accept-Encoding"]),
    ],
)  # fmt: skip
async def test_304_has_the_tag_and_vary_of_its_200(
    fields: list[tuple[bytes, bytes]], asked: Fields, tag: str, vary: list[str]
) -> None:
    response = await bodyless("GET", 304, *fields, (b"ETag", b'"a"'), asked=asked)

    assert (named(response, "ETag"), named(response, "Vary")) == ([tag], vary)
    assert named(response, "Content-Encoding") == []


async def test_answer_without_content_has_no_coding() -> None:
    response = await bodyless("GET", 204, (b"Content-Type", b"text/plain"), (b"ETag", b'"a"'))

    assert (named(response, "Content-Encoding"), named(response, "ETag")) == ([], ['"a"'])


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(("length", "coded"), [(None, True), (2000, True), (9, False)])
async def test_body_in_pieces_is_coded_in_pieces(length: int | None, coded: bool) -> None:
    async def inner(_request: Exchange) -> Response:
        return Response(200, [(b"Content-Type", b"text/plain")], pieces(b"one", b"two"), length)

    response = await stage()(asking(), inner)
    assert not isinstance(response.body, bytes)
    body = b"".join([piece async for piece in response.body])

    assert (gzip.decompress(body) if coded else body) == b"onetwo"
    assert response.length == (None if coded else length)


async def test_pieces_arrive_as_they_come_and_refusals_are_compressed_too(
    gateway: Start, upstream: Upstream
) -> None:
    compress = {"compress": {"least_bytes": 10}}
    running = await gateway([DEFAULT_PIPELINE[0], compress, *DEFAULT_PIPELINE[1:]])
    key = await running.rows.key()
    await running.rows.connector(upstream.url)
    gate = asyncio.Event()

    async def script(call: Call) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
        await call.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        await call.send(chunked([b'{"n": 1}\n']).removesuffix(b"0\r\n\r\n"))
        await gate.wait()
        await call.send(chunked([b'{"n": 2}\n']))

    upstream.script = script
    client = await running.client()
    fields = [("Authorization", f"Bearer {key}"), TAKES]
    await client.request("GET", "/api/v1/gw/up/x", fields)
    reader, decoder, got = Reader(client), zlib.decompressobj(wbits=31), b""
    while b"1" not in got:
        await reader.more()
        got = decoder.copy().decompress(reader.message.body)
    gate.set()
    while await reader.more():
        pass
    refused = await running.call(fields=[TAKES])

    assert gzip.decompress(reader.message.body) == b'{"n": 1}\n{"n": 2}\n'
    assert reader.message.field("content-encoding") == "gzip"
    assert upstream.call.field("accept-encoding") == "gzip"
    assert (refused.status, refused.field("content-encoding")) == (401, "gzip")
    assert b"unauthenticated" in gzip.decompress(refused.body)


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(stage(), asking())
