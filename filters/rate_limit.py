"""How fast: the plan's rate for the caller, the endpoint's own rate, and how many at a time.

Answers 429 `rate_limited` with the exact waiting time in Retry-After, or `too_many_concurrent`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.limits.memory import MODE, Rate
from gateway.model import Caller
from gateway.options import text
from gateway.problems import Rejected
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

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._limiter = runtime.limiter
        self._metrics = runtime.metrics

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        caller, endpoint = exchange.caller, exchange.endpoint
        if caller.plan.max_concurrent is not None:
            self._enter(exchange, caller, caller.plan.max_concurrent)
        rates = [caller.rate]
        if (own := endpoint.definition.rate_limit) is not None:
            rates.append(Rate("endpoint", f"endpoint {endpoint.id} {caller.who}", own, 60, own))
        decision = await self._limiter.admit(rates)
        exchange.limits += decision.standings
        if not decision.admitted:
            refusing = decision.refusing
            self._metrics.limit_decided(refusing.limit.policy, "refused", MODE)
            raise Rejected(
                "rate_limited",
                f"The limit {refusing.limit.policy!r} allows {refusing.limit.limit} requests "
                f"in {refusing.limit.window_s:g} s.",
                retry_after_s=refusing.retry_after_s,
            )
        self._metrics.limit_decided("rate", "admitted", MODE)
        return await proceed(exchange)

    def _enter(self, exchange: Exchange, caller: Caller, most: int) -> None:
        """Hold a place until the exchange is over, its answer's last byte included."""
        who = caller.who
        if not self._limiter.enter(who, most):
            self._metrics.limit_decided("concurrent", "refused", MODE)
            raise Rejected(
                "too_many_concurrent",
                f"The plan allows {most} requests at the same time.",
                retry_after_s=1,
            )
        exchange.on_exit(partial(self._limiter.leave, who))
