"""Times the exchange and records it, whatever happens inside. Refuses nothing.

Goes outermost: it wraps the answer's body, counts what leaves, and keeps the record before the
answer is complete.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Outcome, Proceed, Response
from gateway.http.pieces import End, Watched
from gateway.http.wire import has_no_body
from gateway.logs import access_fields
from gateway.options import whole
from gateway.problems import KINDS, answer_to
from gateway.runtime import Runtime
from gateway.usage.record import UsageRecord

log = logging.getLogger("gateway.access")

_CLIENT_GONE: Final = 499
"""What is recorded when the client left before there was an answer (nginx's convention)."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `usage`."""

    unknown_callers_per_s: int = whole(
        10, "How many requests without a known caller are recorded each second; all are counted."
    )


class Usage:
    """Keeps one record for every exchange."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"record"})
    explained: ClassVar[bool] = False  # what is only explained did not happen

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._options = options
        self._writer = runtime.usage
        self._metrics = runtime.metrics
        self._second = 0
        self._sampled = 0

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        outcome = exchange.outcome
        try:
            response = await proceed(exchange)
        except asyncio.CancelledError:
            outcome.source = "gateway"  # whatever the upstream answered, nobody got it
            if outcome.error_code:  # it was given up here
                outcome.status = KINDS[outcome.error_code].status
            else:
                outcome.status, outcome.client_gone = _CLIENT_GONE, True
            self.record(exchange)
            raise
        except Exception as error:
            rejected = answer_to(error)
            outcome.source = "gateway"
            outcome.status, outcome.error_code = rejected.status, rejected.code
            self.record(exchange)
            raise
        outcome.status = response.status
        outcome.first_byte_s = time.perf_counter() - exchange.started_s
        if response.tunnel is None and has_no_body(exchange.method, response.status):
            self.record(exchange)
        elif isinstance(response.body, bytes):
            outcome.bytes_out = len(response.body)
            self.record(exchange)
        else:
            ended = partial(self._ended, exchange)
            response.body = Watched(response.body, partial(_count, outcome), ended)
        return response

    def _ended(self, exchange: Exchange, end: End, error: Exception | None) -> None:
        """An answer in pieces has come to its end: if it was given up, the client is gone."""
        if error is not None:
            exchange.outcome.error_code = answer_to(error).code
        outcome = exchange.outcome  # with an error code it was given up here
        outcome.client_gone = end is End.GIVEN_UP and not outcome.error_code
        self.record(exchange)

    def record(self, exchange: Exchange) -> None:
        """Count the exchange and keep its record, if it has one: it is made after that is known."""
        outcome, total_s = exchange.outcome, exchange.elapsed_s()
        connector, endpoint = exchange.known_connector, exchange.known_endpoint
        first_byte_s = outcome.first_byte_s = outcome.first_byte_s or total_s
        self._metrics.finished(
            connector.slug if connector is not None else "",
            endpoint.name if endpoint is not None else "",
            exchange.method,
            outcome.status,
            outcome.source,
            total_s=total_s,
            first_byte_s=first_byte_s,
            own_s=outcome.own_s,
            upstream_s=outcome.upstream_s,
        )
        if exchange.known_caller is None and not self._sample(exchange.at):
            return
        self._writer.put(UsageRecord.of(exchange, total_s))
        if log.isEnabledFor(logging.INFO):
            log.info("request", extra=access_fields(exchange, total_s))

    def _sample(self, at: float) -> bool:
        """True for the first few of each second."""
        if int(at) != self._second:
            self._second, self._sampled = int(at), 0
        self._sampled += 1
        return self._sampled <= self._options.unknown_callers_per_s


def _count(outcome: Outcome, piece: bytes) -> None:
    outcome.bytes_out += len(piece)
