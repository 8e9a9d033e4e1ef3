"""Builds the upstream request from the caller's and puts the connector's secret in.

Answers 503 `secret_missing` when a secret that the connector uses is not set: nothing is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.runtime import Runtime


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
        endpoint = exchange.endpoint
        exchange.outgoing = endpoint.mapped.outgoing(exchange)
        return await proceed(exchange)
