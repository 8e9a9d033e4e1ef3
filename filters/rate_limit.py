"""How fast: the plan's rate for the caller, the endpoint's own rate, and how many at a time.

Answers 429 `rate_limited` with the exact waiting time in Retry-After, or `too_many_concurrent`. What
one of these limits refuses is taken from none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.limits.contract import Concurrency, Limit, Rate, Standing
from gateway.options import text
from gateway.problems import Rejected, quoted
from gateway.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `rate_limit`."""

    on_store_failure: str = text(
        "local",
        "What to do when a shared store of counters is away: open admits, closed answers 503, local "
        "counts in this process. Counters in memory have no store that could be away.",
        choices=("open", "closed", "local"),
    )


class RateLimit:
    """Admits requests at the caller's rate."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller", "endpoint"})
    gives: ClassVar[frozenset[str]] = frozenset({"rate_decision"})
    precedes: ClassVar[frozenset[str]] = frozenset({"cache_status", "idempotence"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._limits = runtime.limits
        self._metrics = runtime.metrics

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        caller, endpoint = exchange.caller, exchange.endpoint
        limits: list[Limit] = [caller.rate]
        if (own := endpoint.definition.rate_limit) is not None:
            limits.append(Rate("endpoint", f"endpoint {endpoint.id} {caller.who}", own, 60, own))
        if caller.concurrency is not None:
            limits.append(caller.concurrency)
        decision = self._limits.decide_now(limits) or await self._limits.decide(limits)
        exchange.limits += decision.standings
        self._metrics.limits_decided(decision)
        if not decision.admitted:
            raise _refusal(decision.refusing)
        if decision.lease is not None:  # held until the answer's last byte has left
            exchange.on_exit(decision.lease.release)
        return await proceed(exchange)


def _refusal(refusing: Standing) -> Rejected:
    limit = refusing.limit
    code = "too_many_concurrent" if isinstance(limit, Concurrency) else "rate_limited"
    return Rejected(code, _detail(limit), retry_after_s=refusing.retry_after_s)


@lru_cache(maxsize=1024)
def _detail(limit: Limit) -> str:
    """What the limit allows: who is over it is told so again and again."""
    if isinstance(limit, Concurrency):
        return f"The plan allows {limit.limit} requests at the same time."
    policy = quoted(limit.policy)
    return f"The limit {policy} allows {limit.limit} requests in {limit.window_s:g} s."
