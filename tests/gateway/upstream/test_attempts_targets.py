"""Several real targets: spread, avoided when they fail, and tried instead of one another."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.upstream.breaker import State
from tests.gateway.trying import (
    ILL,
    KEY,
    Hands,
    Trying,
    asking,
    closed_port,
    closes,
    status,
    trying,
    upstream_of,
)
from tests.loopback import Call, Upstream, say_ok


@pytest.fixture
async def tries(clock: Hands) -> AsyncIterator[Trying]:
    async with trying(clock) as made:
        yield made


@pytest.fixture
async def three() -> AsyncIterator[list[Upstream]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Upstream()) for _ in range(3)]


def spread(upstreams: list[Upstream], **definition: Any) -> Any:
    targets = [{"url": each.url} for each in upstreams]
    return upstream_of("http://127.0.0.1/v1", targets=targets, **definition)


def counts(upstreams: list[Upstream]) -> list[int]:
    return [len(each.calls) for each in upstreams]


async def test_requests_are_spread_and_paths_are_the_base_urls(
    tries: Trying, three: list[Upstream]
) -> None:
    at = spread(three)
    for _ in range(6):
        assert await tries.outcome(asking(at)) == 200

    assert counts(three) == [2, 2, 2]
    for each in three:
        assert {call.target for call in each.calls} == {"/v1/x"}
        assert {call.field("host") for call in each.calls} == {f"127.0.0.1:{each.port}"}
        assert each.connections == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_retry_goes_to_another_target(
    tries: Trying, three: list[Upstream], method: str
) -> None:
    three[0].script = three[1].script = closes
    request = asking(spread(three, retries=2), method, KEY)

    assert await tries.outcome(request) == 200
    assert counts(three) == [1, 1, 1]
    assert (request.outcome.attempts, request.outcome.target) == (3, f"127.0.0.1:{three[2].port}")
    assert tries.metrics.retries == {"up": 2}


async def test_post_is_not_sent_to_another_target_once_it_was_sent(
    tries: Trying, three: list[Upstream]
) -> None:
    for each in three:
        each.script = closes

    assert await tries.outcome(asking(spread(three, retries=5), "POST")) == "upstream_unavailable"
    assert sum(counts(three)) == 1


async def test_post_is_sent_to_another_target_when_the_first_takes_no_connection(
    tries: Trying, upstream: Upstream
) -> None:
    targets = [{"url": f"http://127.0.0.1:{closed_port()}"}, {"url": upstream.url}]
    request = asking(upstream_of(upstream.url, retries=1, targets=targets), "POST", body=b"pay")

    assert await tries.outcome(request) == 200
    assert (len(upstream.calls), request.outcome.attempts) == (1, 1)


@pytest.mark.parametrize("lost", ["http://10.1.2.3", "http://no-such-name.invalid"])
async def test_target_without_an_address_is_left_for_another_alike(
    tries: Trying, upstream: Upstream, lost: str
) -> None:
    targets, hosts = [{"url": lost}, {"url": upstream.url}], ["*.invalid", "10.1.2.3", "127.0.0.1"]
    at = upstream_of(upstream.url, retries=1, targets=targets, allowed_hosts=hosts)
    assert await tries.outcome(asking(at, "POST", body=b"pay")) == 200
    assert (len(upstream.calls), len(tries.waits)) == (1, 1)

    alone = upstream_of(lost, retries=1, allowed_hosts=hosts)
    outcomes = [await tries.outcome(asking(alone)) for _ in range(30)]
    assert (outcomes[0], outcomes[-1]) == ("upstream_blocked", "circuit_open")


async def test_target_that_fails_five_times_in_a_row_is_left_out_for_a_while(
    tries: Trying, three: list[Upstream], clock: Hands
) -> None:
    three[0].script = status(500)
    at = spread(three)
    for _ in range(30):
        await tries.outcome(asking(at))
    assert counts(three) == [5, 13, 12]
    assert tries.attempts.conditions()["up"].healthy == pytest.approx(2 / 3)
    clock.forward(5)
    three[0].script = say_ok

    assert Counter([await tries.outcome(asking(at)) for _ in range(30)]) == {200: 30}
    assert counts(three)[0] == pytest.approx(15, abs=1)
    assert tries.attempts.conditions()["up"] == (State.CLOSED, 1)


async def test_next_priority_takes_over_until_the_first_is_back(
    tries: Trying, three: list[Upstream], clock: Hands
) -> None:
    first, second, _ = three
    first.script = ILL
    targets = [{"url": first.url}, {"url": second.url, "priority": 1}]
    at = upstream_of(first.url, targets=targets)
    outcomes = [await tries.outcome(asking(at)) for _ in range(30)]
    assert Counter(outcomes) == {"upstream_invalid": 20, 200: 10}
    assert tries.attempts.conditions()["up"] == (State.OPEN, 0.5)
    clock.forward(5)
    first.script = say_ok

    assert [await tries.outcome(asking(at)) for _ in range(9)] == [200] * 9
    assert counts(three) == [29, 10, 0]


async def test_with_a_retry_failover_costs_no_caller_anything(
    tries: Trying, three: list[Upstream]
) -> None:
    targets = [{"url": each.url, "priority": n} for n, each in enumerate(three)]
    three[0].script = closes
    at = upstream_of(three[0].url, retries=1, targets=targets)

    assert [await tries.outcome(asking(at)) for _ in range(50)] == [200] * 50
    assert counts(three) == [20, 50, 0]


async def test_least_request_leaves_a_slow_target_alone(
    clock: Hands, three: list[Upstream]
) -> None:
    async def never_ends(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await call.gone()

    three[0].script = never_ends
    async with trying(clock, chance=random.Random(7).random) as tries:
        at = spread(three, load_balancing="least-request")
        held = [asking(at) for _ in range(60)]
        for request in held:
            await tries.send(request)

        assert 1 <= counts(three)[0] <= 3
        for request in held:
            request.close()


@pytest.mark.parametrize(
    ("hosts", "code"), [([], "upstream_blocked"), (["127.0.0.1", "api.example.com"], 200)]
)
async def test_target_that_is_not_on_the_list_of_hosts_gets_nothing(
    tries: Trying, upstream: Upstream, hosts: list[str], code: str | int
) -> None:
    """Published before that was checked, or changed in the database: secrets stay home."""
    at = upstream_of("http://api.example.com", targets=[{"url": upstream.url}], allowed_hosts=hosts)

    assert await tries.outcome(asking(at)) == code
    assert len(upstream.calls) == (code == 200)
