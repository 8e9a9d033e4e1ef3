"""One piece of work per key at a time: those who come meanwhile wait until it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from types import TracebackType
from typing import Generic, Self, TypeVar

K = TypeVar("K", bound=Hashable)


class Flight(Generic[K]):
    """Work that is under way while its `with` block runs. `followers` counts who waited for it."""

    __slots__ = ("_flights", "_key", "_over", "_was_cancelled", "followers", "subject")

    def __init__(self, flights: dict[K, Flight[K]], key: K, subject: object) -> None:
        self._flights = flights
        self._key = key
        self._over = asyncio.Event()
        self._was_cancelled = False
        self.subject = subject
        self.followers = 0

    async def ended(self) -> bool:
        """Wait for the end; False when the work was cancelled, so that somebody else must do it.

        Followers go on in the order in which they came.
        """
        self.followers += 1
        await self._over.wait()
        return not self._was_cancelled

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._was_cancelled = kind is not None and not issubclass(kind, Exception)
        del self._flights[self._key]
        self._over.set()


class SingleFlight(Generic[K]):
    """The flights under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[K, Flight[K]] = {}

    def running(self, key: K) -> Flight[K] | None:
        """The flight under way; None when the way is free."""
        return self._flights.get(key)

    def begin(self, key: K, subject: object = None) -> Flight[K]:
        """A new flight, for a `with` block. `subject` says what it is about to who finds it."""
        assert key not in self._flights
        flight = self._flights[key] = Flight(self._flights, key, subject)
        return flight
