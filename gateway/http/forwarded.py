"""What an upstream is told of the caller's side, where its connector asks for it.

`X-Forwarded-For`, `-Proto` and `-Host`, or `Forwarded` (RFC 7239). What a caller says of itself in
them goes no further; what trusted proxies in front of the gateway say of their callers does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from gateway.http.header_fields import is_token
from gateway.http.messages import Outgoing
from gateway.networks import parse_address

KINDS: Final = ("none", "x-forwarded", "forwarded")

_SCHEME: Final = "http"
"""The gateway's listeners know no other one; a proxy in front that does says so."""
_UNKNOWN: Final = "unknown"
_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
).fullmatch


class Origin(Protocol):
    """The request that came, as far as its upstream may be told where from."""

    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def client_address(self) -> str: ...
    @property
    def proxies(self) -> tuple[str, ...]: ...


Tell = Callable[[Origin, Outgoing], None]


def teller(kind: str, but: Collection[str] = ()) -> Tell | None:
    """What adds the fields to each request, `but` those of these lower-case names; None for nothing."""
    if kind == "none" or (kind == "forwarded" and "forwarded" in but):
        return None
    if kind == "forwarded":
        return _tell_forwarded

    def tell(exchange: Origin, outgoing: Outgoing) -> None:
        scheme, host = _asked(exchange)
        told = (
            (b"X-Forwarded-For", ", ".join(address or _UNKNOWN for address in _way(exchange))),
            (b"X-Forwarded-Proto", scheme),
            (b"X-Forwarded-Host", host),
        )
        outgoing.headers += [
            (name, value.encode("ascii")) for name, value in told if value and name not in left_out
        ]

    left_out = {
        name
        for name in (b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host")
        if name.decode("ascii").lower() in but
    }
    return tell


def _tell_forwarded(exchange: Origin, outgoing: Outgoing) -> None:
    """One element for each hop, the first one with what the client asked for (RFC 7239 4, 5)."""
    scheme, host = _asked(exchange)
    nodes = [f"for={_node(address)}" for address in _way(exchange)]
    asked = f"host={_value(host)};proto={scheme}" if host else f"proto={scheme}"
    nodes[0] = f"{nodes[0]};{asked}"
    outgoing.headers.append((b"Forwarded", ", ".join(nodes).encode("ascii")))


def _way(exchange: Origin) -> list[str]:
    """The addresses from the client to the peer; empty for one that has none, at a Unix socket."""
    addresses = map(parse_address, (exchange.client_address, *exchange.proxies))
    return ["" if address is None else str(address) for address in addresses]


def _asked(exchange: Origin) -> tuple[str, str]:
    """The scheme and host that the client used, as far as it is known and well formed."""
    headers = exchange.headers
    scheme, host = _SCHEME, headers.get("host", "")
    if exchange.proxies:
        told = headers.get("x-forwarded-proto", "").lower()
        scheme = told if told in {"http", "https"} else scheme
        told = headers.get("x-forwarded-host", "")
        host = told if _HOST(told) else host
    return scheme, host if _HOST(host) else ""


def _node(address: str) -> str:
    """The name of a hop (RFC 7239 6)."""
    if not address:
        return _UNKNOWN
    return f'"[{address}]"' if ":" in address else address


def _value(text: str) -> str:
    return text if is_token(text) else f'"{text}"'
