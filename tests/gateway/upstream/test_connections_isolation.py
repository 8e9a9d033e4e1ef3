"""What may pass between callers and upstreams, through the whole pipeline: and nothing else does."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import DEFAULT_PIPELINE
from tests.certificates import self_signed
from tests.dataplane import LOOPBACK, Gateway, endpoint
from tests.loopback import Call, Client, Fields, Reader, Upstream, message, request, saying
from tests.tls import TlsServer

Start = Callable[..., Awaitable[Gateway]]
Eventually = Callable[[Callable[[], Any]], Awaitable[None]]


async def test_upstream_gets_the_callers_fields_and_nothing_invented(
    gateway: Start, upstream: Upstream
) -> None:
    running = await gateway()
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    fields = [("b", "1"), ("A", "2"), ("b", "3"), ("X-Latin", "\xe9"), ("Accept-Encoding", "br")]
    await running.call("POST", "/up/x?a=%2f", fields, b"{}", key=key)

    call = upstream.call
    ours = {b"host", b"x-request-id", b"traceparent", b"via", b"content-length"}
    assert [field for field in call.fields if field[0].lower() not in ours] == [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in fields
    ]
    assert (call.target, call.body) == ("/x?a=%2f", b"{}")
    assert call.all("host") == [f"127.0.0.1:{upstream.port}"]
    assert call.all("via") == ["1.1 service-gateway"]


NOT_FOR_UPSTREAMS = (
    *("X-API-Key", "X-Goog-Api-Key", "X-Team-Id", "Cookie", "Keep-Alive", "TE", "Trailer"),
    *("Upgrade", "Proxy-Authorization", "Proxy-Connection", "Expect"),
    *("Forwarded", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
    *("X-Forwarded-Ssl", "X-Forwarded-Anything", "X-Named", "X-Named-Too"),
)


async def test_what_is_not_the_upstreams_business_does_not_reach_it(
    gateway: Start, upstream: Upstream
) -> None:
    entries: list[Any] = list(DEFAULT_PIPELINE)
    entries[2] = {"authenticate": {"key_headers": ["X-Own"]}}
    running = await gateway(entries)
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    for name in NOT_FOR_UPSTREAMS:
        fields = [("X-Own", key), ("Connection", "X-Named"), ("Connection", "close, x-named-too")]
        fields += [(spelling, "marked") for spelling in {name, name.replace("-", "_")}]
        got = await running.call("GET", "/up/x", fields)

        assert (name, got.status) == (name, 200)
        assert b"marked" not in upstream.calls[-1].head
        assert key.encode() not in upstream.calls[-1].head


async def test_encoded_bodies_pass_both_ways_as_they_are(
    gateway: Start, upstream: Upstream
) -> None:
    sent, answered = (
        gzip.compress(b"sent" * 1000, mtime=0),
        gzip.compress(b"answered" * 1000, mtime=0),
    )
    upstream.script = saying(message(200, answered, [("Content-Encoding", "gzip")]))
    running = await gateway()
    await running.rows.connector(upstream.url)
    fields = [("Content-Encoding", "gzip")]
    got = await running.call("POST", "/up/x", fields, sent, key=await running.rows.key())

    assert (upstream.call.body, upstream.call.field("content-encoding")) == (sent, "gzip")
    assert (got.body, got.field("content-encoding")) == (answered, "gzip")


async def test_cookies_are_not_kept_for_the_next_caller(gateway: Start, upstream: Upstream) -> None:
    async def give(call: Call) -> None:
        await call.answer(fields=[("Set-Cookie", "session=of-the-first"), ("X-A", "1")])

    upstream.script = give
    running = await gateway()
    await running.rows.connector(upstream.url)
    first = await running.call(key=await running.rows.key())
    await running.call(key=await running.rows.key())

    assert (first.all("set-cookie"), first.all("x-a")) == ([], ["1"])
    assert [call.all("cookie") for call in upstream.calls] == [[], []]
    assert upstream.connections == 1


async def test_redirect_is_passed_on_and_its_place_sees_nothing(
    gateway: Start, upstream: Upstream
) -> None:
    async with Upstream() as elsewhere:
        location = f"{elsewhere.url}/taken?from=here"
        upstream.script = saying(message(307, b"", [("Location", location)]))
        running = await gateway()
        await running.rows.connector(upstream.url, auth_type="bearer", secrets={"token": "s3cret"})
        got = await running.call("POST", body=b"a", key=await running.rows.key())

        assert (got.status, got.field("location")) == (307, location)
        assert elsewhere.connections == 0
    assert upstream.call.all("authorization") == ["Bearer s3cret"]


async def test_address_that_is_not_allowed_is_blocked_before_a_connection_is_made(
    gateway: Start,
) -> None:
    hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "[::]"]
    odd = ["2130706433", "127.1", "0"]  # aiohttp itself refuses what is no canonical IPv4 address
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        running = await gateway(upstream={"allow_networks": []})
        key = await running.rows.key()
        for number, host in enumerate([*hosts, *odd]):
            slug = f"to-{number}"
            await running.rows.connector(f"http://{host}:{port}", slug=slug)
            got = await running.call(path=f"/{slug}/x", key=key)
            code = "upstream_unavailable" if host in odd else "upstream_blocked"
            assert (host, got.status, got.code) == (host, 502, code)
            assert str(port) not in got.body.decode()
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert {record["attempts"] for record in await running.records(9)} == {0}


async def test_metadata_address_is_blocked_even_where_its_network_is_allowed(
    gateway: Start,
) -> None:
    running = await gateway(upstream={"allow_networks": ["169.254.0.0/16"]})
    await running.rows.connector("http://169.254.169.254")

    assert (await running.call(key=await running.rows.key())).code == "upstream_blocked"


async def test_host_that_is_not_on_the_connectors_list_is_blocked(
    gateway: Start, upstream: Upstream
) -> None:
    running = await gateway()
    await running.rows.connector(upstream.url, allowed_hosts=["api.example.com"])
    await running.rows.connector(upstream.url, slug="ok", allowed_hosts=["127.0.0.1"])
    key = await running.rows.key()

    assert (await running.call(key=key)).code == "upstream_blocked"
    assert upstream.connections == 0
    assert (await running.call(path="/ok/x", key=key)).status == 200


async def test_connectors_do_not_share_connections_nor_wait_for_each_other(
    gateway: Start, upstream: Upstream, eventually: Eventually
) -> None:
    """One connector's upstream hangs for more requests than aiohttp's usual limit of connections."""

    async def hang_first(call: Call) -> None:
        await (call.gone() if call.target == "/hang" else call.answer())

    upstream.script = hang_first
    running = await gateway()
    await running.rows.plan(rate_limit=100_000)
    await running.rows.connector(upstream.url, max_connections=200)
    await running.rows.connector(upstream.url, slug="ok")
    key = await running.rows.key()
    credential = [("Authorization", f"Bearer {key}")]
    for _ in range(150):
        client = await running.client()
        await client.send(request("GET", "/api/v1/gw/up/hang", credential))
    await eventually(lambda: upstream.open == 150)
    first = await running.call(path="/ok/x", key=key)
    second = await running.call(path="/ok/x", key=key)

    assert (first.status, second.status) == (200, 200)
    assert (upstream.calls[-1].connection, upstream.connections) == (151, 151)


async def test_secret_reaches_the_connectors_host_and_nothing_else(
    gateway: Start, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "s3cret-value"
    running = await gateway()
    with caplog.at_level(logging.DEBUG):
        await running.rows.connector(
            upstream.url, auth_type="header", secrets={"a": secret},
            auth_config={"headers": {"X-Key": "k={{secrets.a}}"}},
        )  # fmt: skip
        key = await running.rows.key()
        good = await running.call("GET", "/up/x", [("X-Key", "callers")], key=key)
        upstream.script = saying(b"garbage\r\n\r\n")
        bad = await running.call(key=key)
        records = await running.records(2)

    assert [call.all("x-key") for call in upstream.calls] == [[f"k={secret}"]] * 2
    seen = [good.body, bad.body, *(value for _, value in good.fields + bad.fields)]
    assert secret.encode() not in b"".join(seen)
    assert secret not in str([dict(record) for record in records])
    assert secret not in caplog.text + str([vars(r) for r in caplog.records])
    connector = await running.worker.runtime.directory.connector("red", "up")
    assert secret not in str(running.worker)
    assert connector is not None


async def test_request_that_comes_back_to_the_gateway_ends(gateway: Start) -> None:
    running = await gateway()
    key = await running.rows.key()
    await running.rows.plan(rate_limit=100_000, daily_quota=None, monthly_quota=None)
    host, port = running.address
    await running.rows.connector(
        f"http://{host}:{port}/api/v1/gw", endpoint("GET", "/x", upstream_path="/up/x"),
        auth_type="bearer", secrets={"token": key}, default_timeout=5000,
    )  # fmt: skip
    got = await running.call(key=key)

    assert (got.status, got.code) == (508, "loop_detected")


async def test_odd_query_is_sent_as_it_is_or_refused(gateway: Start, upstream: Upstream) -> None:
    running = await gateway()
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    for query in ("a=\xe9", "a=b#c", '[]{}|^`"<>\\', "%zz", "a=%00", "a?b&&c"):
        got = await running.call("GET", f"/up/x?{query}", key=key)
        if got.status == 200:
            assert upstream.calls.pop().target == f"/x?{query}"
        else:
            assert (got.status, got.code, upstream.calls) == (400, "bad_request", [])


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
    ],
    ids=["counted", "chunked", "to-the-end"],
)
async def test_answer_that_its_upstream_broke_off_is_visibly_broken(
    gateway: Start, upstream: Upstream, raw: bytes
) -> None:
    async def broken(call: Call) -> None:
        await call.send(raw)
        await arrived.wait()
        call.reset()

    arrived = asyncio.Event()
    upstream.script = broken
    running = await gateway()
    await running.rows.connector(upstream.url)
    credential = [("Authorization", f"Bearer {await running.rows.key()}")]
    client: Client = await running.client()
    await client.send(request("GET", "/api/v1/gw/up/x", credential))
    reader = Reader(client)
    while reader.message.body != b"abc":
        assert await reader.more()
    arrived.set()
    while await reader.more():
        pass

    assert (reader.message.status, reader.message.complete) == (200, False)
    (record,) = await running.records(1)
    assert (record["status"], record["source"]) == (200, "upstream")
    assert (record["error_code"], record["client_gone"]) == ("upstream_invalid", False)


async def test_answer_that_tls_cuts_is_visibly_broken(gateway: Start, tmp_path: Path) -> None:
    with TlsServer(self_signed(tmp_path), b"HTTP/1.1 200 OK\r\n\r\nabc") as server:
        trusting = {"allow_networks": list(LOOPBACK), "ca_file": server.certificate}
        running = await gateway(upstream=trusting)
        await running.rows.connector(server.url)
        client = await running.client()
        credential = [("Authorization", f"Bearer {await running.rows.key()}")]
        await client.send(request("GET", "/api/v1/gw/up/x", credential))
        reader = Reader(client)
        while await reader.more():
            pass
        (record,) = await running.records(1)

    assert (reader.message.status, reader.message.complete) == (200, False)
    assert (record["error_code"], record["client_gone"]) == ("upstream_invalid", False)


async def test_events_pass_one_by_one_as_they_come(gateway: Start, upstream: Upstream) -> None:
    go_on = asyncio.Event()

    async def tell(call: Call) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        await call.send(head.encode())
        for number in range(3):
            event = b"data: %d\n\n" % number
            await call.send(b"%x\r\n%b\r\n" % (len(event), event))
            await go_on.wait()
            go_on.clear()
        await call.send(b"0\r\n\r\n")

    upstream.script = tell
    running = await gateway()
    await running.rows.connector(upstream.url, response_mode="envelope")
    client = await running.client()
    fields: Fields = [("Authorization", f"Bearer {await running.rows.key()}")]
    await client.request("GET", "/api/v1/gw/up/x", fields)
    reader = Reader(client)
    for number in range(3):
        while len(reader.message.pieces) <= number:
            assert await reader.more()
        go_on.set()
    while await reader.more():
        pass

    assert reader.message.pieces == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    assert (reader.message.complete, reader.message.field("content-type")) == (
        True, "text/event-stream"
    )  # fmt: skip
