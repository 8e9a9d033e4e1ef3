"""Whether anything may come from this address at all: networks that are allowed or denied.

Answers 403 `forbidden`. May stand before `authenticate`; what a key allows is `authorize`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.options import texts
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.upstream.addresses import Address, Network

_MAPPED_BITS: Final = 96
"""Where an IPv4 address begins in its IPv4-mapped form."""

_networks = partial(texts, check=ip_network)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `ip_filter`."""

    allow: tuple[str, ...] = _networks(
        (),
        "Networks (IPv4 or IPv6) that requests may come from; empty for all that are not denied.",
    )
    deny: tuple[str, ...] = _networks((), "Networks that no request may come from, whatever is allowed.")  # fmt: skip

    def __post_init__(self) -> None:
        """A filter that filters nothing is a mistake."""
        if not self.allow and not self.deny:
            raise ValueError("name networks in allow or deny")


class IpFilter:
    """Lets requests from some addresses through."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"admission"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._allowed = tuple(_network(text) for text in options.allow)
        self._denied = tuple(_network(text) for text in options.deny)

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        address = _address(exchange.client_address)
        if _is_in(address, self._denied) or (self._allowed and not _is_in(address, self._allowed)):
            raise Rejected("forbidden", "Requests from this address are not taken.")
        return await proceed(exchange)


def _network(text: str) -> Network:
    """A network; that of IPv4-mapped addresses is the IPv4 network."""
    network = ip_network(text)
    inner = getattr(network.network_address, "ipv4_mapped", None)
    if inner is None or network.prefixlen < _MAPPED_BITS:
        return network
    return IPv4Network((inner, network.prefixlen - _MAPPED_BITS))


def _address(text: str) -> Address | None:
    """The client's address, an IPv4-mapped one as IPv4; None for a Unix socket's."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address | None, within: tuple[Network, ...]) -> bool:
    return any(
        address is not None and address.version == network.version and address in network
        for network in within
    )
