"""How much in all: the plan's daily and monthly quotas, in calendar days and months.

Answers 429 `quota_exceeded` with the time to the next period in Retry-After. A request that never
reached its upstream gives its unit back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.options import text
from gateway.problems import Rejected
from gateway.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `quota`."""

    on_store_failure: str = text(
        "local",
        "What to do when a shared store of counters is away: open admits, closed answers 503, local "
        "counts in this process. Counters in memory have no store that could be away.",
        choices=("open", "closed", "local"),
    )


class Quota:
    """Counts requests against the plan's quotas."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller"})
    gives: ClassVar[frozenset[str]] = frozenset({"quota_decision"})
    precedes: ClassVar[frozenset[str]] = frozenset({"cache_status", "idempotence"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._limits = runtime.limits
        self._metrics = runtime.metrics

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        quotas, unlimited = exchange.caller.quotas, exchange.caller.unlimited
        decision = self._limits.decide_now(quotas) or await self._limits.decide(quotas)
        exchange.limits += decision.standings
        self._metrics.limits_decided(decision)
        if not decision.admitted:
            refusing = decision.refusing
            raise Rejected(
                "quota_exceeded",
                f"The {refusing.limit.policy} quota of {refusing.limit.limit} requests is used up.",
                retry_after_s=refusing.retry_after_s,
            )
        if unlimited:
            await self._limits.charge(unlimited, 1, decision.at)
        try:
            return await proceed(exchange)
        finally:
            if not exchange.outcome.attempts:
                await self._limits.charge((*quotas, *unlimited), -1, decision.at)
