"""The server's side of HTTP: what an exchange is made from, and how an answer is framed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from gateway.exchange import Exchange, Proceed, Response
from gateway.metrics import Metrics
from gateway.problems import Rejected
from gateway.server.listeners import bind
from gateway.server.server import Server
from tests.loopback import Client, Fields, Message, chunked, request

Serve = Callable[..., Awaitable[Any]]
X = "/api/v1/gw/x"
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").fullmatch


async def describe(exchange: Exchange) -> Response:
    """A pipeline that answers with what it got."""
    told = {
        name: getattr(exchange, name)
        for name in (
            "method",
            "path",
            "query",
            "request_id",
            "traceparent",
            "client_address",
            "proxies",
            "guards_origin",
        )
    }
    return Response(200, [], orjson.dumps(told | {"body": (await exchange.body.read()).decode()}))


async def ignore(_exchange: Exchange) -> Response:
    """A pipeline that answers without a look at the body."""
    return Response(200, [], b"ignored")


def answering(*pieces: bytes, status: int = 200, length: int | None = None) -> Proceed:
    async def come() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def proceed(_exchange: Exchange) -> Response:
        return Response(status, [], come(), length)

    return proceed


@pytest.mark.parametrize("given", ["a", "A-Za.z0_9", "x" * 128])
async def test_request_id_of_the_caller_is_taken(serve: Serve, given: str) -> None:
    served = await serve(describe)
    got = await served.call("GET", X, [("X-REQUEST-id", given)])

    assert got.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a/b", "\xe9", "a\tb", '"', "a;b"])
async def test_request_id_that_will_not_do_is_replaced(serve: Serve, given: str) -> None:
    served = await serve(describe)
    first = await served.call("GET", X, [("X-Request-Id", given)])
    second = await served.call("GET", X)

    assert UUID7(first.json()["request_id"])
    assert first.json()["request_id"] != second.json()["request_id"]


async def test_trace_is_passed_on_or_begun(serve: Serve) -> None:
    served = await serve(describe)
    given = f"00-{'1' * 32}-{'2' * 16}-01"
    kept = await served.call("GET", X, [("traceparent", given)])
    begun = await served.call("GET", X, [("traceparent", f"00-{'0' * 32}-{'2' * 16}-01")])

    assert kept.json()["traceparent"] == given
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", begun.json()["traceparent"])


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/api/v1/gw/x/y?a=b", "/x/y", "a=b"),
        ("/api/v1/gw/x?", "/x", ""),
        ("/api/v1/gw/x?a?b", "/x", "a?b"),
        ("/api/v1/gw/%78/%2e%2E//./", "/%78/%2e%2E//./", ""),
        ("/api/v1/gw/", "/", ""),
        ("http://anywhere/api/v1/gw/x?a", "/x", "a"),
        ("HTTPS://anywhere:99/api/v1/gw/x", "/x", ""),
    ],
)
async def test_target_reaches_the_pipeline_as_it_was_sent(
    serve: Serve, target: str, path: str, query: str
) -> None:
    got = (await (await serve(describe)).call("GET", target)).json()

    assert (got["path"], got["query"]) == (path, query)


@pytest.mark.parametrize(
    "target",
    ["/", "/api/v1/gw", "/api/v1/gwx/y", "/API/v1/gw/x", "//api/v1/gw/x", "http://anywhere",
     "http://anywhere?/api/v1/gw/x", "/ui/"],
)  # fmt: skip
async def test_unknown_path_is_404_and_the_connection_stays(serve: Serve, target: str) -> None:
    client = await (await serve(describe)).client()
    for _ in range(2):
        await client.request("GET", target, [("X-Request-Id", "mine")])
        got = await client.answer()
        assert (got.status, got.code, got.field("x-request-id")) == (404, "not_found", "mine")
    await client.request("GET", X)
    assert (await client.answer()).status == 200


@pytest.mark.parametrize("path", [X, "/api/v1/gw/admin/x"])
@pytest.mark.parametrize(
    ("target", "host"),
    [
        *[
            ("", host)
            for host in ("a, b", "a,b", "a b", "a/b", "a@b", "a:b", "a\\b", "[::1", "\xe9")
        ],
        ("http://a", ""),
        ("http://a", "a, b"),
        ("http://u@a", "a"),
        ("http://a,b", "a"),
        ("", "a\r\nHost: a"),
    ],
)
async def test_request_that_does_not_name_one_host_is_refused_on_both_planes(
    serve: Serve, path: str, target: str, host: str
) -> None:
    async def theirs(_asked: web.BaseRequest) -> web.Response:
        return web.Response()

    client = await (await serve(describe, web.Server(theirs))).client()
    await client.send(f"GET {target}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
    got = await client.answer()

    assert (got.status, got.code, got.field("connection")) == (400, "bad_request", "close")
    assert await client.gone() == b""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_authority_of_an_absolute_target_is_the_host_on_both_planes(
    serve: Serve, version: str
) -> None:
    async def show(exchange: Exchange) -> Response:
        raw = [value for name, value in exchange.raw_headers if name.lower() == b"host"]
        return Response(200, [], b" ".join([exchange.headers["host"].encode(), *raw]))

    async def theirs(asked: web.BaseRequest) -> web.Response:
        return web.Response(text=f"{asked.host} {asked.headers['host']}")

    served = await serve(show, web.Server(theirs))
    for path in (X, "/api/v1/gw/admin/x"):
        for field in ("Host: inner\r\n", *[""] * (version == "1.0")):
            client = await served.client()
            head = f"GET http://Outer:81{path} HTTP/{version}\r\n{field}\r\n"
            await client.send(head.encode())
            assert (await client.answer()).body == b"Outer:81 Outer:81"


async def test_asterisk_and_authority_forms_are_404(serve: Serve) -> None:
    served = await serve(describe)
    options = await served.call("OPTIONS", "*")
    client = await served.client()
    await client.send(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")

    assert options.code == (await client.answer("GET")).code == "not_found"


async def test_base_path_is_taken_off_and_needed(serve: Serve) -> None:
    served = await serve(describe, base_path="/tools/gw")
    for target in ("/tools/gw" + X, "http://anywhere/tools/gw" + X):
        assert (await served.call("GET", target)).json()["path"] == "/x"
    for target in (X, "/tools/gwx" + X, "/tools" + X, "/tools/gw"):
        assert (await served.call("GET", target)).code == "not_found"


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ([], ["203.0.113.9"], "127.0.0.1"),
        (["10.0.0.0/8"], ["203.0.113.9"], "127.0.0.1"),
        (["127.0.0.0/8"], [], "127.0.0.1"),
        (["127.0.0.0/8"], ["203.0.113.9"], "203.0.113.9"),
        (["127.0.0.0/8"], ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        (["127.0.0.0/8", "10.0.0.0/8"], ["1.1.1.1, 203.0.113.9, 10.1.1.1"], "203.0.113.9"),
        (["127.0.0.0/8", "10.0.0.0/8"], ["1.1.1.1", "203.0.113.9 ,10.1.1.1"], "203.0.113.9"),
        (["127.0.0.0/8", "10.0.0.0/8"], ["10.0.0.2, 10.0.0.1"], "10.0.0.2"),
        (["127.0.0.0/8"], ["203.0.113.9, spoofed"], "127.0.0.1"),
        (["127.0.0.0/8"], ["2001:db8::1"], "2001:db8::1"),
    ],
)
async def test_client_is_the_first_untrusted_hop_from_the_right(
    serve: Serve, trusted: list[str], forwarded: list[str], address: str
) -> None:
    served = await serve(describe, trusted_proxies=tuple(map(ip_network, trusted)))
    got = await served.call("GET", X, [("X-Forwarded-For", value) for value in forwarded])

    assert got.json()["client_address"] == address


async def test_trusted_hops_from_the_client_on_are_known(serve: Serve) -> None:
    networks = tuple(map(ip_network, ["127.0.0.0/8", "10.0.0.0/8"]))
    served = await serve(describe, trusted_proxies=networks)
    for fields, proxies in (
        ([], []),
        ([("X-Forwarded-For", "spoofed")], []),
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.9, 10.0.0.2, 10.0.0.1")], ["10.0.0.2", "10.0.0.1", "127.0.0.1"]),
    ):  # fmt: skip
        assert (await served.call("GET", X, fields)).json()["proxies"] == proxies


async def test_caller_of_a_listener_for_both_families_is_trusted_by_its_ipv4_network() -> None:
    server = Server(describe, None, Metrics("0"), trusted_proxies=(ip_network("127.0.0.0/8"),))
    listener = await asyncio.get_running_loop().create_server(
        server, sock=bind("[::]:0", "server.listen")
    )
    client = await Client.connect(("127.0.0.1", listener.sockets[0].getsockname()[1]))
    await client.request("GET", X, [("X-Forwarded-For", "203.0.113.9")])

    assert (await client.answer()).json()["client_address"] == "203.0.113.9"
    client.close()
    listener.close()
    await server.drain(0)


async def test_unix_socket_is_served_and_its_peer_trusted_like_a_proxy(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = Server(describe, None, Metrics("0"), trusted_proxies=(ip_network("10.0.0.0/8"),))
    loop = asyncio.get_running_loop()
    listener = await loop.create_unix_server(server, sock=bind(f"unix:{path}", "server.listen"))
    client = await Client.connect(path)
    await client.request("GET", X, [("X-Forwarded-For", "203.0.113.9, 10.0.0.1")])

    assert (await client.answer()).json()["client_address"] == "203.0.113.9"
    client.close()
    listener.close()
    await server.drain(0)


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("body", [b"", b"a", b"b" * 300_000])
async def test_body_arrives_whole_however_it_is_sent(
    serve: Serve, split: bool, body: bytes
) -> None:
    client = await (await serve(describe)).client()
    head = request("POST", X, [("Transfer-Encoding", "chunked")])
    block = head + chunked([body[:1], body[1:]] if len(body) > 1 else [body] * len(body))
    for part in [block[:40], block[40:200], block[200:]] if split else [block]:
        await client.send(part)

    assert (await client.answer()).json()["body"] == body.decode()


async def test_continue_is_sent_when_the_body_is_read_and_only_then(serve: Serve) -> None:
    expecting = [("Expect", "100-Continue"), ("Content-Length", "4")]
    client = await (await serve(describe)).client()
    await client.request("POST", X, expecting)
    assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"four")
    got = await client.answer()
    refused = await (await serve(ignore)).call("POST", X, expecting)

    assert (got.json()["body"], got.interim) == ("four", [])
    assert (refused.body, refused.interim, refused.field("connection")) == (b"ignored", [], "close")


async def test_continue_is_not_sent_for_a_body_that_is_here_nor_to_http_1_0(serve: Serve) -> None:
    served = await serve(describe)
    here = await served.call("POST", X, [("Expect", "100-continue")], b"four")
    old = await served.client()
    await old.send(
        b"POST %b HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n" % X.encode()
    )
    await old.send(b"four")

    assert (here.json()["body"], here.interim) == ("four", [])
    assert (await old.gone()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("way", ["bytes", "pieces"])
@pytest.mark.parametrize("status", [200, 204, 205, 304, 403])
async def test_http_1_0_is_told_that_its_connection_is_kept(
    serve: Serve, method: str, way: str, status: int
) -> None:
    async def come() -> AsyncIterator[bytes]:
        yield b"ok"

    async def answer(exchange: Exchange) -> Response:
        if way == "bytes":
            return Response(status, [], b"ok")
        return Response(status, [], come(), 2)

    client = await (await serve(answer)).client()
    for _ in range(2):
        await client.send(f"{method} {X} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".encode())
        got = await client.answer(method)
        assert (got.status, got.field("connection"), got.complete) == (status, "keep-alive", True)
    await client.send(f"{method} {X} HTTP/1.0\r\n\r\n".encode())
    assert b"keep-alive" not in await client.gone()


async def test_answer_to_http_1_0_without_a_length_ends_its_connection(serve: Serve) -> None:
    async def come() -> AsyncIterator[bytes]:
        yield b"ok"

    async def answer(_exchange: Exchange) -> Response:
        return Response(200, [], come())

    client = await (await serve(answer)).client()
    await client.send(f"GET {X} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
    raw = await client.gone()

    assert raw.endswith(b"\r\n\r\nok")
    assert b"Connection: close\r\n" in raw
    assert b"keep-alive" not in raw


async def test_connection_serves_many_and_answers_pipelined_requests_in_order(
    serve: Serve,
) -> None:
    client = await (await serve(describe)).client()
    await client.send(
        request("GET", f"{X}/1")
        + request("POST", f"{X}/2", body=b"two")
        + request("HEAD", f"{X}/3")
        + request("GET", f"{X}/4", [("Connection", "close")])
    )
    got = [await client.answer(method) for method in ("GET", "POST", "HEAD", "GET")]

    assert [g.json()["path"] for g in got if g.body] == ["/x/1", "/x/2", "/x/4"]
    assert [g.field("connection") for g in got] == [None, None, None, "close"]
    assert await client.gone() == b""


@pytest.mark.parametrize(
    "proceed", [answering(b"a", b"b"), answering(b"ab", length=2)], ids=["endless", "counted"]
)
async def test_http_1_0_gets_no_chunks_and_its_end(serve: Serve, proceed: Proceed) -> None:
    client = await (await serve(proceed)).client()
    await client.send(f"GET {X} HTTP/1.0\r\n\r\n".encode())
    head, _, body = (await client.gone()).partition(b"\r\n\r\n")

    assert body == b"ab"
    assert b"chunked" not in head
    assert b"\r\nConnection: close" in head


async def test_http_1_0_may_keep_its_connection(serve: Serve) -> None:
    client = await (await serve(describe)).client()
    for _ in range(2):
        await client.send(f"GET {X} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("method", "proceed", "fields", "body"),
    [
        ("GET", ignore, [("Content-Length", "7")], b"ignored"),
        ("HEAD", ignore, [("Content-Length", "7")], b""),
        ("GET", answering(b"a", b"", b"b"), [("Transfer-Encoding", "chunked")], b"ab"),
        ("GET", answering(), [("Transfer-Encoding", "chunked")], b""),
        ("GET", answering(b"a", b"b", length=2), [("Content-Length", "2")], b"ab"),
        ("HEAD", answering(b"a", length=1), [("Content-Length", "1")], b""),
        ("GET", answering(b"a", status=204), [], b""),
        ("GET", answering(b"a", status=304, length=9), [("Content-Length", "9")], b""),
        ("GET", answering(b"a", status=599), [("Transfer-Encoding", "chunked")], b"a"),
    ],
    ids=["whole", "whole-head", "chunked", "empty", "counted", "counted-head", "204", "304", "599"],
)
async def test_answer_is_framed_so_that_the_next_one_is_found(
    serve: Serve, method: str, proceed: Proceed, fields: Fields, body: bytes
) -> None:
    client = await (await serve(proceed)).client()
    for _ in range(2):
        await client.request(method, X)
        got: Message = await client.answer(method)
        framing = {"content-length", "transfer-encoding"}
        assert [
            (n.decode(), v.decode()) for n, v in got.fields if n.lower().decode() in framing
        ] == list(fields)
        assert (got.body, got.complete) == (body, True)
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", got.field("date") or "")


@pytest.mark.parametrize("trailer", [b"", b"X-Late: 1\r\n"])
async def test_request_with_trailers_is_the_last_of_its_connection_at_the_admin_plane_too(
    serve: Serve, trailer: bytes
) -> None:
    async def tell(request: web.Request) -> web.Response:
        return web.json_response([await request.text(), "x-late" in request.headers])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    client = await (await serve(None, runner.server)).client()
    chunked_body = b"1\r\na\r\n0\r\n" + trailer + b"\r\n"
    await client.send(request("POST", "/ui/", [("Transfer-Encoding", "chunked")]) + chunked_body)
    first = await client.answer("POST")
    assert (first.json(), first.field("connection")) == (["a", False], "close" if trailer else None)
    if trailer:
        assert await client.gone() == b""
    else:
        await client.request("GET", "/ui/")
        assert (await client.answer()).json() == ["", False]
    await runner.cleanup()


async def test_admin_plane_shares_the_port(serve: Serve) -> None:
    async def show(asked: web.Request) -> web.Response:
        return web.json_response([asked.method, asked.path_qs, await asked.text()])

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    both = await serve(describe, runner.server, base_path="/base")
    alone = await serve(None, runner.server)

    for method, target, path in [
        ("GET", "/base/ui/", "/ui/"),
        ("POST", "/base/api/v1/gw/admin/keys?a=%20b", "/api/v1/gw/admin/keys?a=%20b"),
        ("GET", "http://else/base/api/v1/gw/admin", "/api/v1/gw/admin"),
    ]:
        got = await both.call(method, target, body=b"content" if method == "POST" else None)
        assert got.json() == [method, path, "content" if method == "POST" else ""]
    assert (await both.call("GET", "/base" + X)).json()["path"] == "/x"
    assert (await both.call("GET", "/base/api/v1/gw/adminx")).json()["path"] == "/adminx"
    assert (await alone.call("GET", "/ui/")).status == 200
    assert (await alone.call("GET", X)).code == "not_found"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("shares", "options", "guards"),
    [(True, {}, True), (True, {"guards_origin": False}, False), (False, {}, False)],
)
async def test_origin_is_guarded_where_the_admin_plane_shares_it(
    serve: Serve, shares: bool, options: dict[str, bool], guards: bool
) -> None:
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    served = await serve(describe, runner.server if shares else None, **options)

    assert (await served.call("GET", X)).json()["guards_origin"] is guards
    await runner.cleanup()


async def test_refusal_and_fault_of_the_pipeline_are_problem_documents(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(exchange: Exchange) -> Response:
        if exchange.path == "/x/bug":
            raise KeyError("private")
        raise Rejected("rate_limited", "Wait.", retry_after_s=3)

    client = await (await serve(refuse)).client()
    await client.request("GET", X)
    refused = await client.answer()
    await client.request("GET", f"{X}/bug", [("X-Request-Id", "the-bug")])
    fault = await client.answer()

    assert (refused.status, refused.code, refused.field("retry-after")) == (
        429,
        "rate_limited",
        "3",
    )
    assert (fault.status, fault.code, fault.field("x-request-id")) == (500, "internal", "the-bug")
    assert b"private" not in fault.body
    assert "private" in caplog.text


async def test_request_past_the_bound_is_refused_before_anything_is_done(
    serve: Serve, eventually: Callable[..., Awaitable[None]]
) -> None:
    inside, may_answer = list[str](), asyncio.Event()

    async def wait(exchange: Exchange) -> Response:
        inside.append(exchange.path)
        await may_answer.wait()
        return Response(200)

    served = await serve(wait, most_in_flight=2)
    first, second, third = [await served.client() for _ in range(3)]
    await first.request("GET", f"{X}/1")
    await second.request("GET", f"{X}/2")
    await eventually(lambda: len(inside) == 2)
    await third.request("GET", f"{X}/3")
    refused = await third.answer()
    may_answer.set()
    served_too = [await client.answer() for client in (first, second)]
    await third.request("GET", f"{X}/4")

    assert (refused.status, refused.json()["code"]) == (503, "overloaded")
    assert (refused.field("retry-after"), refused.field("connection")) == ("1", None)
    assert refused.field("x-request-id") == refused.json()["requestId"]
    assert [answer.status for answer in (*served_too, await third.answer())] == [200] * 3
    assert inside == ["/x/1", "/x/2", "/x/4"]
