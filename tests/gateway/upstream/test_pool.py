"""Which kept connections are used again: not old ones, nor those to addresses of yesterday."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from gateway.upstream.resolver import Found, Resolver
from tests.gateway.sending import use
from tests.loopback import Upstream

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
POLICY = AddressPolicy([Allowed.parse("127.0.0.0/8")])


class Turning:
    """A name whose address changes."""

    def __init__(self) -> None:
        self.address = "127.0.0.1"

    def ask(self, _host: str) -> Sequence[Found]:
        return [(socket.AF_INET, 6, (self.address, 0))]


@pytest.fixture
async def making() -> AsyncIterator[Callable[..., Upstreams]]:
    made: list[Upstreams] = []

    def make(**options: Any) -> Upstreams:
        made.append(Upstreams(POLICY, **options))
        return made[-1]

    yield make
    for upstreams in made:
        await upstreams.close()


@pytest.mark.parametrize("options", [{"max_age_s": 0}, {"idle_s": 0}])
async def test_connection_that_is_too_old_or_unused_for_too_long_is_not_used_again(
    making: Callable[..., Upstreams], upstream: Upstream, eventually: Eventually, options: Any
) -> None:
    upstreams = making(**options)
    for _ in range(3):
        await use(upstreams, upstream.port)

    assert upstream.connections == 3
    await eventually(lambda: upstream.open == 0)


async def test_unused_connections_are_closed_in_time(
    making: Callable[..., Upstreams],
    upstream: Upstream,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.upstream.pool._SWEEP_S", 0.01)
    upstreams = making(idle_s=0.05)
    await use(upstreams, upstream.port)
    assert upstream.open == 1
    await eventually(lambda: upstream.open == 0)

    assert upstreams._pool._kept == {}  # noqa: SLF001 - what is kept is the promise


async def test_new_address_of_a_name_is_followed_though_connections_are_busy(
    making: Callable[..., Upstreams],
    upstream: Upstream,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.upstream.resolver._LEAST_AGE_S", 0)
    name = Turning()
    upstreams = making(resolver=Resolver(0.01, ask=name.ask))
    await use(upstreams, upstream.port, "turning.example")
    with socket.create_server(("127.0.0.2", upstream.port)) as listener:
        listener.setblocking(False)
        name.address = "127.0.0.2"

        async def reached() -> None:
            while True:
                await use(upstreams, upstream.port, "turning.example")

        traffic = asyncio.get_running_loop().create_task(reached())
        sock, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 5)
        traffic.cancel()
        await asyncio.gather(traffic, return_exceptions=True)
        sock.close()
    await eventually(lambda: upstream.open == 0)


async def test_connections_that_the_policy_allows_no_more_are_dropped_at_once(
    making: Callable[..., Upstreams], upstream: Upstream, eventually: Eventually
) -> None:
    upstreams = making()
    await use(upstreams, upstream.port)
    upstreams.obey(POLICY)
    await use(upstreams, upstream.port)
    assert (upstream.connections, upstream.open) == (1, 1)
    upstreams.obey(AddressPolicy())

    await eventually(lambda: upstream.open == 0)
    with pytest.raises(Exception, match="upstream_blocked"):
        await use(upstreams, upstream.port)
