"""The circuit breaker around real upstreams: what counts as a failure, and what an open one does."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from gateway.exchange import Body
from gateway.problems import Rejected
from gateway.upstream.breaker import BreakerSettings, State
from tests.gateway.sending import Source, whole
from tests.gateway.trying import (
    ILL,
    Eventually,
    Hands,
    Trying,
    asking,
    closed_port,
    closes,
    gather,
    hangs,
    in_turn,
    resets,
    status,
    trying,
    upstream_of,
)
from tests.loopback import Call, Script, Upstream, say_ok, saying

FEW = BreakerSettings(least_attempts=4)
FAILURES: dict[str, Script] = {
    "closed": closes,
    "reset": resets,
    "not HTTP": saying(b"SSH-2.0-x\r\n\r\n", close=True),
    "bad field": status(200, "a: \x01"),
    "silent": hangs,
    **{str(code): status(code) for code in (500, 502, 503, 504, 507, 599)},
}
NO_FAILURES: dict[str, Script] = {
    "too large": status(200, body=b"x" * (1 << 21)),
    **{str(code): status(code) for code in (200, 204, 302, 400, 401, 404, 429, 499, 501, 505)},
}


@pytest.fixture
async def tries(clock: Hands) -> AsyncIterator[Trying]:
    async with trying(clock, breaker=FEW) as made:
        yield made


@pytest.mark.parametrize("case", FAILURES)
async def test_failures_of_the_upstream_open_it(
    tries: Trying, upstream: Upstream, case: str
) -> None:
    upstream.script = FAILURES[case]
    at = upstream_of(upstream.url, timeout=500 if case == "silent" else 30_000)
    for _ in range(4):
        assert await tries.outcome(asking(at)) != "circuit_open"

    assert await tries.outcome(asking(at)) == "circuit_open"
    assert len(upstream.calls) == 4


async def test_endpoint_that_fails_is_left_alone_and_the_others_are_not(
    tries: Trying, upstream: Upstream
) -> None:
    async def script(call: Call) -> None:
        await (status(500) if call.method == "POST" else say_ok)(call)

    upstream.script = script
    at = upstream_of(upstream.url)
    outcomes = [await tries.outcome(asking(at, "POST", body=b"1")) for _ in range(5)]

    assert outcomes == [500] * 4 + ["circuit_open"]
    assert await tries.outcome(asking(at)) == 200
    assert tries.attempts.circuit(at.id) is State.CLOSED


async def test_stale_connections_do_not_open_it(tries: Trying, upstream: Upstream) -> None:
    at = upstream_of(upstream.url)
    for _ in range(20):
        upstream.script = in_turn(say_ok, closes)
        assert await tries.outcome(asking(at)) == 200
        assert await tries.outcome(asking(at, "POST", body=b"1")) == "upstream_unavailable"

    assert tries.attempts.circuit(at.id) is State.CLOSED


async def test_upstream_that_takes_no_connection_opens_it(tries: Trying) -> None:
    at = upstream_of(f"http://127.0.0.1:{closed_port()}")
    assert tries.attempts.circuit(at.id) is None
    outcomes = [await tries.outcome(asking(at)) for _ in range(5)]

    assert outcomes == ["upstream_unavailable"] * 4 + ["circuit_open"]
    assert tries.attempts.circuit(at.id) is State.OPEN


@pytest.mark.parametrize("case", NO_FAILURES)
async def test_what_is_no_failure_does_not(tries: Trying, upstream: Upstream, case: str) -> None:
    upstream.script = NO_FAILURES[case]
    at = upstream_of(upstream.url)
    for _ in range(10):
        assert await tries.outcome(asking(at)) != "circuit_open"

    assert tries.attempts.conditions()["up"] == (State.CLOSED, 1)


async def test_caller_that_goes_away_is_no_failure(
    tries: Trying, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = hangs
    at = upstream_of(upstream.url)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(tries.outcome(asking(at))) for _ in range(10)]
    await eventually(lambda: len(upstream.calls) == 10)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert tries.attempts.conditions()["up"] == (State.CLOSED, 1)
    assert tries.lane(at).targets.attempts(0) == 0
    await eventually(lambda: upstream.open == 0)


async def test_caller_that_sends_too_slowly_is_no_failure(
    tries: Trying, upstream: Upstream
) -> None:
    """Or anybody could open the breaker for all other callers of the connector."""
    at = upstream_of(upstream.url, timeout=100)
    never = asyncio.Event()
    for _ in range(6):
        body = Body(Source(b"a", b"b", wait=never), None)
        assert await tries.outcome(asking(at, "POST", body=body)) == "upstream_timeout"

    assert tries.lane(at).targets.attempts(0) == 0


async def test_upstream_that_does_not_take_the_body_is_a_failure(
    tries: Trying, upstream: Upstream
) -> None:
    async def deaf(call: Call) -> None:
        await asyncio.get_running_loop().create_future()

    upstream.script = deaf
    at = upstream_of(upstream.url, timeout=200)
    for _ in range(4):
        body = Body(Source(*[b"x" * (1 << 20)] * 30), None)
        assert await tries.outcome(asking(at, "POST", body=body)) == "upstream_timeout"

    assert await tries.outcome(asking(at)) == "circuit_open"


@pytest.mark.parametrize("how", ["close", "reset", "silent"])
async def test_answers_that_break_off_are_failures(
    tries: Trying, upstream: Upstream, how: str
) -> None:
    async def half(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await (call.gone() if how == "silent" else asyncio.sleep(0))
        if how != "silent":
            getattr(call, how)()

    upstream.script = half
    at = upstream_of(upstream.url, idle_timeout=50)
    for _ in range(4):
        request = asking(at)
        with pytest.raises(Rejected, match="upstream_"):
            await whole(await tries.send(request))
        request.close()

    assert await tries.outcome(asking(at)) == "circuit_open"


@pytest.mark.parametrize("reads", [0, 1])
async def test_caller_that_does_not_read_on_is_no_failure(
    tries: Trying, upstream: Upstream, reads: int
) -> None:
    async def long(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await call.gone()

    upstream.script = long
    at = upstream_of(upstream.url)
    for _ in range(10):
        request = asking(at)
        pieces = (await tries.send(request)).pieces()
        for _ in range(reads):
            assert await anext(pieces) == b"half"
        await pieces.aclose()  # type: ignore[attr-defined] # a generator
        request.close()

    assert tries.lane(at).targets.condition(0).state is State.CLOSED


async def test_open_breaker_answers_at_once_and_truly(
    tries: Trying, upstream: Upstream, clock: Hands
) -> None:
    upstream.script = status(500)
    at = upstream_of(upstream.url)
    for _ in range(4):
        await tries.outcome(asking(at))
    clock.forward(1.5)
    request = asking(at)
    refused = await tries.refused(request)

    assert (refused.code, refused.status, refused.headers) == (
        "circuit_open", 503, [(b"Retry-After", b"4")]
    )  # fmt: skip
    outcome = request.outcome
    assert (outcome.attempts, outcome.target, outcome.upstream_s) == (0, "", 0)
    clock.forward(4)
    upstream.script = say_ok
    assert await tries.outcome(asking(at)) == 200


async def test_three_probes_at_a_time_decide(
    tries: Trying, upstream: Upstream, clock: Hands, eventually: Eventually
) -> None:
    upstream.script = ILL
    at = upstream_of(upstream.url)
    for _ in range(4):
        await tries.outcome(asking(at))
    clock.forward(5)
    go = asyncio.Event()

    async def after(call: Call) -> None:
        await go.wait()
        await call.answer()

    upstream.script = after
    loop = asyncio.get_running_loop()
    probes = [loop.create_task(tries.outcome(asking(at))) for _ in range(3)]
    await eventually(lambda: len(upstream.calls) == 7)
    assert await gather(20, lambda: tries.outcome(asking(at))) == ["circuit_open"] * 20
    assert tries.attempts.conditions()["up"].state is State.HALF_OPEN
    go.set()

    assert await asyncio.gather(*probes) == [200] * 3
    assert tries.attempts.conditions()["up"] == (State.CLOSED, 1)
    assert await gather(20, lambda: tries.outcome(asking(at))) == [200] * 20


async def test_probe_whose_caller_goes_away_gives_its_turn_to_another(
    tries: Trying, upstream: Upstream, clock: Hands, eventually: Eventually
) -> None:
    upstream.script = status(500)
    at = upstream_of(upstream.url)
    for _ in range(4):
        await tries.outcome(asking(at))
    clock.forward(5)
    upstream.script = hangs
    loop = asyncio.get_running_loop()
    probes = [loop.create_task(tries.outcome(asking(at))) for _ in range(3)]
    await eventually(lambda: len(upstream.calls) == 7)
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    upstream.script = say_ok

    assert [await tries.outcome(asking(at)) for _ in range(5)] == [200] * 5


async def test_retry_is_not_made_at_a_target_that_is_left_alone(
    tries: Trying, upstream: Upstream
) -> None:
    """The answer that opened the breaker is the one that its caller gets."""
    upstream.script = status(503)
    at = upstream_of(upstream.url, retries=5)

    assert await tries.outcome(asking(at)) == 503
    assert (len(upstream.calls), len(tries.waits)) == (4, 3)
    assert await tries.outcome(asking(at)) == "circuit_open"


async def test_breakers_of_two_teams_have_nothing_to_do_with_each_other(
    tries: Trying, upstream: Upstream
) -> None:
    red = upstream_of(upstream.url)
    blue = dataclasses.replace(upstream_of(upstream.url), team="blue")
    upstream.script = ILL
    for _ in range(4):
        await tries.outcome(asking(red))
    upstream.script = say_ok

    assert await tries.outcome(asking(red)) == "circuit_open"
    assert await tries.outcome(asking(blue)) == 200
    assert tries.attempts.conditions() == {"up": (State.OPEN, 0)}


async def test_new_version_of_a_connector_keeps_its_breaker(
    tries: Trying, upstream: Upstream
) -> None:
    at = upstream_of(upstream.url)
    upstream.script = in_turn(*[ILL] * 4, say_ok)
    for _ in range(4):
        await tries.outcome(asking(at))
    changed = dataclasses.replace(upstream_of(upstream.url, connect_timeout=7), id=at.id)

    assert await tries.outcome(asking(changed)) == "circuit_open"


async def test_what_is_kept_is_bounded_for_100_000_connectors(clock: Hands) -> None:
    async with trying(clock, breaker=FEW) as tries:
        one, lanes, most = upstream_of("http://10.0.0.1"), tries.attempts._lanes, 0  # noqa: SLF001 - what is kept is the promise

        def use(name: str, *, good: bool) -> None:
            lane = tries.attempts._lane(dataclasses.replace(one, id=name))  # noqa: SLF001 - see above
            member = lane.targets.pick(clock.monotonic(), "e")
            (member.succeeded if good else member.failed)(clock.monotonic(), member.era("e"))
            member.leave()

        for _ in range(4):
            use("broken", good=False)
        for number in range(100_000):
            use(str(number), good=True)
            if number == 40_000:
                assert lanes["broken"].targets.condition(clock.monotonic()).state is State.OPEN
            clock.forward(0.0001)
            most = max(most, len(lanes))
        assert 10_000 < most <= 20_001
        clock.forward(120)
        for number in range(3000):
            use(f"later {number}", good=True)

        assert "broken" not in lanes
        assert len(lanes) < 18_000
