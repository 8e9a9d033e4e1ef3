"""What a team may have of work that is much more than its request: so often, so many at a time.

Tests of connections are among it, as nobody may scan ports with them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from admin.calls import Call
from gateway.limits.contract import Concurrency, Rate, Standing
from gateway.problems import Rejected


class Allowance(NamedTuple):
    """So many a minute, and so many at the same time. `what` names them, in the plural."""

    what: str
    a_minute: int
    at_once: int

    @asynccontextmanager
    async def take(self, call: Call) -> AsyncIterator[None]:
        """One of them for the call's team. Raises Rejected `too_many_concurrent`, `rate_limited`."""
        who = f"{self.what} {call.team}"
        rate = Rate(self.what, who, self.a_minute, 60, self.a_minute)
        at_once = Concurrency(self.what, who, self.at_once)
        decision = await call.control.limits.decide([at_once, rate])
        if not decision.admitted:
            raise self._refusal(decision.refusing)
        try:
            yield
        finally:
            if decision.lease is not None:
                decision.lease.release()

    def _refusal(self, refusing: Standing) -> Rejected:
        if isinstance(refusing.limit, Rate):
            code, detail = "rate_limited", f"A team may have {self.a_minute} {self.what} a minute."
        else:
            code = "too_many_concurrent"
            detail = f"A team may have {self.at_once} {self.what} at the same time."
        return Rejected(code, detail, retry_after_s=refusing.retry_after_s)
