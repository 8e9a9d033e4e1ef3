"""Calls the upstream and passes its answer on; innermost, so it never proceeds.

Answers 502 `upstream_blocked`, `upstream_unavailable` or `upstream_invalid`, 504
`upstream_timeout`, and 503 `circuit_open` or `overloaded` when nothing was sent. When the caller
goes away, the upstream request is dropped at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.http.wire import has_no_body
from gateway.runtime import Runtime
from gateway.server.tunnel import Tunnel
from gateway.upstream.answer import Bounds

_RESET: Final = 205


@dataclass(frozen=True, slots=True)
class Options:
    """`proxy` has no options: deadlines and limits are the endpoint's."""


class Proxy:
    """Sends the outgoing request."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller", "connector", "endpoint", "outgoing"})
    gives: ClassVar[frozenset[str]] = frozenset({"answer"})
    answers: ClassVar[bool] = True

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._attempts = runtime.attempts

    def foresee(self, exchange: Exchange) -> None:
        """Raises Rejected when the connector's places and its queue are full."""
        self._attempts.check(exchange.connector)

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        endpoint = exchange.endpoint
        most = endpoint.most_response_bytes(exchange.caller.plan)
        limits = Bounds(endpoint.timeout_s, endpoint.idle_timeout_s, most, endpoint.streaming)
        answer = await self._attempts.send(exchange, limits)
        exchange.outcome.source = "upstream"
        headers = endpoint.mapped.discreet(answer.headers)
        if has_no_body(exchange.method, answer.status):
            if answer.is_switched:
                tunnel = Tunnel(answer, exchange.body)
                return Response(answer.status, headers, tunnel.pieces(), tunnel=tunnel)
            return Response(answer.status, headers, b"", answer.length)
        if answer.status == _RESET:  # whatever the upstream thinks (RFC 9110 15.3.6)
            return Response(answer.status, headers)
        if answer.body is not None:
            return Response(answer.status, headers, answer.body)
        return Response(answer.status, headers, answer.pieces(), answer.length)
