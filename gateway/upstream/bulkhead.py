"""The bound on what one connector has in flight, so that a hung upstream costs its own callers only.

A slot is taken by `enter` or `wait` and given back by `leave`, once, when the last byte of the
upstream's answer is here. Who waits gets a slot in order of arrival.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.problems import Rejected

_COME_BACK_S: Final = 1.0


class Bulkhead:
    """`most` slots, and a queue for at most `most_waiting`; both may change at any time."""

    __slots__ = ("_queue", "most", "most_waiting", "taken")

    def __init__(self, most: int = 0, most_waiting: int = 0) -> None:
        self.most = most
        self.most_waiting = most_waiting
        self.taken = 0
        self._queue: dict[asyncio.Future[None], None] = {}

    @property
    def is_idle(self) -> bool:
        """True when nobody has a slot or waits for one."""
        return not self.taken and not self._queue

    @property
    def is_full(self) -> bool:
        """True when who comes now gets no slot at once."""
        return self.taken >= self.most or bool(self._queue)

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._queue)

    def enter(self) -> bool:
        """Take a slot when one is free; False when the caller has to `wait`."""
        if self.taken >= self.most or self._queue:
            return False
        self.taken += 1
        return True

    def check(self) -> None:
        """Raises Rejected `overloaded` when too many wait already."""
        if len(self._queue) >= self.most_waiting:
            raise _overloaded("Too many requests wait for the upstream.")

    async def wait(self, most_s: float) -> None:
        """Take a slot when it is one's turn.

        Raises Rejected `overloaded` when too many wait already, or after `most_s` seconds.
        """
        self.check()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue[turn] = None
        try:
            async with asyncio.timeout(most_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # the slot came at the very moment when it was no longer wanted
            else:
                self._queue.pop(turn, None)
            if isinstance(error, TimeoutError):
                raise _overloaded("The upstream was busy for all of the endpoint's time.") from None
            raise

    def leave(self) -> None:
        """Give a slot back: to the one who has waited longest, if there are not too many now."""
        self.taken -= 1
        if self._queue:
            self._admit()

    def resize(self, most: int, most_waiting: int) -> None:
        """Change the bounds; who has a slot keeps it."""
        self.most, self.most_waiting = most, most_waiting
        self._admit()

    def _admit(self) -> None:
        """Give the free slots to those who wait."""
        while self._queue and self.taken < self.most:
            turn = next(iter(self._queue))
            del self._queue[turn]
            if not turn.done():
                self.taken += 1
                turn.set_result(None)


def _overloaded(detail: str) -> Rejected:
    return Rejected("overloaded", detail, retry_after_s=_COME_BACK_S)
