"""What is not HTTP, or could be read in two ways: refused, never passed on, nothing reflected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import h11
import pytest
from aiohttp import web

from gateway.exchange import Exchange, Proceed, Response
from gateway.metrics import Metrics
from gateway.problems import Rejected
from gateway.server.connection import Bounds, Patience
from gateway.server.server import Server
from tests.dataplane import listening
from tests.loopback import PATIENCE_S, Client, chunked, request

Serve = Callable[..., Awaitable[Any]]
Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
X = "/api/v1/gw/x"
GET = f"GET {X} HTTP/1.1\r\nHost: a\r\n".encode()
POST = f"POST {X} HTTP/1.1\r\nHost: a\r\n".encode()
MARK = b"Mirror-Mirror"


class Recorder:
    """A pipeline that notes what got through, body included."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.arrived = b""

    async def __call__(self, exchange: Exchange) -> Response:
        body = b""
        async for piece in exchange.body.pieces():
            body += piece
            self.arrived = body
        self.got.append((exchange.path, body))
        return Response(200, [], b"ok")


@pytest.mark.parametrize(
    "raw",
    {
        "noise": b"\x00\x01\x02" + MARK + b"\r\n\r\n",
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + MARK,
        "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + MARK,
        "http-0.9": f"GET {X}/".encode() + MARK + b"\r\n\r\n",
        "http-2": f"GET {X}/".encode() + MARK + b" HTTP/2.0\r\nConnection: keep-alive\r\n\r\n",
        "version": b"GET /" + MARK + b" HTTP/1.12\r\n\r\n",
        "method": MARK + b" /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "small-method": b"get /" + MARK + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "space-in-target": b"GET /a " + MARK + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "nul-in-target": b"GET /a\x00" + MARK + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "no-host": f"GET {X} HTTP/1.1\r\nX: ".encode() + MARK + b"\r\n\r\n",
        "two-hosts": GET + b"Host: " + MARK + b"\r\n\r\n",
        "space-before-colon": GET + b"X-A : " + MARK + b"\r\n\r\n",
        "folded": GET + b"X-A: b\r\n " + MARK + b"\r\n\r\n",
        "no-colon": GET + MARK + b"\r\n\r\n",
        "no-name": GET + b": " + MARK + b"\r\n\r\n",
        "nul-in-value": GET + b"X-A: b\x00" + MARK + b"\r\n\r\n",
        "bare-cr-in-value": GET + b"X-A: b\r" + MARK + b"\r\n\r\n",
        "bad-name": GET + b"X[A]: " + MARK + b"\r\n\r\n",
        "obs-name": GET + b"X\xe9: " + MARK + b"\r\n\r\n",
        "both-framings": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + MARK,
        "both-reversed": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + MARK,
        "two-lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n" + MARK,
        "same-lengths": POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\n" + MARK,
        "listed-lengths": POST + b"Content-Length: 4, 4\r\n\r\n" + MARK,
        "signed-length": POST + b"Content-Length: +4\r\n\r\n" + MARK,
        "negative-length": POST + b"Content-Length: -4\r\n\r\n" + MARK,
        "hex-length": POST + b"Content-Length: 0x4\r\n\r\n" + MARK,
        "endless-length": POST + b"Content-Length: 99999999999999999999999\r\n\r\n" + MARK,
        "odd-coding": POST + b"Transfer-Encoding: x" + MARK + b"\r\n\r\n0\r\n\r\n",
        "gzip-coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + MARK,
        "twice-chunked": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + MARK,
        "chunked-identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + MARK,
        "vertical-tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + MARK,
        "two-codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n" + MARK,
        "http-1.0-chunked": f"POST {X} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        + b"0\r\n\r\n" + MARK,
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
async def test_message_that_is_not_http_is_refused_and_the_connection_ends(
    serve: Serve, raw: tuple[str, bytes]
) -> None:
    recorder = Recorder()
    client = await (await serve(recorder)).client()
    await client.send(raw[1])
    got = await client.answer("POST")

    assert 400 <= got.status < 500
    assert (got.code, got.complete, got.field("connection")) == ("bad_request", True, "close")
    assert await client.gone() == b""
    assert MARK not in got.body + b"".join(value for _, value in got.fields)
    assert recorder.got == []


LONG = 16_384


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"GET /" + b"a" * LONG + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (b"GET http://a/" + b"a" * LONG + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (GET + b"X-A: " + b"a" * (LONG + 2) + b"\r\n\r\n", 431, "fields_too_large"),
        (GET + b"a" * LONG * 2 + b": a\r\n\r\n", 431, "fields_too_large"),
        (GET + b"A: b\r\n" * 128 + b"\r\n", 431, "fields_too_large"),
    ],
    ids=["target", "absolute-target", "value", "name", "number"],
)
async def test_head_past_the_limits_says_which_and_is_counted(
    raw: bytes, status: int, code: str
) -> None:
    recorder, metrics = Recorder(), Metrics("0")
    async with listening(Server(recorder, None, metrics)) as address:
        client = await Client.connect(address)
        await client.send(raw)
        got = await client.answer()
        assert await client.gone() == b""
        client.close()

    assert (got.status, got.code, got.field("connection")) == (status, code, "close")
    assert got.field("x-request-id") == got.json()["requestId"]
    assert b"aaaa" not in got.body
    assert metrics.rejections == {("server", code): 1}
    assert recorder.got == []


@pytest.mark.parametrize(
    ("bounds", "codes"),
    [
        (Bounds(300, 300, 5), ["uri_too_long", "fields_too_large", "fields_too_large"]),
        (Bounds(300, 900, 5), ["uri_too_long", None, "fields_too_large"]),
        (Bounds(900, 300, 9), [None, "fields_too_large", None]),
    ],
)
async def test_limits_of_a_head_can_be_set(
    serve: Serve, bounds: Bounds, codes: list[str | None]
) -> None:
    served = await serve(Recorder(), bounds=bounds)
    got = [
        await served.call("GET", X + "?" + "a" * 400),
        await served.call("GET", X, [("X-A", "b" * 400)]),
        await served.call("GET", X, [("A", "b")] * 7),
    ]

    assert [None if answer.status == 200 else answer.code for answer in got] == codes


@pytest.mark.parametrize("n", [0, 126])
async def test_head_within_the_limits_is_taken(serve: Serve, n: int) -> None:
    recorder = Recorder()
    target = X + "?" + "a" * (LONG - len(X) - 1)
    value = "b" * (LONG - 3)
    served = await serve(recorder)
    got = await served.call("GET", target, [("X-A", value), *[("A", "b")] * n])

    assert got.status == 200


@pytest.mark.parametrize(
    "bad",
    [b"x\r\n", b"-1\r\na\r\n", b"1;a=\x00\r\na\r\n", b"1\r\nab\r\n", b"1 \r\na\r\n", b"1\na\r\n",
     b"0x1\r\na\r\n", b"1_0\r\na\r\n", b"fffffffffffffffff\r\na"],
)  # fmt: skip
@pytest.mark.parametrize("later", [False, True])
async def test_chunk_that_is_not_one_ends_the_request_and_its_connection(
    serve: Serve, eventually: Eventually, bad: bytes, later: bool
) -> None:
    recorder = Recorder()
    client = await (await serve(recorder)).client()
    head = request("POST", X, [("Transfer-Encoding", "chunked")]) + b"3\r\nabc\r\n"
    if later:
        await client.send(head)
        await eventually(lambda: recorder.arrived == b"abc")
        head = b""
    await client.send(head + bad)
    got = await client.answer("POST")

    assert (got.code, got.field("connection")) == ("bad_request", "close")
    assert await client.gone() == b""
    assert recorder.got == []


async def test_trailers_end_the_body_and_the_connection_and_are_dropped(serve: Serve) -> None:
    recorder = Recorder()
    client = await (await serve(recorder)).client()
    body = b"1\r\na\r\n0\r\nX-Trailer: b\r\n\r\n"
    await client.send(request("POST", X, [("Transfer-Encoding", "chunked")]) + body)
    got = await client.answer("POST")

    assert (got.status, got.field("connection"), await client.gone()) == (200, "close", b"")
    assert recorder.got == [("/x", b"a")]


async def test_good_requests_before_a_bad_one_are_not_answered_wrongly(serve: Serve) -> None:
    recorder = Recorder()
    client = await (await serve(recorder)).client()
    await client.request("GET", f"{X}/1")
    first = await client.answer()
    await client.send(b"garbage\r\n\r\n")
    second = await client.answer()

    assert (first.status, second.code) == (200, "bad_request")
    assert recorder.got == [("/x/1", b"")]


@pytest.mark.parametrize(
    "field", [b"Connection: \xff\xfe", b"Connection: \xe4\xb8\xad", b"X-Team-Id: \xff", b"Expect: \xff",
              b"X-Request-Id: \xff", b"traceparent: \xff", b"X-Forwarded-For: \xff", b"Upgrade: \xff"]
)  # fmt: skip
async def test_odd_bytes_in_fields_are_no_fault(serve: Serve, field: bytes) -> None:
    client = await (await serve(Recorder())).client()
    await client.send(GET + field + b"\r\n\r\n")

    assert (await client.answer()).status == 200


async def test_upgrade_is_not_taken_and_what_follows_is_a_request(serve: Serve) -> None:
    recorder = Recorder()
    client = await (await serve(recorder)).client()
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    await client.send(request("GET", f"{X}/1", upgrade) + request("GET", f"{X}/2"))
    got = [await client.answer(), await client.answer()]

    assert [g.status for g in got] == [200, 200]
    assert [path for path, _ in recorder.got] == ["/x/1", "/x/2"]


SWITCHES = {
    "foo": [("Upgrade", "foo")],
    "h2c": [("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")],
    "list": [("Upgrade", "h2c, websocket")],
    "two-fields": [("Upgrade", "h2c"), ("Upgrade", "websocket")],
    "websocket": [("Upgrade", "WebSocket")],
    "not-ascii": [("Upgrade", "web\xdfocket")],
}
UPGRADE = ("Connection", "Upgrade")


@pytest.mark.parametrize("protocols", SWITCHES.values(), ids=SWITCHES.keys())
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("path", [X, "/api/v1/gw/admin/x"])
async def test_what_follows_an_upgrade_is_answered_in_order_or_not_at_all(
    serve: Serve, protocols: list[tuple[str, str]], method: str, refused: bool, path: str
) -> None:
    async def answer(exchange: Exchange) -> Response:
        if refused:
            raise Rejected("unauthenticated", "No.")
        return Response(200, [], exchange.path[-1].encode() + await exchange.body.read())

    async def theirs(asked: web.BaseRequest) -> web.Response:
        status = 401 if refused else 200
        return web.Response(status=status, body=asked.path[-1].encode() + await asked.read())

    body = b"a\r\n\r\nb" if method == "POST" else None
    raw = request(method, f"{path}/1", [UPGRADE, *protocols], body)
    raw += request("GET", f"{path}/2")
    served = await serve(answer, web.Server(theirs))
    for cut, hasty in ((len(raw), 0), (len(raw) - 2, 0), (len(raw) - 20, 0), (len(raw), 3)):
        client = await served.client()
        if hasty:  # the end of the first head comes with what is behind it
            begun = raw.index(b"\r\n\r\n") + hasty
            await client.send(raw[:begun])
            for _ in range(20):
                await asyncio.sleep(0)
            await client.send(raw[begun:])
        else:
            await client.send(raw[:cut])
        answers = [await client.answer(method)]
        with suppress(ConnectionError, h11.RemoteProtocolError):
            await client.send(raw[cut:] + request("GET", f"{path}/3"))
            while answers[-1].field("connection") != "close":
                answers.append(await client.answer())
                if len(answers) == 3:
                    break
        if len(answers) < 3:
            assert answers[-1].field("connection") == "close"
            assert await client.gone() == b""
        if not refused:
            assert [got.body[:1] for got in answers] == [b"1", b"2", b"3"][: len(answers)]


async def test_connection_is_kept_after_an_upgrade_that_nothing_came_behind(serve: Serve) -> None:
    recorder = Recorder()
    client = await (await serve(recorder)).client()
    for n in range(3):
        await client.send(request("GET", f"{X}/{n}", [UPGRADE, ("Upgrade", "h2c")]))
        assert (await client.answer()).field("connection") is None

    assert [path for path, _ in recorder.got] == ["/x/0", "/x/1", "/x/2"]


async def test_body_that_was_not_read_ends_the_connection_after_the_answer(
    serve: Serve,
) -> None:
    async def refuse(_exchange: Exchange) -> Response:
        raise Rejected("payload_too_large", "No.")

    served = await serve(refuse, patience=Patience(linger_s=0.1))
    client = await served.client()
    await client.send(request("POST", X, body=b"").replace(b"Length: 0", b"Length: 5000000"))
    await client.send(b"a" * 200_000)
    got = await client.answer("POST")
    smuggled = request("GET", f"{X}/smuggled")
    await client.send(smuggled)

    assert (got.status, got.code, got.field("connection")) == (413, "payload_too_large", "close")
    assert await client.gone() == b""


def breaking(*pieces: bytes | Exception, length: int | None = None) -> Proceed:
    async def come() -> AsyncIterator[bytes]:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def proceed(_exchange: Exchange) -> Response:
        return Response(200, [], come(), length)

    return proceed


@pytest.mark.parametrize(
    "proceed",
    [
        breaking(b"abc", Rejected("upstream_invalid", "")),
        breaking(b"abc", Rejected("upstream_timeout", ""), length=9),
        breaking(b"abc", ConnectionResetError()),
        breaking(b"abc", RuntimeError("private")),
        breaking(b"abc", RuntimeError("private"), length=9),
        breaking(b"abc", TimeoutError()),
        breaking(b"abc", length=4),
        breaking(b"abc", b"de", length=4),
    ],
    ids=[
        "refusal",
        "refusal-counted",
        "connection",
        "bug",
        "bug-counted",
        "timeout",
        "short",
        "long",
    ],
)
async def test_answer_that_breaks_off_looks_broken_and_nothing_follows(
    serve: Serve, proceed: Proceed
) -> None:
    client = await (await serve(proceed)).client()
    await client.request("GET", X)
    raw = await client.gone()

    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"private" not in raw
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"chunked" in head:
        assert body == b"3\r\nabc\r\n"
    else:
        assert body == b"abc"


async def test_answer_to_http_1_0_that_breaks_off_ends_in_a_reset(serve: Serve) -> None:
    client = await (await serve(breaking(b"abc", Rejected("upstream_invalid", "")))).client()
    await client.send(f"GET {X} HTTP/1.0\r\n\r\n".encode())
    await client.gone()

    assert client.was_reset


async def test_head_that_does_not_come_to_its_end_is_not_waited_for(serve: Serve) -> None:
    recorder = Recorder()
    client = await (await serve(recorder, patience=Patience(head_s=0.05))).client()
    await client.request("GET", X)
    await client.answer()
    await client.send(GET)

    assert await client.gone() == b""
    assert len(recorder.got) == 1


async def test_body_that_comes_too_slowly_is_not_waited_for(
    serve: Serve, eventually: Eventually
) -> None:
    recorder = Recorder()
    client = await (await serve(recorder, patience=Patience(body_s=0.1))).client()
    await client.send(POST + b"Content-Length: 9\r\n\r\n")
    await client.send(b"a")
    await eventually(lambda: recorder.arrived)
    got = await client.answer("POST")

    assert (got.code, got.field("connection")) == ("bad_request", "close")
    assert recorder.got == []


async def test_iterator_is_not_run_ahead_of_a_slow_client(
    serve: Serve, eventually: Eventually
) -> None:
    made = 0

    async def come() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(1000):
            made += 1
            yield b"x" * 65_536

    async def proceed(_exchange: Exchange) -> Response:
        return Response(200, [], come())

    client = await (await serve(proceed)).client()
    await client.request("GET", X)
    await eventually(lambda: made > 5)
    seen = -1
    while made != seen:  # until the buffers on the way are full
        seen = made
        for _ in range(50):
            await asyncio.sleep(0)
    assert made < 500
    async with asyncio.timeout(PATIENCE_S):
        got = await client.answer()

    assert (len(got.body), got.complete) == (65_536_000, True)


async def test_slow_client_gets_all_of_a_pipelined_answer(serve: Serve) -> None:
    async def big(_exchange: Exchange) -> Response:
        return Response(200, [], b"x" * 3_000_000)

    client = await (await serve(big)).client()
    await client.send(request("GET", X) * 3)
    for _ in range(3):
        got = await client.answer()
        assert (len(got.body), got.complete) == (3_000_000, True)


async def test_chunked_body_of_many_small_chunks_is_whole(serve: Serve) -> None:
    recorder = Recorder()
    client = await (await serve(recorder)).client()
    body = chunked([b"a"] * 50_000)
    await client.send(request("POST", X, [("Transfer-Encoding", "chunked")]) + body)

    assert (await client.answer("POST")).status == 200
    assert recorder.got == [("/x", b"a" * 50_000)]
