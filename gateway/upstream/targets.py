"""The targets of one connector: which one is tried next, and which are left out for a while.

Targets with the lowest priority number are used as long as one of them is healthy. A target is not
while its breaker is open, or after it has failed several times in a row: then it is ejected for a
time that doubles, but never more than half of the targets of one priority. Nor is it while health
checks find it unhealthy. When no target is left, those that checks speak against are used all the
same: a check may be wrong, and an answer that fails is no worse than none.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.problems import Rejected
from gateway.upstream.breaker import Breaker, BreakerSettings, State
from gateway.upstream.dialling import Target

if TYPE_CHECKING:
    from gateway.model import Connector, Destination

_FAILURES_IN_A_ROW: Final = 5
_MOST_ENDPOINTS: Final = 256
"""So many endpoints of one target have a breaker at most."""
_REMEMBERED_S: Final = 60.0
_EJECTED_S: Final = 5.0
_LONGEST_EJECTED_S: Final = 60.0


class Era(NamedTuple):
    """The breakers that an attempt began under, and their eras."""

    target: int
    own: Breaker | None
    endpoint: int


class Member:
    """One target, and how it has behaved towards this process.

    Its breaker counts what says that the target is ill. Answers that say so of what was asked (5xx)
    count for their endpoint alone: those breakers are made at the first such answer. Each choice
    is followed by one of `succeeded`, `failed`, `refused` and `abandoned`, and by one `leave`.
    """

    __slots__ = ("_ejected_for_s", "_ejected_until", "_failed_in_row", "breaker", "credit",
                 "endpoints", "in_flight", "level", "settings", "target", "weight")  # fmt: skip

    def __init__(self, settings: BreakerSettings) -> None:
        self.settings = settings
        self.endpoints: OrderedDict[str, Breaker] = OrderedDict()
        self._failed_in_row = 0
        self._ejected_until = 0.0
        self._ejected_for_s = 0.0
        self.level: Sequence[Member] = ()
        """All of one priority, where there are several."""
        self.breaker = Breaker(settings)
        self.credit = 0
        self.in_flight = 0
        self.target: Target
        self.weight = 1

    def settle(self, target: Target, weight: int) -> None:
        """Take over what a new version of the connector says."""
        self.target = target
        self.weight = weight
        self.credit = 0

    def leave(self) -> None:
        """A request is over, the last byte of its answer included."""
        self.in_flight -= 1

    def admits(self, now: float, endpoint: str) -> bool:
        """True when the target may be tried for this endpoint."""
        own = self.endpoints.get(endpoint)
        return self.breaker.admits(now) and (own is None or own.admits(now))

    def begin(self, endpoint: str) -> None:
        """An attempt that was admitted begins."""
        self.breaker.begin()
        if (own := self.endpoints.get(endpoint)) is not None:
            own.begin()

    def era(self, endpoint: str) -> Era:
        """What the outcome of an attempt that begins now is told with."""
        own = self.endpoints.get(endpoint) if self.endpoints else None
        return Era(self.breaker.era, own, 0 if own is None else own.era)

    def succeeded(self, now: float, era: Era) -> None:
        """An attempt ended well."""
        self.breaker.succeeded(now, era.target)
        if era.own is not None:
            era.own.succeeded(now, era.endpoint)
        if self._failed_in_row:
            self._failed_in_row = 0
            self._ejected_for_s = 0.0

    def failed(self, now: float, era: Era) -> None:
        """An attempt failed by the target. The first failure after an ejection ejects again."""
        self.breaker.failed(now, era.target)
        if era.own is not None:
            era.own.abandoned(era.endpoint)
        self._fault(now)

    def refused(self, now: float, era: Era, endpoint: str) -> None:
        """The target answered, and the answer is a failure."""
        self.breaker.succeeded(now, era.target)
        own = era.own
        if own is None:
            own = self.endpoints.get(endpoint) or self._made(endpoint, now)
        own.failed(now, era.endpoint)
        self._fault(now)

    def failed_late(self, now: float, era: Era) -> None:
        """An attempt that ended well for all that one could see broke off in its answer's body."""
        self.breaker.failed_late(now, era.target)
        self._fault(now)

    def abandoned(self, era: Era) -> None:
        """An attempt ended by no fault or merit of the target."""
        self.breaker.abandoned(era.target)
        if era.own is not None:
            era.own.abandoned(era.endpoint)

    def wait_s(self, now: float, endpoint: str) -> float:
        """When to come back, in seconds, while it does not admit."""
        own = self.endpoints.get(endpoint)
        both = (self.breaker, own) if own is not None else (self.breaker,)
        waits = [breaker.wait_s(now) for breaker in both if not breaker.admits(now)]
        return max(waits, default=0.0)

    def is_ejected(self, now: float) -> bool:
        """True while it is left out."""
        return now < self._ejected_until

    def is_healthy(self, now: float) -> bool:
        """True when nothing speaks against it."""
        return not self.is_ejected(now) and self.breaker.condition(now) is not State.OPEN

    def is_idle(self, now: float, for_s: float) -> bool:
        """True when forgetting it would change nothing."""
        is_free = not self.in_flight and not self.is_ejected(now)
        breakers = (self.breaker, *self.endpoints.values())
        return is_free and all(breaker.is_idle(now, for_s) for breaker in breakers)

    def _made(self, endpoint: str, now: float) -> Breaker:
        """A breaker for an endpoint; of many, those make room that say the least."""
        own = self.endpoints
        while own and (
            len(own) >= _MOST_ENDPOINTS or next(iter(own.values())).is_idle(now, _REMEMBERED_S)
        ):
            own.popitem(last=False)
        return own.setdefault(endpoint, Breaker(self.settings))

    def _fault(self, now: float) -> None:
        if self.is_ejected(now):
            return
        self._failed_in_row += 1
        ejected = sum(other.is_ejected(now) for other in self.level)
        if self._failed_in_row >= _FAILURES_IN_A_ROW and 2 * (ejected + 1) <= len(self.level):
            self._ejected_for_s = min(max(2 * self._ejected_for_s, _EJECTED_S), _LONGEST_EJECTED_S)
            self._ejected_until = now + self._ejected_for_s


class Condition(NamedTuple):
    """What metrics tell of a connector: its worst breaker, and the share of healthy targets."""

    state: State
    healthy: float


def all_are_well(_connector: str) -> Collection[str]:
    """Which targets health checks have found unhealthy where there are no such checks."""
    return ()


class Targets:
    """All targets of a connector; `chance` gives numbers evenly spread from 0 to 1.

    `unhealthy` gives the labels of those of a connector's targets that health checks speak against.
    """

    __slots__ = (
        "_chance",
        "_choose",
        "_id",
        "_levels",
        "_only",
        "_settings",
        "_unhealthy",
        "members",
    )

    def __init__(
        self,
        settings: BreakerSettings,
        chance: Callable[[], float],
        unhealthy: Callable[[str], Collection[str]] = all_are_well,
    ) -> None:
        self._settings = settings
        self._chance = chance
        self._unhealthy = unhealthy
        self._id = ""
        self.members: dict[str, Member] = {}

    def settle(self, connector: Connector) -> None:
        """Take over what a version of the connector says; a target that stays keeps its state."""
        self._id = connector.id
        levels: dict[int, list[Member]] = {}
        members: dict[str, Member] = {}
        for destination in sorted(connector.destinations, key=_priority):
            target = Target(
                destination.url, connector.id, connector.connect_timeout_s, connector.team
            )
            name = str(target.url)
            if name in members:
                continue  # the same origin, written in another way
            member = self.members.get(name) or Member(self._settings)
            member.settle(target, destination.weight)
            levels.setdefault(destination.priority, []).append(member)
            members[name] = member
        for level in levels.values():
            for member in level:
                member.level = level if len(level) > 1 else ()
        self.members = members
        self._levels = [*levels.values()]
        self._only = next(iter(members.values())) if len(members) == 1 else None
        by_load = connector.definition.load_balancing == "least-request"
        self._choose = self._least_loaded if by_load else _in_turn

    def pick(self, now: float, endpoint: str, tried: Sequence[Member] = ()) -> Member:
        """The target for the next attempt, if possible one that was not tried.

        Raises Rejected `circuit_open` when every target is left alone, by all or by the endpoint.
        """
        member = self._only
        if (
            member is None
            or endpoint in member.endpoints
            or member.breaker.state is not State.CLOSED
        ):
            member = self._best(now, endpoint, tried)
        member.in_flight += 1
        return member

    def can_pick(self, now: float, endpoint: str) -> bool:
        """True when `pick` would find a target."""
        return any(member.admits(now, endpoint) for member in self.members.values())

    def attempts(self, now: float) -> int:
        """How many attempts ended within the breakers' window."""
        return sum(member.breaker.attempts(now) for member in self.members.values())

    def condition(self, now: float) -> Condition:
        """How they all do."""
        members, unhealthy = self.members.values(), self._unhealthy(self._id)
        state = max(member.breaker.condition(now) for member in members)
        well = sum(p.is_healthy(now) and p.target.label not in unhealthy for p in members)
        return Condition(state, well / len(members))

    def is_idle(self, now: float, for_s: float) -> bool:
        """True when forgetting what is known of them would change nothing."""
        return all(member.is_idle(now, for_s) for member in self.members.values())

    def _best(self, now: float, endpoint: str, tried: Sequence[Member]) -> Member:
        """Healthy and untried, else healthy, else any: the first of these that there is."""
        able = [[p for p in level if p.admits(now, endpoint)] for level in self._levels]
        healthy = [[p for p in level if not p.is_ejected(now)] for level in able]
        if unhealthy := self._unhealthy(self._id):
            healthy = [[p for p in level if p.target.label not in unhealthy] for level in healthy]
        fresh = [[p for p in level if p not in tried] for level in healthy]
        for level in (*fresh, *healthy, *able):
            if level:
                member = self._choose(level)
                member.begin(endpoint)
                return member
        raise Rejected(
            "circuit_open",
            "The upstream has failed often and is left alone for a moment.",
            retry_after_s=min(member.wait_s(now, endpoint) for member in self.members.values()),
        )

    def _least_loaded(self, members: Sequence[Member]) -> Member:
        """The less loaded of two, drawn by weight (the power of two choices)."""
        first = self._drawn(members)
        others = [member for member in members if member is not first]
        if not others:
            return first
        second = self._drawn(others)
        lighter = second.in_flight * first.weight < first.in_flight * second.weight
        return second if lighter else first

    def _drawn(self, members: Sequence[Member]) -> Member:
        mark = self._chance() * sum(member.weight for member in members)
        for member in members:
            mark -= member.weight
            if mark < 0:
                return member
        return members[-1]


def _in_turn(members: Sequence[Member]) -> Member:
    """Round robin by weight, evenly mixed: each is credited its weight, who is chosen pays all."""
    for member in members:
        member.credit += member.weight
    chosen = max(members, key=_credit)
    chosen.credit -= sum(member.weight for member in members)
    return chosen


def _credit(member: Member) -> int:
    return member.credit


def _priority(destination: Destination) -> int:
    return destination.priority
