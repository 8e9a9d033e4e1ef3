"""Deadlines of many requests watched by one timer, instead of a timer for each.

A timer per request costs a few percent of all the gateway's work; here a request costs two
dictionary operations. A deadline is noticed one tick late at most.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

TICK_S: Final = 0.05


class Expiring(Protocol):
    """What has a deadline."""

    def expire(self) -> None:
        """Its deadline has passed."""


class Deadlines:
    """Expires what is still watched when its deadline passes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[Expiring, float] = {}
        self._ticking = False

    def watch(self, what: Expiring, deadline: float) -> None:
        """Expire it when the loop's time is past `deadline`, unless it is forgotten before."""
        self._watched[what] = deadline
        if not self._ticking:
            self._ticking = True
            self._loop.call_later(TICK_S, self._tick)

    def forget(self, what: Expiring) -> None:
        """It is over in time."""
        self._watched.pop(what, None)

    def _tick(self) -> None:
        now, watched = self._loop.time(), self._watched
        for what in [what for what, deadline in watched.items() if deadline <= now]:
            del watched[what]
            what.expire()
        self._ticking = bool(watched)
        if watched:
            self._loop.call_later(TICK_S, self._tick)
