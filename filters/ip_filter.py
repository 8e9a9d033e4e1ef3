"""Whether anything may come from this address at all: networks that are allowed or denied.

Answers 403 `forbidden`. May stand before `authenticate`; what a key allows is `authorize`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.networks import is_within, parse_address, parse_network
from gateway.options import texts
from gateway.problems import Rejected
from gateway.runtime import Runtime

_networks = partial(texts, check=parse_network)


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
    precedes: ClassVar[frozenset[str]] = frozenset({"cache_status", "idempotence"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._allowed = tuple(parse_network(text) for text in options.allow)
        self._denied = tuple(parse_network(text) for text in options.deny)

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        address = parse_address(exchange.client_address)
        if is_within(address, self._denied) or (
            self._allowed and not is_within(address, self._allowed)
        ):
            raise Rejected("forbidden", "Requests from this address are not taken.")
        return await proceed(exchange)
