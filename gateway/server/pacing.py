"""How many requests one turn of the event loop begins: who comes later waits for the next turns, in order.

Without that a thousand requests that come together are all begun before one answer is passed on: those
that are refused take the time of those that could be served, and everybody else waits for all of them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

_MOST_IN_A_TURN: Final = 64


class Pacing:
    """Lets a bounded number of requests begin in each turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int = _MOST_IN_A_TURN) -> None:
        self._loop = loop
        self._most = most
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def begin(self) -> bool:
        """True when a request may begin now; False when it has to `wait`."""
        if self._begun >= self._most or self._waiting:
            return False
        if not self._begun:
            self._loop.call_soon(self._next)
        self._begun += 1
        return True

    async def wait(self) -> None:
        """Come back when it is one's turn."""
        turn = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        """A turn has ended: the next requests may begin, those that have waited longest first."""
        self._begun = 0
        while self._waiting and self._begun < self._most:
            turn = self._waiting.popleft()
            if not turn.done():  # its client is still there
                turn.set_result(None)
                self._begun += 1
        if self._begun:
            self._loop.call_soon(self._next)
