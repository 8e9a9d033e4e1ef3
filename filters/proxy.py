"""Calls the upstream and passes its answer on; innermost, so it never proceeds.

Answers 502 `upstream_blocked`, `upstream_unavailable` or `upstream_invalid`, and 504
`upstream_timeout`. When the caller goes away, the upstream request is dropped at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.runtime import Runtime
from gateway.upstream import Bounds
from gateway.wire import has_no_body


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
        self._upstreams = runtime.upstreams
        self._metrics = runtime.metrics

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        connector, endpoint, outgoing = exchange.connector, exchange.endpoint, exchange.outgoing
        caller = exchange.caller
        most = caller.plan.max_response_size
        if (own := endpoint.definition.max_response_size) is not None and own < most:
            most = own
        target = self._upstreams.target(connector)
        exchange.target = target.label
        limits = Bounds(endpoint.timeout_s, endpoint.idle_timeout_s, most, endpoint.streaming)
        begun = time.perf_counter()
        try:
            answer = await self._upstreams.send(target, outgoing, exchange.body, limits)
        finally:
            exchange.upstream_s = time.perf_counter() - begun
            exchange.attempts = outgoing.sent
            for _ in range(outgoing.sent - 1):
                self._metrics.retried(connector.slug)
        exchange.on_exit(answer.release)
        exchange.source = "upstream"
        if has_no_body(exchange.method, answer.status):
            return Response(answer.status, answer.headers, b"", answer.length)
        if answer.body is not None:
            return Response(answer.status, answer.headers, answer.body)
        return Response(answer.status, answer.headers, answer.pieces(), answer.length)
