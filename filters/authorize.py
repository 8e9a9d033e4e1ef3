"""May this caller use this endpoint: what the key is bound to, from where, and what its plan allows.

Answers 403 `forbidden`. Another team's connector was not even found.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.networks import is_within, parse_address
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
    precedes: ClassVar[frozenset[str]] = frozenset({"idempotence"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        pass

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        _check(exchange)
        response = await proceed(exchange)
        if not isinstance(response.body, bytes):
            exchange.rests_on(partial(_check_again, exchange))
        return response


def _check(exchange: Exchange) -> None:
    caller, connector, endpoint = exchange.caller, exchange.connector, exchange.endpoint
    if caller.connector_ids and connector.id not in caller.connector_ids:
        raise Rejected("forbidden", "This key is not for this connector.")
    allowed = caller.allowed_endpoints
    if allowed and endpoint.name not in allowed and endpoint.id not in allowed:
        raise Rejected("forbidden", "This key is not for this endpoint.")
    planned = caller.plan.allowed_connectors
    if planned and connector.id not in planned:
        raise Rejected("forbidden", "The key's plan does not allow this connector.")
    networks = caller.allowed_networks
    if networks and not is_within(parse_address(exchange.client_address), networks):
        raise Rejected("forbidden", "This key may not be used from this address.")


async def _check_again(exchange: Exchange) -> None:
    """The same for the caller as it is by now."""
    _check(exchange)
