"""Attempts and retries: what is sent once more, what never is, and how long that may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Any

import pytest

from gateway.exchange import Body
from gateway.upstream.breaker import BreakerSettings
from tests.dataplane import connector, endpoint
from tests.gateway.sending import Source
from tests.gateway.trying import (
    EVERY,
    KEY,
    Hands,
    Trying,
    asking,
    closed_port,
    closes,
    deaf_port,
    in_turn,
    resets,
    status,
    trying,
    upstream_of,
)
from tests.loopback import Call, Script, Upstream, say_ok, saying

IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE"}
PASSING: dict[str, tuple[Script, int | str]] = {
    "closed": (closes, "upstream_unavailable"),
    "reset": (resets, "upstream_unavailable"),
    "502": (status(502), 502),
    "503": (status(503), 503),
    "504": (status(504), 504),
    "503 with Retry-After": (status(503, "Retry-After: 1"), 503),
    "429 with Retry-After": (status(429, "Retry-After: 2"), 429),
}
LASTING: dict[str, tuple[Script, int | str]] = {
    "500": (status(500), 500),
    "501": (status(501), 501),
    "505": (status(505), 505),
    "404": (status(404), 404),
    "302": (status(302), 302),
    "429 without Retry-After": (status(429), 429),
    "429 with a long Retry-After": (status(429, "Retry-After: 3"), 429),
    "429 with a strange Retry-After": (status(429, "Retry-After: soon"), 429),
    "503 with a long Retry-After": (status(503, "Retry-After: 60"), 503),
    "not HTTP": (saying(b"SSH-2.0-x\r\n\r\n", close=True), "upstream_invalid"),
    "bad field": (status(503, "a: \x01"), "upstream_invalid"),
    "too large": (status(503, body=b"x" * (1 << 21)), "upstream_invalid"),
}


@pytest.fixture
async def tries(clock: Hands) -> AsyncIterator[Trying]:
    async with trying(clock) as made:
        yield made


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("case", PASSING)
async def test_table_of_what_is_sent_once_more(
    tries: Trying, upstream: Upstream, method: str, case: str
) -> None:
    failing, first = PASSING[case]
    upstream.script = in_turn(failing, say_ok)
    may = method in IDEMPOTENT
    request = asking(upstream_of(upstream.url, retries=1), method, body=b"content")

    assert await tries.outcome(request) == (200 if may else first)
    assert [call.body for call in upstream.calls] == [b"content"] * (1 + may)
    assert (request.outcome.attempts, request.outcome.source) == (1 + may, "gateway")
    assert tries.metrics.retries == ({"up": 1} if may else {})


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("case", PASSING)
async def test_idempotency_key_makes_a_request_repeatable(
    tries: Trying, upstream: Upstream, method: str, case: str
) -> None:
    upstream.script = in_turn(PASSING[case][0], say_ok)
    request = asking(upstream_of(upstream.url, retries=1), method, KEY, b"content")

    assert await tries.outcome(request) == 200
    assert [(c.body, c.field("idempotency-key")) for c in upstream.calls] == [
        (b"content", "key-1")
    ] * 2


@pytest.mark.parametrize("case", LASTING)
async def test_what_a_second_try_would_not_better_is_not_tried_again(
    tries: Trying, upstream: Upstream, case: str
) -> None:
    upstream.script, expected = LASTING[case]

    assert await tries.outcome(asking(upstream_of(upstream.url, retries=5))) == expected
    assert (len(upstream.calls), tries.waits) == (1, [])


@pytest.mark.parametrize("case", [*PASSING, *LASTING])
@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
async def test_post_without_a_key_is_executed_at_most_once(
    tries: Trying, upstream: Upstream, case: str, kept: bool
) -> None:
    at = upstream_of(upstream.url, retries=5)
    if kept:
        assert await tries.outcome(asking(at)) == 200
    upstream.script, expected = (PASSING | LASTING)[case]

    assert await tries.outcome(asking(at, "POST", body=b"pay")) == expected
    assert [call.method for call in upstream.calls].count("POST") == 1
    assert upstream.connections == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Le"])
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_post_is_not_repeated_wherever_its_answer_breaks(
    tries: Trying, upstream: Upstream, answer: bytes, how: str
) -> None:
    async def breaks(call: Call) -> None:
        await call.read_body()
        if answer:
            await call.send(answer)
        getattr(call, how)()

    upstream.script = breaks
    refused = await tries.outcome(asking(upstream_of(upstream.url, 5), "POST", body=b"pay"))

    assert (refused, len(upstream.calls)) == ("upstream_unavailable", 1)


@pytest.mark.parametrize(
    ("callers", "upstreams", "calls"), [("GET", "POST", 1), ("POST", "PUT", 2)]
)
async def test_method_that_the_upstream_sees_decides(
    tries: Trying, upstream: Upstream, callers: str, upstreams: str, calls: int
) -> None:
    upstream.script = status(503)
    own = endpoint(callers, retries=1, upstream_method=upstreams)
    await tries.outcome(asking(connector(upstream.url, own), callers, body=b""))

    assert len(upstream.calls) == calls


@pytest.mark.parametrize("retries", range(6))
async def test_endpoint_says_how_many_further_attempts_there_are(
    tries: Trying, upstream: Upstream, retries: int
) -> None:
    """And each waits for up to twice as long; here chance is always one half."""
    upstream.script = status(503)
    request = asking(upstream_of(upstream.url, retries))

    assert await tries.outcome(request) == 503
    assert (len(upstream.calls), request.outcome.attempts) == (1 + retries, 1 + retries)
    assert tries.waits == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8][:retries])
    assert tries.metrics.retries.get("up", 0) == retries


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured_exactly(
    tries: Trying, upstream: Upstream, clock: Hands, code: int, form: str
) -> None:
    told = "2" if form == "seconds" else formatdate(clock.now() + 2, usegmt=True)
    upstream.script = in_turn(status(code, f"Retry-After: {told}"), say_ok)

    assert await tries.outcome(asking(upstream_of(upstream.url, retries=1))) == 200
    assert tries.waits == [2]


@pytest.mark.parametrize(("most_ms", "answer"), [(2001, 200), (2000, 429), (500, 429)])
async def test_retry_after_beyond_the_deadline_is_not_waited_for(
    tries: Trying, upstream: Upstream, most_ms: int, answer: int
) -> None:
    upstream.script = in_turn(status(429, "Retry-After: 2"), say_ok)

    assert await tries.outcome(asking(upstream_of(upstream.url, 1, timeout=most_ms))) == answer


async def test_waits_end_with_the_endpoints_time(tries: Trying, upstream: Upstream) -> None:
    upstream.script = status(503)
    at = upstream_of(upstream.url, retries=5, timeout=300)

    assert await tries.outcome(asking(at)) == 503
    assert tries.waits == pytest.approx([0.05, 0.1])  # another 0.2 would be beyond it


async def test_each_attempt_has_what_is_left_of_the_time(
    tries: Trying, upstream: Upstream, clock: Hands
) -> None:
    async def too_late(call: Call) -> None:
        clock.forward(0.95)  # as seen by the attempts: little is left for the next one
        await call.answer(503)

    async def hangs(call: Call) -> None:
        await call.gone()

    upstream.script = in_turn(too_late, hangs)
    request = asking(upstream_of(upstream.url, retries=5, timeout=1001))

    assert await tries.outcome(request) == "upstream_timeout"
    assert request.outcome.attempts == 2


@pytest.mark.parametrize("method", EVERY)
async def test_nothing_was_sent_so_that_anything_may_be_tried_again(
    tries: Trying, method: str
) -> None:
    request = asking(upstream_of(f"http://127.0.0.1:{closed_port()}", retries=2), method)

    assert await tries.outcome(request) == "upstream_unavailable"
    assert (len(tries.waits), request.outcome.attempts) == (2, 0)
    assert tries.metrics.retries == {"up": 2}


async def test_each_attempt_has_its_own_time_to_connect(tries: Trying) -> None:
    with deaf_port() as port:
        at = upstream_of(f"http://127.0.0.1:{port}", retries=2, connect_timeout=100)
        begun = asyncio.get_running_loop().time()
        request = asking(at, "POST", body=b"pay")

        assert await tries.outcome(request) == "upstream_timeout"
        took_s = asyncio.get_running_loop().time() - begun
    assert (len(tries.waits), request.outcome.attempts) == (2, 0)
    assert 0.29 <= took_s < 5  # the loop's clock counts milliseconds


async def test_blocked_address_is_not_tried_again(tries: Trying) -> None:
    request = asking(upstream_of("http://10.1.2.3", retries=5))

    assert await tries.outcome(request) == "upstream_blocked"
    assert (tries.waits, request.outcome.attempts) == ([], 0)


@pytest.mark.parametrize("failing", [closes, status(503)])
async def test_body_that_was_streamed_away_is_not_sent_again(
    tries: Trying, upstream: Upstream, failing: Script
) -> None:
    upstream.script = in_turn(failing, say_ok)
    body = Body(Source(b"one", b"two"), None)
    at = upstream_of(upstream.url, retries=5)

    assert await tries.outcome(asking(at, "PUT", body=body)) != 200
    assert [call.body for call in upstream.calls] == [b"onetwo"]


async def test_rest_of_a_streamed_body_is_not_taken_for_the_whole(
    tries: Trying, upstream: Upstream
) -> None:
    """What is left of it has all come by the time of the second try."""

    class Rest(Source):
        def is_eof(self) -> bool:
            return len(self.pieces) < 2

        def read_nowait(self, _most: int = -1, /) -> bytes:
            return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))

    async def first_piece_only(call: Call) -> None:
        await call.receive()
        call.reset()

    upstream.script = in_turn(first_piece_only, say_ok)
    body = Body(Rest(b"one", b"two"), None)
    await tries.outcome(asking(upstream_of(upstream.url, retries=5), "PUT", body=body))

    assert len(upstream.calls) == 1
    assert not body.is_whole


async def test_streamed_body_goes_to_the_target_that_takes_it(
    tries: Trying, upstream: Upstream
) -> None:
    gone = {"url": f"http://127.0.0.1:{closed_port()}"}
    at = upstream_of(upstream.url, retries=1, targets=[gone, {"url": upstream.url}])
    body = Body(Source(b"one", b"two"), None)

    assert await tries.outcome(asking(at, "POST", body=body)) == 200
    assert upstream.call.body == b"onetwo"


async def test_static_body_can_be_sent_again_whatever_became_of_the_callers(
    tries: Trying, upstream: Upstream
) -> None:
    upstream.script = in_turn(closes, say_ok)
    own = endpoint("PUT", retries=1, body_transform="static", upstream_static_body="fixed")
    request = asking(connector(upstream.url, own), "PUT", body=Body(Source(b"x"), None))

    assert await tries.outcome(request) == 200
    assert [call.body for call in upstream.calls] == [b"fixed"] * 2


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_kept_connection_that_ends_instead_of_an_answer_costs_a_retry(
    tries: Trying, upstream: Upstream, method: str, retries: int
) -> None:
    """Whether the request was executed nobody knows: it is sent again where the endpoint says so."""
    at = upstream_of(upstream.url, retries=retries)
    upstream.script = in_turn(say_ok, closes, say_ok)
    assert await tries.outcome(asking(at)) == 200
    body = None if method == "GET" else Body(Source(b"a", b"b"), 2)
    request = asking(at, method, body=body)

    assert await tries.outcome(request) == (200 if retries else "upstream_unavailable")
    assert (request.outcome.attempts, len(tries.waits)) == (1 + retries, retries)
    assert [call.body for call in upstream.calls[1:]] == [b"ab" if body else b""] * (1 + retries)
    assert upstream.connections == 1 + retries


async def test_kept_connections_outlive_a_retry(tries: Trying, upstream: Upstream) -> None:
    at = upstream_of(upstream.url, retries=3)
    upstream.script = in_turn(status(503), status(503), say_ok)

    assert await tries.outcome(asking(at)) == 200
    assert (len(upstream.calls), upstream.connections) == (3, 1)


async def test_answer_that_is_not_used_takes_its_unread_body_along(
    tries: Trying, upstream: Upstream, eventually: Any
) -> None:
    async def endless(call: Call) -> None:
        await call.send(b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await call.gone()

    upstream.script = in_turn(endless, say_ok)

    assert await tries.outcome(asking(upstream_of(upstream.url, retries=1))) == 200
    await eventually(lambda: upstream.open == 1)


async def test_retries_have_a_budget(clock: Hands, upstream: Upstream) -> None:
    upstream.script = status(503)
    never = BreakerSettings(least_attempts=10**9)
    async with trying(clock, breaker=never, chance=lambda: 0.0) as tries:
        at = upstream_of(upstream.url, retries=5)
        for _ in range(100):
            assert await tries.outcome(asking(at)) == 503

    assert len(upstream.calls) == 130
