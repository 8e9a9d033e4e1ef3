"""How many requests are in flight at a time: in this process, and for each team.

Answers 503 `overloaded` when no place is free and the queue is full or too slow, and 429
`too_many_concurrent` when the caller's team has all of its own. A place is held until the answer's
last byte has left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.limits.contract import Concurrency as ConcurrencyLimit
from gateway.options import number, whole
from gateway.problems import Rejected
from gateway.runtime import Runtime

_MODE: Final = "memory"
"""How the process's own places are counted."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `concurrency`."""

    most_in_flight: int = whole(1000, "How many requests of all callers one process serves at a time.", least=1)  # fmt: skip
    most_waiting: int = whole(100, "How many more may wait for a place, in the order in which they came.")  # fmt: skip
    wait_s: float = number(1.0, "How long one of them waits, in seconds.")
    per_team: int | None = whole(
        None, "How many requests of one team are served or waiting at a time; null for no bound.",
        least=1, optional=True,
    )  # fmt: skip


class Concurrency:
    """Gives places to requests."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller"})
    gives: ClassVar[frozenset[str]] = frozenset({"place"})
    precedes: ClassVar[frozenset[str]] = frozenset({"cache_status", "idempotence"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._options = options
        self._metrics = runtime.metrics
        self._places = asyncio.Semaphore(options.most_in_flight)
        self._limits = runtime.limits
        self.waiting = 0

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        if (most := self._options.per_team) is not None:
            await self._enter(exchange, exchange.caller.team, most)
        if self._places.locked():
            await self._wait()
        else:
            await self._places.acquire()  # at once
        exchange.on_exit(self._places.release)
        self._metrics.limit_decided("in_flight", _MODE, admitted=True)
        return await proceed(exchange)

    async def _wait(self) -> None:
        """Wait for a place in the queue."""
        if self.waiting >= self._options.most_waiting:
            raise self._overloaded()
        self.waiting += 1
        try:
            async with asyncio.timeout(self._options.wait_s):
                await self._places.acquire()
        except TimeoutError:
            raise self._overloaded() from None
        finally:
            self.waiting -= 1

    def _overloaded(self) -> Rejected:
        self._metrics.limit_decided("in_flight", _MODE, admitted=False)
        most = self._options.most_in_flight
        return Rejected("overloaded", f"{most} requests are being served.", retry_after_s=1)

    async def _enter(self, exchange: Exchange, team: str, most: int) -> None:
        """Hold one of the team's places until the exchange is over."""
        limits = [ConcurrencyLimit("per_team", f"team {team}", most)]
        decision = self._limits.decide_now(limits) or await self._limits.decide(limits)
        self._metrics.limits_decided(decision)
        if not decision.admitted:
            raise Rejected(
                "too_many_concurrent",
                f"A team may have {most} requests at the same time.",
                retry_after_s=decision.refusing.retry_after_s,
            )
        if decision.lease is not None:
            exchange.on_exit(decision.lease.release)
