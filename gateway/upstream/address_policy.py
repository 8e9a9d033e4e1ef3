"""Which addresses the gateway may connect to: an explicit table against server-side request forgery.

`ipaddress.is_global` is not asked: Python versions disagree about it, and it calls NAT64, 6to4 and
some clouds' metadata addresses global. Networks are from the IANA special-purpose registries.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any, Final

from gateway.networks import Address, Network

_REFUSED_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
_REFUSED_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "::/3", "4000::/2", "8000::/1",  # all but 2000::/3: global unicast (RFC 4291 2.4)
        "2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20",
    )
)  # fmt: skip
_METADATA: Final = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, Google, Oracle, DigitalOcean …
        "169.254.170.2",  # AWS ECS credentials
        "169.254.170.23",  # AWS EKS pod identity
        "169.254.0.23",  # Tencent
        "169.254.42.42",  # Scaleway
        "fd00:42::42",  # Scaleway over IPv6
        "168.63.129.16",  # Azure's host
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "fd00:ec2::254",  # AWS over IPv6
        "fd00:ec2::23",
        "fd20:ce::254",  # Google over IPv6
    )
)
_EMBEDDING: Final = (
    # An IPv4 address inside an IPv6 one: the network, and where its 32 bits begin.
    (IPv6Network("::ffff:0:0/96"), 96),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 96),  # IPv4-translated (SIIT)
    (IPv6Network("::/96"), 96),  # IPv4-compatible
    (IPv6Network("64:ff9b::/96"), 96),  # NAT64
    (IPv6Network("64:ff9b:1::/48"), 96),  # NAT64, local use
    (IPv6Network("2002::/16"), 16),  # 6to4
)

_WITH_PORT: Final = re.compile(
    r"(?:\[(?P<v6>[^][]+)\]|(?P<v4>[^][:]+)):(?P<port>[0-9]{1,5})"
).fullmatch


class AddressRefused(PermissionError):
    """The address is outside the policy. The text names none: callers are no port scanners."""

    def __init__(self) -> None:
        super().__init__("the upstream's address is not allowed")


@dataclass(frozen=True, slots=True)
class Allowed:
    """A network that is allowed although the table refuses it, perhaps on one port only."""

    network: Network
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """`10.0.0.0/8`, `127.0.0.1:9000`, `fd00::/8`, `[::1]:9000`. Raises ValueError."""
        if (match := _WITH_PORT(text)) is None:
            bracketed = text.startswith("[") and text.endswith("]")
            return cls(ip_network(text[1:-1] if bracketed else text))
        port = int(match["port"])
        if not 0 < port < 65536:
            raise ValueError("a port is between 1 and 65535")
        return cls(ip_network(match["v6"] or match["v4"]), port)


class AddressPolicy:
    """The table plus what the operator allows. Immutable."""

    def __init__(self, allowed: Iterable[Allowed] = ()) -> None:
        self._allowed = tuple(allowed)

    def permits(self, address: Address, port: int) -> bool:
        """True when a connection to this very address may be made.

        A metadata address is permitted only when it is named by itself, on every form that
        carries it.
        """
        if isinstance(address, IPv6Address):
            inner = _embedded(address)
            if address.scope_id is not None:
                address = IPv6Address(int(address))
            if inner is not None:
                return self.permits(inner, port) and self._named(address, inner, port)
        if address in _METADATA:
            return any(
                entry.network.num_addresses == 1
                and address in entry.network
                and entry.port in {None, port}
                for entry in self._allowed
            )
        table = _REFUSED_4 if isinstance(address, IPv4Address) else _REFUSED_6
        if not any(address in network for network in table):
            return True
        return self._listed(address, port)

    def _named(self, address: IPv6Address, inner: IPv4Address, port: int) -> bool:
        """A transition form is permitted when its IPv4 address or itself is listed."""
        return self._listed(inner, port) or self._listed(address, port)

    def _listed(self, address: Address, port: int) -> bool:
        return any(
            entry.network.version == address.version
            and address in entry.network
            and entry.port in {None, port}
            for entry in self._allowed
        )

    def permits_host(self, host: str, port: int) -> bool:
        """For a host in a URL: False for an address literal outside the policy; names pass.

        Names are judged when they are resolved, each time. Every spelling of an IPv4 address that
        a resolver takes (`127.1`, `0x7f000001`, `2130706433`) counts as a literal.
        """
        literal = host.strip("[]").rstrip(".").lower()
        try:
            return self.permits(ip_address(literal.partition("%")[0]), port)
        except ValueError:
            pass
        try:
            return self.permits(IPv4Address(socket.inet_aton(literal)), port)
        except (OSError, ValueError):
            return not (literal == "localhost" or literal.endswith(".localhost")) or self.permits(
                IPv4Address("127.0.0.1"), port
            )

    def socket_for(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for the very address that is about to be connected; raises AddressRefused.

        This is aiohttp's `socket_factory`: it is called for address literals and for every answer
        of the resolver, so what is checked is what is connected.
        """
        family, kind, protocol, _name, address = info
        if family not in {socket.AF_INET, socket.AF_INET6}:
            raise AddressRefused
        if not self.permits(ip_address(str(address[0])), int(address[1])):
            raise AddressRefused
        return socket.socket(family=family, type=kind, proto=protocol)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address carries, if it has such a form."""
    bits = int(address)
    if bits in {0, 1}:
        return None
    if address in IPv6Network("2001::/32"):  # Teredo: the client's address, inverted
        return IPv4Address((bits & 0xFFFFFFFF) ^ 0xFFFFFFFF)
    for network, start in _EMBEDDING:
        if address in network:
            return IPv4Address((bits >> (128 - start - 32)) & 0xFFFFFFFF)
    return None
