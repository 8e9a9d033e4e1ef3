"""Methods that no endpoint takes: nothing of them reaches an upstream, and nothing is reflected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.dataplane import LOOPBACK, Gateway
from tests.loopback import Upstream

Start = Callable[..., Awaitable[Gateway]]
SETTINGS = {"upstream": {"allow_networks": list(LOOPBACK)}}
ALLOW = "DELETE, GET, HEAD, POST, PUT"
HOPS = ["0", "1", "10", "-1", "00", "x", ""]


@pytest.fixture
async def running(gateway: Start, upstream: Upstream) -> tuple[Gateway, str]:
    """A gateway with a connector that takes the usual methods at every path, and a key."""
    made = await gateway(**SETTINGS)
    await made.rows.plan()
    await made.rows.connector(upstream.url)
    return made, await made.rows.key()


@pytest.mark.parametrize("hops", HOPS)
async def test_trace_is_refused_whoever_is_to_answer_it(
    running: tuple[Gateway, str], upstream: Upstream, hops: str
) -> None:
    """RFC 9110 9.3.8 has the final recipient reflect the request, credentials and all."""
    made, key = running
    fields = [("Max-Forwards", hops), ("X-Private", "hush")]
    got = await made.call("TRACE", "/up/x", fields, key=key)

    assert (got.status, got.code, got.field("allow")) == (405, "method_not_allowed", ALLOW)
    assert b"hush" not in got.body
    assert key.encode() not in got.body
    assert upstream.calls == []


@pytest.mark.parametrize("hops", HOPS)
async def test_options_is_answered_here(
    running: tuple[Gateway, str], upstream: Upstream, hops: str
) -> None:
    made, key = running
    got = await made.call("OPTIONS", "/up/x", [("Max-Forwards", hops)], key=key)

    assert (got.status, got.field("allow")) == (204 if hops == "0" else 405, ALLOW)
    assert upstream.calls == []


async def test_options_that_goes_no_further_needs_a_caller_and_a_path(
    running: tuple[Gateway, str], upstream: Upstream
) -> None:
    made, key = running
    fields = [("Max-Forwards", "0")]

    assert (await made.call("OPTIONS", "/up/x", fields)).status == 401
    assert (await made.call("OPTIONS", "/other/x", fields, key=key)).status == 404
    assert (await made.call("OPTIONS", "/up/", fields, key=key)).status == 404
    assert upstream.calls == []


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_other_methods_do_not_count_hops(
    running: tuple[Gateway, str], upstream: Upstream, method: str
) -> None:
    made, key = running
    got = await made.call(method, "/up/x", [("Max-Forwards", "0")], key=key)

    assert (got.status, upstream.call.field("max-forwards")) == (200, "0")


@pytest.mark.parametrize(
    "target", ["upstream.example:443", "127.0.0.1:1", "/api/v1/gw/up/x", "http://a/api/v1/gw/up/x"]
)
async def test_connect_opens_no_tunnel(
    running: tuple[Gateway, str], upstream: Upstream, target: str
) -> None:
    made, key = running
    client = await made.client()
    await client.request("CONNECT", target, [("Authorization", f"Bearer {key}")])
    got = await client.answer()

    assert 400 <= got.status < 500
    assert upstream.connections == 0


@pytest.mark.parametrize("method", ["BREW", "PURGE", "PROPFIND", "M-SEARCH", "PRI", "get", "QUERY"])
async def test_other_methods_are_refused_with_those_that_there_are(
    running: tuple[Gateway, str], upstream: Upstream, method: str
) -> None:
    made, key = running
    client = await made.client()
    await client.request(method, "/api/v1/gw/up/x", [("Authorization", f"Bearer {key}")])
    got = await client.answer()

    assert got.status in {400, 405}
    assert (got.field("allow") == ALLOW) is (got.status == 405)
    assert upstream.calls == []
