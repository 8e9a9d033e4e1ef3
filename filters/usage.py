"""Times the exchange and records it, whatever happens inside. Refuses nothing.

Goes outermost: it wraps the answer's body, counts what leaves, and keeps the record before the
answer is complete.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.http.wire import has_no_body
from gateway.logs import access_fields
from gateway.options import whole
from gateway.problems import answer_to
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
            outcome.status, outcome.client_gone = _CLIENT_GONE, True
            self.record(exchange)
            raise
        except Exception as error:
            rejected = answer_to(error)
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
            response.body = _Counted(response.body, exchange, self)
        return response

    def record(self, exchange: Exchange) -> None:
        """Count the exchange and keep its record."""
        record = UsageRecord.of(exchange)
        self._metrics.finished(
            record.connector if record.connector_id is not None else "",
            record.endpoint,
            record.method,
            record.status,
            record.source,
            total_s=record.total_ms / 1000,
            first_byte_s=record.first_byte_ms / 1000,
            own_s=record.own_ms / 1000,
            upstream_s=record.upstream_ms / 1000,
        )
        if exchange.known_caller is None and not self._sample(exchange.at):
            return
        self._writer.put(record)
        if log.isEnabledFor(logging.INFO):
            log.info("request", extra=access_fields(exchange, record.total_ms / 1000))

    def _sample(self, at: float) -> bool:
        """True for the first few of each second."""
        if int(at) != self._second:
            self._second, self._sampled = int(at), 0
        self._sampled += 1
        return self._sampled <= self._options.unknown_callers_per_s


class _Counted:
    """An answer's pieces, counted; the record is kept when they end or are given up."""

    def __init__(self, pieces: AsyncIterator[bytes], exchange: Exchange, usage: Usage) -> None:
        self._pieces = pieces
        self._exchange = exchange
        self._usage = usage
        self._recorded = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        exchange = self._exchange
        try:
            piece = await self._pieces.__anext__()
        except StopAsyncIteration:
            self._record()
            raise
        except Exception as error:
            exchange.outcome.error_code = answer_to(error).code
            self._record()
            raise
        exchange.outcome.bytes_out += len(piece)
        return piece

    async def aclose(self) -> None:
        """The server is done with the answer; if it hasn't ended, the client is gone."""
        if not self._recorded:
            self._exchange.outcome.client_gone = True
            self._record()
        if (end := getattr(self._pieces, "aclose", None)) is not None:
            await end()

    def _record(self) -> None:
        if not self._recorded:
            self._recorded = True
            self._usage.record(self._exchange)
