"""May this caller use this endpoint: what the key is bound to, from where, and what its plan allows.

Answers 403 `forbidden`. Another team's connector was not even found.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.model import Caller
from gateway.problems import Rejected
from gateway.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """`authorize` has no options."""


class Authorize:
    """Checks the caller's bindings."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller", "connector", "endpoint"})
    gives: ClassVar[frozenset[str]] = frozenset({"permission"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        pass

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        caller, connector, endpoint = exchange.caller, exchange.connector, exchange.endpoint
        if caller.connector_ids and connector.id not in caller.connector_ids:
            raise Rejected("forbidden", "This key is not for this connector.")
        allowed = caller.allowed_endpoints
        if allowed and endpoint.name not in allowed and endpoint.id not in allowed:
            raise Rejected("forbidden", "This key is not for this endpoint.")
        planned = caller.plan.allowed_connectors
        if planned and connector.id not in planned:
            raise Rejected("forbidden", "The key's plan does not allow this connector.")
        if caller.allowed_networks and not _comes_from(caller, exchange.client_address):
            raise Rejected("forbidden", "This key may not be used from this address.")
        return await proceed(exchange)


def _comes_from(caller: Caller, client_address: str) -> bool:
    """True when the client's address is in one of the key's networks, mapped forms included."""
    try:
        address = ip_address(client_address.partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return any(
        address.version == network.version and address in network
        for network in caller.allowed_networks
    )
