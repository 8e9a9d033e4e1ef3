"""Where requests come from: addresses and networks as text, and the way through trusted proxies.

A listener for both protocols has IPv4 addresses in their IPv4-mapped form (RFC 4291 2.5.5.2): here
they are IPv4 addresses, and networks of them IPv4 networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MAPPED_BITS: Final = 96
"""Where the IPv4 address begins in its IPv4-mapped form."""
_SITE_BITS: Final = 64
"""How much of an IPv6 address names a network; one host can have all of it to itself."""


def parse_address(text: str) -> Address | None:
    """An address without its zone; None for what is none, such as a Unix socket's empty one."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Network:
    """A network, or an address as the network of it alone. Raises ValueError."""
    network = ip_network(text)
    inner = getattr(network.network_address, "ipv4_mapped", None)
    if inner is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((inner, network.prefixlen - _MAPPED_BITS))


def is_within(address: Address | None, networks: Iterable[Network]) -> bool:
    """True when an address is in one of the networks."""
    return address is not None and any(
        address.version == network.version and address in network for network in networks
    )


@lru_cache(maxsize=4096)
def site_of(text: str) -> str:
    """What counts as one client: an IPv4 address, all of an IPv6 /64, or the text that is neither."""
    address = parse_address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _SITE_BITS), strict=False))
    return text if address is None else str(address)


def hops(peer: Any, forwarded: Sequence[str], trusted: Sequence[Network]) -> tuple[str, ...]:
    """The way of a request: its client's address, then those of the trusted proxies up to the peer.

    The client is the peer, or the first untrusted hop of `X-Forwarded-For` counted from the right.
    `peer` is a socket's peer name; an empty address is that of a Unix socket, and whoever may open
    that is trusted.
    """
    address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    if not trusted:
        return (address,)
    way = [address]
    listed = [hop.strip() for hop in ",".join(forwarded).split(",")]
    for hop in reversed([hop for hop in listed if hop]):
        is_trusted = not way[-1] or is_within(parse_address(way[-1]), trusted)
        if not is_trusted or parse_address(hop) is None:
            break
        way.append(hop)
    return tuple(reversed(way))
