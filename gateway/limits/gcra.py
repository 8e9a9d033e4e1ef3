"""What was taken of a rate, kept so that it can be read under the limit of another day.

GCRA (ATM Forum TM 4.0; also called a leaky bucket as a meter) needs one number and the moment it was
true. Kept is how many requests were still to be worked off, not until when: a limit that has changed
works them off at its own pace.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.limits.contract import Rate


class Taken(NamedTuple):
    """`requests` were still to be worked off under a rate when the last was taken, `at` a moment.

    What was used under a wider limit, and is more than the burst of this one, is in `beyond`: it keeps
    nobody waiting now, and is there when the limit is widened again. It was counted `since` a moment.
    """

    rate: Rate
    at: float
    requests: float
    beyond: float = 0.0
    since: float = 0.0

    def under(self, rate: Rate) -> Taken:
        """The same under the limit of today: nobody waits longer than that makes them wait."""
        if rate is self.rate or rate == self.rate:
            return self
        requests = self.requests
        if self.beyond:
            requests += max(self.beyond - (self.at - self.since) * rate.limit / rate.window_s, 0.0)
        if requests <= rate.burst:
            return Taken(rate, self.at, requests)
        return Taken(rate, self.at, rate.burst, requests - rate.burst, self.at)

    def ahead_s(self, now: float) -> float:
        """How long it takes to work off what is left."""
        rate = self.rate
        return max(self.requests * rate.window_s / rate.limit - (now - self.at), 0.0)

    def until(self, worked_off_s: float, now: float) -> Taken:
        """With so much more taken now that it is worked off in so many seconds."""
        rate = self.rate
        return Taken(rate, now, worked_off_s * rate.limit / rate.window_s, self.beyond, self.since)

    def further(self, amount: int, now: float) -> Taken:
        """With more taken now."""
        rate = self.rate
        return self.until(self.ahead_s(now) + amount * rate.window_s / rate.limit, now)


def never(rate: Rate, now: float) -> Taken:
    """Where nothing was taken yet."""
    return Taken(rate, now, 0.0)
