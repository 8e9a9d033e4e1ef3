"""Slots that teams share: one team's slow work leaves slots for the others, and waits for itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager


class Turns:
    """`most` slots. Those who wait get one in order of arrival within their team, and of the teams
    the one that holds the fewest is next.

    A team may hold an equal share, with one share left for a team that is to come; all of them when
    there is no other team.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.teams: Set[str] = frozenset()
        """The teams that are known to come from time to time."""
        self.held: Counter[str] = Counter()
        """How many slots each team holds that holds any."""
        self._queues: dict[str, dict[asyncio.Future[None], None]] = {}

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return self.most - self.held.total()

    @property
    def share(self) -> int:
        """How many slots one team may hold now."""
        active = self.held.keys() | self._queues.keys()
        parts = len(active) + (not active.issuperset(self.teams))
        return max(self.most // max(parts, min(len(self.teams), 2), 1), 1)

    def take(self, team: str) -> None:
        """Hold a slot that is free."""
        self.held[team] += 1

    def leave(self, team: str) -> None:
        """Give a slot back, to whoever is next."""
        self.held[team] -= 1
        if not self.held[team]:
            del self.held[team]
        while self._queues and self.free > 0:
            waiting = min(self._queues, key=lambda team: self.held[team])
            if self.held[waiting] >= self.share:
                return
            self._admit(waiting)

    @asynccontextmanager
    async def turn(self, team: str) -> AsyncIterator[None]:
        """Hold a slot; wait for it when there is none, or when the team has its share."""
        if team in self._queues or self.free <= 0 or self.held[team] >= self.share:
            await self._wait(team)
        else:
            self.take(team)
        try:
            yield
        finally:
            self.leave(team)

    async def _wait(self, team: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(team, {})[turn] = None
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave(team)  # it came at the very moment when it was no longer wanted
            else:
                self._drop(team, turn)
            raise

    def _admit(self, team: str) -> None:
        """Give the one who has waited longest of a team a slot."""
        turn = next(iter(self._queues[team]))
        self._drop(team, turn)
        if not turn.done():
            self.take(team)
            turn.set_result(None)

    def _drop(self, team: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(team, {})
        queue.pop(turn, None)
        if not queue:
            self._queues.pop(team, None)
