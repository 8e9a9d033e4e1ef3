"""The innermost filter, with real connections to an upstream on loopback."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from filters.proxy import Options, Proxy
from gateway.clock import SystemClock
from gateway.exchange import Exchange, Outgoing, Response
from gateway.model import Plan
from gateway.runtime import Runtime
from gateway.transform.compiling import compile_connector
from gateway.upstream.address_policy import AddressPolicy
from gateway.upstream.attempts import Attempts
from gateway.upstream.connections import Upstreams
from tests.dataplane import (
    assert_honest,
    caller,
    connector,
    endpoint,
    exchange,
    refusal_of,
    snapshot,
)
from tests.dataplane import unreachable as unused
from tests.loopback import Call, Upstream, saying

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]


def asking(url: str, method: str = "GET", plan: int = 1 << 20, **definition: Any) -> Exchange:
    request = exchange(method, at=connector(url, endpoint("GET", "/x", **definition)))
    request.caller = caller(plan=dataclasses.replace(Plan("p", "p"), max_response_size=plan))
    request.outgoing = Outgoing(method, "/x", [])
    return request


async def whole(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([piece async for piece in response.body])


async def test_answer_is_the_upstreams(runtime: Runtime, upstream: Upstream) -> None:
    upstream.script = saying(b"HTTP/1.1 201 Odd words\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nhi")
    request = asking(upstream.url)
    response = await Proxy(Options(), runtime)(request, unused)

    assert (response.status, await whole(response)) == (201, b"hi")
    assert response.headers == [(b"X-A", b"1"), (b"Content-Length", b"2")]
    assert (request.outcome.source, request.outcome.attempts) == ("upstream", 1)
    assert request.outcome.target == f"127.0.0.1:{upstream.port}"
    assert request.outcome.upstream_s > 0
    request.close()


async def test_205_has_no_body_whatever_the_upstream_sends(
    runtime: Runtime, upstream: Upstream
) -> None:
    upstream.script = saying(b"HTTP/1.1 205 Reset\r\nContent-Length: 2\r\n\r\nhi")
    request = asking(upstream.url)
    response = await Proxy(Options(), runtime)(request, unused)

    assert (response.status, response.body, response.length) == (205, b"", None)
    request.close()


async def test_connection_is_free_for_the_next_when_the_exchange_is_over(
    runtime: Runtime, upstream: Upstream
) -> None:
    proxy = Proxy(Options(), runtime)
    at = asking(upstream.url)
    for _ in range(3):
        request = asking(upstream.url)
        request.connector, request.endpoint = at.connector, at.endpoint
        await whole(await proxy(request, unused))
        request.close()

    assert (len(upstream.calls), upstream.connections) == (3, 1)


async def test_answer_that_nobody_read_to_its_end_takes_its_connection_along(
    runtime: Runtime, upstream: Upstream, eventually: Eventually
) -> None:
    async def endless(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await call.gone()

    upstream.script = endless
    request = asking(upstream.url)
    response = await Proxy(Options(), runtime)(request, unused)
    assert not isinstance(response.body, bytes)
    assert await anext(response.body) == b"a"
    request.close()

    await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_answer_without_a_body_keeps_its_length(
    runtime: Runtime, upstream: Upstream, method: str
) -> None:
    status = 200 if method == "HEAD" else 304
    upstream.script = saying(b"HTTP/1.1 %d x\r\nContent-Length: 99\r\n\r\n" % status)
    request = asking(upstream.url, method)
    response = await Proxy(Options(), runtime)(request, unused)

    assert (response.status, response.body, response.length) == (status, b"", 99)
    request.close()


@pytest.mark.parametrize(("plan", "own"), [(5, None), (9, 5), (5, 9)])
@pytest.mark.parametrize("declared", [True, False])
async def test_answer_over_the_smaller_size_is_refused(
    runtime: Runtime, upstream: Upstream, plan: int, own: int | None, declared: bool
) -> None:
    framing = b"Content-Length: 6" if declared else b"Transfer-Encoding: chunked"
    body = b"123456" if declared else b"6\r\n123456\r\n0\r\n\r\n"
    upstream.script = saying(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body)
    request = asking(upstream.url, plan=plan, max_response_size=own)
    refused = await refusal_of(Proxy(Options(), runtime), request)

    assert (refused.code, refused.status) == ("upstream_invalid", 502)
    assert (request.outcome.attempts, request.outcome.source) == (1, "gateway")


async def test_refused_address_is_blocked_and_nothing_was_sent(
    runtime: Runtime, upstream: Upstream
) -> None:
    strict = Upstreams(AddressPolicy())
    attempts = Attempts(strict, runtime.metrics, SystemClock(), random.random)
    request = asking(upstream.url)
    refused = await refusal_of(
        Proxy(Options(), dataclasses.replace(runtime, attempts=attempts)), request
    )
    await strict.close()

    assert (refused.code, request.outcome.attempts) == ("upstream_blocked", 0)
    assert (upstream.connections, request.outcome.target) == (0, f"127.0.0.1:{upstream.port}")


@pytest.mark.parametrize(
    ("raw", "code"), [(b"", "upstream_unavailable"), (b"not http\r\n\r\n", "upstream_invalid")]
)
async def test_broken_answer_is_an_attempt(
    runtime: Runtime, upstream: Upstream, raw: bytes, code: str
) -> None:
    upstream.script = saying(raw, close=True)
    request = asking(upstream.url)
    refused = await refusal_of(Proxy(Options(), runtime), request)

    assert (refused.code, request.outcome.attempts, request.outcome.source) == (code, 1, "gateway")


async def test_deadline_is_the_endpoints(runtime: Runtime, upstream: Upstream) -> None:
    async def never(call: Call) -> None:
        await call.gone()

    upstream.script = never
    request = asking(upstream.url, timeout=100)
    refused = await refusal_of(Proxy(Options(), runtime), request)

    assert (refused.code, refused.status, request.outcome.attempts) == ("upstream_timeout", 504, 1)
    assert 0.09 <= request.outcome.upstream_s < 5  # the loop's clock counts milliseconds


async def test_it_reads_and_fills_what_it_says(runtime: Runtime, upstream: Upstream) -> None:
    await assert_honest(Proxy(Options(), runtime), asking(upstream.url))


async def test_secret_does_not_come_back_in_a_redirect(
    runtime: Runtime, upstream: Upstream
) -> None:
    at = compile_connector(
        snapshot(
            upstream.url,
            [endpoint("GET", "/x")],
            auth_type="query",
            auth_config={"param_name": "api_key"},
        ),
        team="red",
        secrets={"token": "hush-hush"},
    )

    async def redirect(call: Call) -> None:
        await call.answer(302, b"", [("Location", f"{upstream.url}{call.target}&page=2")])

    upstream.script = redirect
    request = exchange(at=at)
    request.caller = caller()
    request.outgoing = request.endpoint.mapped.outgoing(request)
    response = await Proxy(Options(), runtime)(request, unused)

    assert upstream.call.target == "/x?api_key=hush-hush"
    assert dict(response.headers)[b"Location"] == f"{upstream.url}/x?page=2".encode()
    request.close()
