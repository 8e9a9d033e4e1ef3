"""Nothing private is reached, however it is spelled, and the caller learns nothing of the network."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest

from gateway.problems import Rejected
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from gateway.upstream.resolver import Found, look_up
from tests.attacks.private import HOSTS, NAMES, PUBLIC, PUBLIC_6
from tests.dataplane import LOOPBACK, Gateway
from tests.loopback import Upstream, message, saying

Start = Callable[..., Awaitable[Gateway]]
REFUSED = {"upstream_blocked", "upstream_unavailable"}
DETAILS = {
    "The host has no address that may be connected to.",
    "The upstream could not be reached.",
}
STRICT = {"upstream": {"allow_networks": [], "dns_ttl_s": 0}}


class Network:
    """What sockets were made for, and a listener on all of loopback that must see nothing."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.looked_up: dict[str, int] = {}
        self.listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self.silent_port: int = taken.getsockname()[1]

    def assert_nothing_came(self) -> None:
        with pytest.raises(BlockingIOError):
            self.listener.accept()
        assert set(self.reached) <= {PUBLIC, PUBLIC_6}


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """Names are those of the table, numbers are libc's; sockets are noted, and public ones fail."""
    made = Network()
    permitted = AddressPolicy.socket_for

    def ask(host: str) -> Sequence[Found]:
        if (answers := NAMES.get(host.lower())) is None:
            return look_up(host)
        turn = made.looked_up.setdefault(host, 0)
        made.looked_up[host] += 1
        return [told(text) for text in answers[min(turn, len(answers) - 1)]]

    def socket_for(self: AddressPolicy, info: tuple[Any, ...]) -> socket.socket:
        permitted(self, info).close()
        made.reached.append(info[4][0])
        raise ConnectionRefusedError("nobody leaves this machine")

    monkeypatch.setattr("gateway.upstream.resolver.look_up", ask)
    monkeypatch.setattr(AddressPolicy, "socket_for", socket_for)
    with closing(made.listener):
        yield made


def told(address: str) -> Found:
    if ":" in address:
        return socket.AF_INET6, socket.IPPROTO_TCP, (address, 0, 0, 0)
    return socket.AF_INET, socket.IPPROTO_TCP, (address, 0)


def test_there_are_enough_of_them() -> None:
    assert len(HOSTS) >= 150


async def test_no_spelling_of_a_private_host_is_reached_or_told_apart(
    gateway: Start, network: Network
) -> None:
    """A port that listens and one that does not get the same text: callers are no port scanners."""
    running = await gateway(**STRICT)
    await running.rows.plan()
    key = await running.rows.key()
    for number, host in enumerate(HOSTS):
        said = set()
        for port in (network.port, network.silent_port):
            slug = f"to-{number}-{port}"
            await running.rows.connector(f"http://{host}:{port}", slug=slug)
            got = await running.call(path=f"/{slug}/x", key=key)
            said.add((got.status, got.code, got.json()["title"], got.json()["detail"]))

        assert {(status, code in REFUSED) for status, code, *_ in said} == {(502, True)}, host
        assert {detail for *_, detail in said} <= DETAILS, host
        assert len(said) == 1 or host.startswith("rebinding"), (host, said)
    network.assert_nothing_came()


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("rebinding")])
async def test_name_that_turns_private_is_judged_anew(
    gateway: Start, network: Network, name: str
) -> None:
    running = await gateway(**STRICT)
    await running.rows.connector(f"http://{name}:{network.port}")
    key = await running.rows.key()
    codes = [(await running.call(key=key)).code for _ in range(3)]

    assert codes == ["upstream_unavailable", "upstream_blocked", "upstream_blocked"]
    assert (len(network.reached), network.looked_up) == (1, {name: 3})
    network.assert_nothing_came()


async def test_keys_of_an_issuer_are_fetched_under_the_same_policy(network: Network) -> None:
    upstreams = Upstreams(AddressPolicy(), dns_ttl_s=0)
    for host in HOSTS:
        with pytest.raises(Rejected) as caught:
            await upstreams.fetch(f"http://{host}:{network.port}/jwks")
        assert caught.value.code in REFUSED, host
        assert caught.value.detail in DETAILS, host
    await upstreams.close()
    assert set(NAMES) - set(network.looked_up) == {"caf\u00e9.example"}  # looked up as xn--caf-dma
    network.assert_nothing_came()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_a_private_place_is_passed_on_and_not_followed(
    gateway: Start, upstream: Upstream, status: int
) -> None:
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with closing(listener):
        listener.setblocking(False)
        running = await gateway(upstream={"allow_networks": [f"127.0.0.1:{upstream.port}"]})
        await running.rows.connector(upstream.url)
        key = await running.rows.key()
        for host in ("127.0.0.1", "[::1]", "localhost", "169.254.169.254", "[::ffff:127.0.0.1]"):
            location = f"http://{host}:{listener.getsockname()[1]}/latest/meta-data"
            upstream.script = saying(message(status, b"there", [("Location", location)]))
            got = await running.call(key=key)

            assert (got.status, got.field("location"), got.body) == (status, location, b"there")
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert len(upstream.calls) == 5


async def test_redirect_of_an_issuer_is_not_followed(upstream: Upstream) -> None:
    async with Upstream() as elsewhere:
        place = [("Location", f"{elsewhere.url}/jwks")]
        upstream.script = saying(message(302, b"", place))
        upstreams = Upstreams(AddressPolicy(map(Allowed.parse, LOOPBACK)))
        with pytest.raises(Rejected, match="upstream_invalid"):
            await upstreams.fetch(f"{upstream.url}/jwks")
        await upstreams.close()

        assert (upstream.connections, elsewhere.connections) == (1, 0)
