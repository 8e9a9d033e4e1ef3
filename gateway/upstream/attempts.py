"""Every request's way to its upstream: a target, a slot, an attempt, and perhaps another one.

What one process knows of each connector's upstream is kept here, and forgotten when it has said
nothing new for a while. A connector belongs to one team, so that teams share nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from gateway.clock import Clock
from gateway.exchange import Exchange
from gateway.problems import Rejected
from gateway.upstream.answer import Answer, Blameless, Bounds
from gateway.upstream.breaker import BreakerSettings, State
from gateway.upstream.bulkhead import Bulkhead
from gateway.upstream.connections import Upstreams, host_fits
from gateway.upstream.retries import Budget, backoff_s, has_key, may_pass, may_repeat, retry_after_s
from gateway.upstream.targets import Condition, Era, Member, Targets, all_are_well

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.model import Connector

_MOST_LANES: Final = 20_000
_REMEMBERED_S: Final = 60.0
_BROKEN: Final = frozenset(["upstream_unavailable", "upstream_timeout"])
_BLOCKED: Final = "upstream_blocked"
"""Another target may be better, a repetition is not."""
_FAILED: Final = _BROKEN | {_BLOCKED, "upstream_invalid"}
_NOT_FAILED: Final = frozenset([501, 505])
"""5xx that tell of the request, not of the upstream's health (RFC 9110 15.6.2, 15.6.6)."""
_SUSPECT: Final = 429
"""From this status on, an answer may be one to try again after."""
_LEAST_LEFT_S: Final = 0.001


class Lane:
    """What is kept about one connector's upstream."""

    __slots__ = ("budget", "connector", "slots", "targets")

    connector: Connector

    def __init__(self, targets: Targets, budget: Budget) -> None:
        self.slots = Bulkhead()
        self.targets = targets
        self.budget = budget

    def settle(self, connector: Connector) -> None:
        """Take over what a version of the connector says. Raises Rejected `upstream_blocked`."""
        check_hosts(connector)
        definition = connector.definition
        self.targets.settle(connector)
        self.slots.resize(definition.max_connections, definition.max_waiting)
        self.connector = connector

    def is_idle(self, now: float, for_s: float) -> bool:
        """True when forgetting it would change nothing."""
        return self.slots.is_idle and self.targets.is_idle(now, for_s)


class Attempts:
    """Sends requests to their upstreams, as often as it takes and may be.

    `chance` gives numbers evenly spread from 0 to 1; `sleep` waits for so many seconds; `unhealthy` tells
    which of a connector's targets health checks have found unhealthy.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        metrics: Metrics,
        clock: Clock,
        chance: Callable[[], float],
        *,
        breaker: BreakerSettings | None = None,
        retry_percent: float = 10,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        unhealthy: Callable[[str], Collection[str]] = all_are_well,
    ) -> None:
        self._upstreams = upstreams
        self._metrics = metrics
        self._clock = clock
        self._now = clock.monotonic
        self._chance = chance
        self._breaker = breaker or BreakerSettings()
        self._retry_percent = retry_percent
        self._sleep = sleep
        self._unhealthy = unhealthy
        self._lanes: OrderedDict[str, Lane] = OrderedDict()

    async def send(self, exchange: Exchange, limits: Bounds) -> Answer:
        """The upstream's answer. What it holds is given back when the exchange is over.

        Raises Rejected `circuit_open`, `overloaded` or `upstream_blocked` before anything is sent,
        and what `Upstreams.send` raises.
        """
        lane, outgoing, begun = self._lane(exchange.connector), exchange.outgoing, self._now()
        exchange.outcome.upstream_begun_s = begun
        deadline = begun + limits.total_s
        tried: tuple[Member, ...] = ()
        endpoint = exchange.endpoint.id
        member = lane.targets.pick(begun, endpoint)
        if not lane.slots.enter():
            member = await self._queue(lane, member, exchange, deadline)
            limits = self._until(deadline, limits)
        outcome: Answer | Rejected
        try:
            while True:
                era = member.era(endpoint)
                exchange.outcome.target = member.target.label
                try:
                    answer = await self._upstreams.send(
                        member.target, outgoing, exchange.body, limits
                    )
                    if answer.status < _SUSPECT:
                        member.succeeded(self._now(), era)
                        return self._taken(answer, exchange, lane, member, era)
                    outcome = answer
                except Rejected as refused:
                    outcome = refused
                except BaseException:
                    member.abandoned(era)
                    raise
                _judge(outcome, member, self._now(), era, endpoint)
                wait_s = self._wait_s(outcome, exchange, lane, len(tried) + 1, deadline)
                if wait_s is None:
                    return self._taken(outcome, exchange, lane, member, era)
                if isinstance(outcome, Answer):
                    outcome.release()
                tried = (*tried, member)
                member = await self._next(lane, tried, wait_s, endpoint)
                limits = self._until(deadline, limits)
        except BaseException:
            member.leave()
            lane.slots.leave()
            raise
        finally:
            exchange.outcome.upstream_s = self._now() - begun
            exchange.outcome.attempts = outgoing.sent
            if tried or outgoing.sent > 1:
                self._metrics.retried(lane.connector.slug, max(len(tried), outgoing.sent - 1))

    def check(self, connector: Connector) -> None:
        """Raises Rejected `overloaded` when `send` would do so at once; takes nothing."""
        lane = self._lanes.get(connector.id)
        if lane is not None and lane.connector is connector and lane.slots.is_full:
            lane.slots.check()

    async def _queue(
        self, lane: Lane, member: Member, exchange: Exchange, deadline: float
    ) -> Member:
        """Wait for a slot, and pick anew: what was healthy before may not be any more."""
        endpoint = exchange.endpoint.id
        member.abandoned(member.era(endpoint))
        member.leave()
        lane.slots.check()
        begun = self._now()
        try:
            await lane.slots.wait(deadline - begun)
        finally:
            # It is the upstream that was waited for.
            exchange.outcome.upstream_s = self._now() - begun
        try:
            return lane.targets.pick(self._now(), endpoint)
        except Rejected:
            lane.slots.leave()
            raise

    async def _next(
        self, lane: Lane, tried: tuple[Member, ...], wait_s: float, endpoint: str
    ) -> Member:
        """Wait, and pick a target, another one if there is one."""
        await self._sleep(wait_s)
        member = lane.targets.pick(self._now(), endpoint, tried)
        tried[-1].leave()
        return member

    def _until(self, deadline: float, limits: Bounds) -> Bounds:
        return limits._replace(total_s=max(deadline - self._now(), _LEAST_LEFT_S))

    def _wait_s(
        self,
        outcome: Answer | Rejected,
        exchange: Exchange,
        lane: Lane,
        retry: int,
        deadline: float,
    ) -> float | None:
        """How long to wait before another attempt, in seconds; None when there is to be none."""
        told_s = None
        if isinstance(outcome, Rejected):
            has_others = len(lane.connector.destinations) > 1
            may_help = outcome.code in _BROKEN or (outcome.code == _BLOCKED and has_others)
        else:
            told_s = retry_after_s(outcome.headers, self._clock.now())
            may_help = may_pass(outcome.status, told_s)
        if not may_help or retry > exchange.endpoint.definition.retries or not _is_safe(exchange):
            return None
        now = self._now()
        wait_s = backoff_s(retry, self._chance()) if told_s is None else told_s
        if now + wait_s >= deadline or not lane.targets.can_pick(now, exchange.endpoint.id):
            return None
        return wait_s if lane.budget.take(lane.targets.attempts(now), now) else None

    def _taken(
        self, outcome: Answer | Rejected, exchange: Exchange, lane: Lane, member: Member, era: Era
    ) -> Answer:
        """The outcome that counts. An answer that is here as a whole needs nothing any more."""
        if isinstance(outcome, Rejected):
            raise outcome
        if outcome.body is not None:
            outcome.release()
            member.leave()
            lane.slots.leave()
            return outcome
        exchange.on_exit(lane.slots.leave)
        exchange.on_exit(member.leave)
        exchange.on_exit(outcome.release)
        if outcome.status < 500:
            outcome.on_broken = partial(self._broken, member, era)
        return outcome

    def _broken(self, member: Member, era: Era) -> None:
        member.failed_late(self._now(), era)

    def _lane(self, connector: Connector) -> Lane:
        lane = self._lanes.get(connector.id)
        if lane is not None and lane.connector is connector:
            return lane
        if lane is None:
            self._forget(self._now())
            targets = Targets(self._breaker, self._chance, self._unhealthy)
            lane = Lane(targets, Budget(self._retry_percent, self._breaker.window_s))
        lane.settle(connector)
        self._lanes[connector.id] = lane
        return lane

    def _forget(self, now: float) -> None:
        """Drop of the two oldest what says nothing any more: so there are never many of those."""
        lanes = self._lanes
        for_s = _REMEMBERED_S if len(lanes) < _MOST_LANES else 0.0
        for _ in range(min(2, len(lanes))):
            name, lane = next(iter(lanes.items()))
            if lane.is_idle(now, for_s):
                del lanes[name]
            else:
                lanes.move_to_end(name)

    def circuit(self, connector_id: str) -> State | None:
        """The worst breaker of a connector's targets; None when it was not used lately."""
        lane = self._lanes.get(connector_id)
        return None if lane is None else lane.targets.condition(self._now()).state

    def conditions(self) -> Mapping[str, Condition]:
        """How connectors that were used lately stand, by slug; the worse where teams share one."""
        now = self._now()
        found: dict[str, Condition] = {}
        for lane in self._lanes.values():
            slug, condition = lane.connector.slug, lane.targets.condition(now)
            other = found.get(slug)
            found[slug] = condition if other is None else _worse(other, condition)
        return found


def check_hosts(connector: Connector) -> None:
    """Raises Rejected `upstream_blocked` for a host that is not on the connector's list."""
    allowed = connector.definition.allowed_hosts or (connector.base.hostname or "",)
    for host in connector.hosts:
        if not any(host_fits(host, pattern) for pattern in allowed):
            raise Rejected(
                "upstream_blocked", "The upstream's host is not on the connector's list."
            )


def _worse(one: Condition, other: Condition) -> Condition:
    return Condition(max(one.state, other.state), min(one.healthy, other.healthy))


def _judge(outcome: Answer | Rejected, member: Member, now: float, era: Era, endpoint: str) -> None:
    """Remember what an attempt says of its target."""
    if isinstance(outcome, Rejected):
        if outcome.code in _FAILED and not isinstance(outcome, Blameless):
            member.failed(now, era)
        else:
            member.abandoned(era)
    elif outcome.status >= 500 and outcome.status not in _NOT_FAILED:
        member.refused(now, era, endpoint)
    else:
        member.succeeded(now, era)


def _is_safe(exchange: Exchange) -> bool:
    """True when the request may be sent once more."""
    outgoing = exchange.outgoing
    return may_repeat(
        was_sent=outgoing.sent > 0,
        is_whole=outgoing.body is not None or exchange.body.is_whole,
        method=outgoing.method,
        has_key=has_key(exchange.headers, outgoing.headers),
    )
