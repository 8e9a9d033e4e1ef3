"""Builds the upstream request from the caller's and puts the connector's secret in.

Nothing is sent, and it answers 503 `secret_missing`, when a secret that the connector uses is not
set; 400 `bad_request` or 422 `validation_failed` when the body that the endpoint makes can't be made
of the caller's, or a field that is to be passed through isn't there; 413 `payload_too_large`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.http import websocket
from gateway.runtime import Runtime

_MOST_BYTES: Final = 1 << 20
"""How much is read of a body for which no filter before has set a limit."""


@dataclass(frozen=True, slots=True)
class Options:
    """`transform` has no options: the mapping is the endpoint's."""


class Transform:
    """Makes the outgoing request."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"endpoint"})
    gives: ClassVar[frozenset[str]] = frozenset({"outgoing"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        pass

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        mapped = exchange.endpoint.mapped
        if mapped.needs_body:
            if exchange.body.limit_bytes is None:
                exchange.body.limit(_MOST_BYTES)
            await exchange.body.read()
        outgoing = exchange.outgoing = mapped.outgoing(exchange)
        if exchange.may_switch and exchange.endpoint.streaming:
            websocket.ask(exchange.method, outgoing)
        return await proceed(exchange)
