"""What a limit is, and what those who keep the counters promise, wherever they keep them.

A limit is named twice: by its policy, which callers and metrics see, and by the key of its counter,
which no two limits share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

PLACE_WAIT_S: Final = 1.0
"""How long to wait for a place at a time: nobody knows when one becomes free."""


class Rate(NamedTuple):
    """At most `limit` requests per `window_s`, of which `burst` may come at once."""

    policy: str
    key: str
    limit: int
    window_s: float
    burst: int


class Quota(NamedTuple):
    """At most `limit` requests in each calendar period of a time zone."""

    policy: str
    key: str
    limit: int
    period: Literal["day", "month"]
    time_zone: str

    @property
    def window_s(self) -> float:
        """The length of the period, nearly: months differ."""
        return 86_400 if self.period == "day" else 2_592_000


class Concurrency(NamedTuple):
    """At most `limit` requests at the same time."""

    policy: str
    key: str
    limit: int


Limit = Rate | Quota | Concurrency


class Standing(NamedTuple):
    """Where a caller stands with one limit when a request was decided.

    `remaining` counts this request as taken when `admitted`, which says whether this limit has room.
    Times in seconds from now; a limit of concurrency is never reset.
    """

    limit: Limit
    remaining: int
    reset_s: float
    admitted: bool
    retry_after_s: float


class Lease(Protocol):
    """Places of limits of concurrency that are held."""

    def release(self) -> None:
        """Give the places back. It waits for nothing, and is called once."""


class Decision(NamedTuple):
    """What becomes of a request: admitted when every limit has room.

    `mode` says who decided: `memory` is this process. `at` is when, in Unix seconds, by the clock that
    decided. `lease` holds the places that an admitted request has taken, None where it took none.
    """

    admitted: bool
    standings: tuple[Standing, ...]
    mode: str
    at: float
    lease: Lease | None = None

    @property
    def refusing(self) -> Standing:
        """The limit with the longest wait, when not admitted."""
        return max(
            (standing for standing in self.standings if not standing.admitted),
            key=lambda standing: standing.retry_after_s,
        )


class Limits(Protocol):
    """Decides and remembers what was used, which is read under the limits of today.

    A decision is one for all limits of a request: `amount` (1 or more) of each rate and quota and one
    place of each limit of concurrency, or nothing at all.
    """

    async def decide(self, limits: Sequence[Limit], amount: int = 1) -> Decision:
        """Take of every limit, or of none when one of them has no room."""

    def decide_now(self, limits: Sequence[Limit], amount: int = 1) -> Decision | None:
        """What `decide` does, where that needs no waiting; None, with nothing taken, where it does."""

    async def charge(self, limits: Sequence[Limit], amount: int, at: float) -> None:
        """Correct what a decision took, `at` being its own: more, or less with a negative amount.

        It counts in the period of that moment. A rate can be charged more, but gives nothing back, as
        GCRA can't do that exactly; places come back with their lease alone.
        """

    async def peek(self, limits: Sequence[Limit], amount: int = 1) -> Decision:
        """What `decide` would decide now; nothing is taken."""
