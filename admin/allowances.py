"""What a team may make the gateway send to upstreams by itself, so that nobody scans ports with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from admin.calls import Call
from gateway.limits.memory import Rate
from gateway.problems import Rejected


class Allowance(NamedTuple):
    """So many a minute, and so many at the same time. `what` names them, in the plural."""

    what: str
    a_minute: int
    at_once: int

    @asynccontextmanager
    async def take(self, call: Call) -> AsyncIterator[None]:
        """One of them for the call's team. Raises Rejected `too_many_concurrent`, `rate_limited`."""
        limiter, who = call.control.limiter, f"{self.what} {call.team}"
        if not limiter.enter(who, self.at_once):
            detail = f"A team may have {self.at_once} {self.what} at the same time."
            raise Rejected("too_many_concurrent", detail, retry_after_s=1)
        try:
            rate = Rate(self.what, who, self.a_minute, 60, self.a_minute)
            decision = await limiter.admit([rate])
            if not decision.admitted:
                raise Rejected(
                    "rate_limited",
                    f"A team may have {self.a_minute} {self.what} a minute.",
                    retry_after_s=decision.refusing.retry_after_s,
                )
            yield
        finally:
            limiter.leave(who)
