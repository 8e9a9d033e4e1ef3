"""Whatever becomes of a request, it leaves exactly one record that says so."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from tests.dataplane import Gateway, endpoint
from tests.loopback import Call, Upstream, chunked, message, request

Start = Callable[..., Awaitable[Gateway]]
Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"
STREAM = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked([b"abc", b"de"])
EVENTS = HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "/ok": message(200, b"fine"),
    "/404": message(404, b"none"),
    "/500": message(500, b"fault"),
    "/204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
    "/stream": STREAM,
    "/events": EVENTS + chunked([b"data: 1\n\n"]),
    "/garbage": b"garbage\r\n\r\n",
    "/hang": b"",
}
ENDPOINTS = (
    endpoint("GET", "/:rest*", "any"),
    endpoint("POST", "/:rest*", "post"),
    endpoint("GET", "/hang", "hang", timeout=100),
    endpoint("GET", "/slow", "slow", rate_limit=0),
    endpoint("POST", "/small", "small", max_request_size=3),
    endpoint("POST", "/ruled", "ruled", body_pattern="^a+$"),
    endpoint("POST", "/typed", "typed", media_types=["text/plain"]),
)


class Told(NamedTuple):
    """What a record says of an outcome."""

    status: int
    source: str
    error_code: str
    endpoint: str
    bytes_in: int = 0
    bytes_out: int = -1
    attempts: int = 0


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("GET", "/up/ok", None, Told(200, "upstream", "", "any", 0, 4, 1)),
        ("HEAD", "/up/ok", None, Told(200, "upstream", "", "any", 0, 0, 1)),
        ("POST", "/up/ok", b"12345", Told(200, "upstream", "", "post", 5, 4, 1)),
        ("GET", "/up/404", None, Told(404, "upstream", "", "any", 0, 4, 1)),
        ("GET", "/up/500", None, Told(500, "upstream", "", "any", 0, 5, 1)),
        ("GET", "/up/204", None, Told(204, "upstream", "", "any", 0, 0, 1)),
        ("GET", "/up/304", None, Told(304, "upstream", "", "any", 0, 0, 1)),
        ("GET", "/up/stream", None, Told(200, "upstream", "", "any", 0, 5, 1)),
        ("GET", "/up/events", None, Told(200, "upstream", "", "any", 0, 9, 1)),
        ("GET", "/up/garbage", None, Told(502, "gateway", "upstream_invalid", "any", attempts=1)),
        ("GET", "/up/hang", None, Told(504, "gateway", "upstream_timeout", "hang", attempts=1)),
        ("GET", "/gone/x", None, Told(502, "gateway", "upstream_unavailable", "any")),
        ("GET", "/private/x", None, Told(502, "gateway", "upstream_blocked", "any")),
        ("GET", "/bare/x", None, Told(503, "gateway", "secret_missing", "any")),
        ("GET", "/other/x", None, Told(403, "gateway", "forbidden", "any")),
        ("GET", "/none/x", None, Told(404, "gateway", "connector_not_found", "")),
        ("GET", "/up", None, Told(404, "gateway", "endpoint_not_found", "")),
        ("PUT", "/up/ok", b"1", Told(405, "gateway", "method_not_allowed", "")),
        ("GET", "/up/%2e", None, Told(400, "gateway", "bad_request", "")),
        ("GET", "/up/slow", None, Told(429, "gateway", "rate_limited", "slow")),
        ("POST", "/up/small", b"1234", Told(413, "gateway", "payload_too_large", "small")),
        ("POST", "/up/ruled", b"bad", Told(422, "gateway", "validation_failed", "ruled", 3)),
        ("POST", "/up/typed", b"1", Told(415, "gateway", "unsupported_media_type", "typed")),
    ],
)
async def test_outcome_leaves_one_record(
    gateway: Start, upstream: Upstream, method: str, path: str, body: bytes | None, told: Told
) -> None:
    async def script(call: Call) -> None:
        await call.read_body()
        raw = ANSWERS[call.target]
        await (call.send(raw.removesuffix(b"fine" if call.method == "HEAD" else b"")) if raw
               else call.gone())  # fmt: skip

    upstream.script = script
    running = await gateway()
    up = await running.rows.connector(upstream.url, *ENDPOINTS)
    others = [up]
    for slug, url in (("gone", f"http://127.0.0.1:{free_port()}"), ("private", "http://10.0.0.1")):
        others.append(await running.rows.connector(url, *ENDPOINTS, slug=slug))
    others.append(
        await running.rows.connector(upstream.url, *ENDPOINTS, slug="bare", auth_type="bearer")
    )
    await running.rows.connector(upstream.url, *ENDPOINTS, slug="other")
    key = await running.rows.key(connector_ids=others)
    fields = [("X-Request-Id", "the-one"), ("Content-Type", "text/html")]
    got = await running.call(method, path, fields, body, key=key)
    await running.stop()

    (record,) = await running.records(1)
    expected = told if told.bytes_out >= 0 else told._replace(bytes_out=len(got.body))
    assert Told(*(record[name] for name in Told._fields)) == expected
    assert (record["request_id"], got.field("x-request-id")) == ("the-one", "the-one")
    assert (record["client_gone"], record["caller_type"], got.status) == (False, "key", told.status)
    metrics = running.worker.runtime.metrics
    assert metrics.usage_records == {"written": 1, "dropped": 0}
    assert list(metrics.requests.values()) == [1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


async def test_unknown_callers_are_sampled_and_all_counted(
    gateway: Start, upstream: Upstream
) -> None:
    running = await gateway([{"usage": {"unknown_callers_per_s": 0}}, "respond", "authenticate",
                             "resolve", "transform", "proxy"])  # fmt: skip
    for _ in range(3):
        assert (await running.call()).code == "unauthenticated"
    await running.stop()

    assert await running.records(0) == []
    assert running.worker.runtime.metrics.requests == {("", "", "GET", 401, "gateway"): 3}


async def test_records_of_many_callers_at_once_are_all_there(
    gateway: Start, upstream: Upstream
) -> None:
    running = await gateway()
    await running.rows.plan(rate_limit=1_000_000)
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    block = request("GET", "/api/v1/gw/up/x", [("Authorization", f"Bearer {key}")])
    clients = [await running.client() for _ in range(20)]
    for _ in range(20):
        for client in clients:
            await client.send(block)
        for client in clients:
            assert (await client.answer()).status == 200
    await running.stop()

    ids = {record["request_id"] for record in await running.records(400)}
    assert len(ids) == len(upstream.calls) == 400


async def test_answer_is_not_complete_before_its_record_is_made(
    gateway: Start, upstream: Upstream
) -> None:
    running = await gateway(usage={"flush_every_s": 60})
    await running.rows.connector(upstream.url)
    key = await running.rows.key()
    for number in range(1, 4):
        assert (await running.call(key=key)).complete
        assert running.worker.runtime.metrics.usage_queue_depth() == number


async def test_stage_that_is_no_filter_of_ours_leaves_its_record_too(gateway: Start) -> None:
    """A body that nobody reads, since HEAD has none: the record does not wait for it."""
    running = await gateway(["usage", "tests.gateway.lonely:Lonely"])
    for method in ("HEAD", "GET"):
        got = await running.call(method)
        assert (got.status, got.complete) == (200, True)
    await running.stop()

    assert running.worker.runtime.metrics.requests == {
        ("", "", "HEAD", 200, "gateway"): 1, ("", "", "GET", 200, "gateway"): 1
    }  # fmt: skip
    assert len(await running.records(2)) == 2
