"""Values that are loaded once, remembered within bounds, and stale when they may have changed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final, Generic, NamedTuple, TypeVar

from gateway.clock import Clock
from gateway.database import DatabaseAway
from gateway.recent import Recent
from gateway.tasks import Tasks

T = TypeVar("T")

_MOST_ABSENT_BYTES: Final = 4 << 20
_ABSENT_FOR_S: Final = 5.0
_STALE: Final = -1
_PATIENCE_S: Final = 0.25
"""How long a look-up may take before a value that is stale is served without it."""


class Loaded(NamedTuple, Generic[T]):
    """A value, and how much memory it takes, nearly."""

    value: T
    size_bytes: int


class _Entry(Generic[T]):
    __slots__ = ("generation", "value")

    def __init__(self, value: T, generation: int) -> None:
        self.value = value
        self.generation = generation


class Cache(Generic[T]):
    """A bounded map whose values are loaded once however many ask at the same time.

    That there is none is remembered for a moment, apart: whoever asks for what isn't there puts
    nothing out that is.
    """

    def __init__(
        self,
        load: Callable[[str], Awaitable[Loaded[T] | None]],
        clock: Clock,
        tasks: Tasks,
        most_bytes: int,
    ) -> None:
        self._load = load
        self._tasks = tasks
        self._clock = clock
        self._entries: Recent[str, _Entry[T]] = Recent(most_bytes)
        self._absent: Recent[str, float] = Recent(_MOST_ABSENT_BYTES)
        self._loading: dict[str, asyncio.Future[T | None]] = {}
        self._began: dict[str, float] = {}
        self._changed: set[str] = set()
        self._generation = 0

    def held(self, name: str) -> T | None:
        """The value when it is here and in force; never waits."""
        entry = self._entries.get(name)
        if entry is None or entry.generation != self._generation:
            return None
        return entry.value

    async def get(self, name: str) -> T | None:
        """The value; None when there is none. DatabaseAway when it can't be known now.

        One that is stale is served while PostgreSQL is away, or doesn't answer at once; it is looked up
        behind it.
        """
        if (held := self.held(name)) is not None:
            return held
        if self._clock.monotonic() < (self._absent.get(name) or 0.0):
            return None
        loading = self._loading.get(name)
        if loading is None:
            loading = self._tasks.start(self._fresh(name), f"load {name}")
            self._loading[name] = loading
            self._began[name] = asyncio.get_running_loop().time()
        if self._entries.get(name) is None:
            return await asyncio.shield(loading)
        try:
            async with asyncio.timeout_at(self._began[name] + _PATIENCE_S):
                return await asyncio.shield(loading)
        except (DatabaseAway, TimeoutError):
            if (entry := self._entries.get(name)) is not None:
                return entry.value
        return await asyncio.shield(loading)

    async def _fresh(self, name: str) -> T | None:
        try:
            generation = self._generation
            loaded = await self._load(name)
            while name in self._changed:  # while it was read
                self._changed.discard(name)
                generation = self._generation
                loaded = await self._load(name)
            own = sys.getsizeof(name)
            if loaded is None:
                self._entries.drop(name)
                self._absent.put(name, self._clock.monotonic() + _ABSENT_FOR_S, own)
                return None
            entry = _Entry(loaded.value, generation)
            self._entries.put(name, entry, loaded.size_bytes + own)
            return loaded.value
        finally:
            del self._loading[name], self._began[name]
            self._changed.discard(name)

    def drop(self, name: str) -> None:
        """Forget one value: it has changed."""
        if name in self._loading:
            self._changed.add(name)
        self._entries.drop(name)
        self._absent.drop(name)

    def drop_where(self, fits: Callable[[T], bool]) -> None:
        """Forget the values that fit."""
        self._changed.update(self._loading)
        for name in [n for n, e in self._entries.items() if fits(e.value)]:
            self._entries.drop(name)

    def make_stale_where(self, fits: Callable[[T], bool]) -> int:
        """Look the values that fit up anew when they are next used; how many weren't to be before."""
        found = [e for _, e in self._entries.items() if fits(e.value)]
        count = sum(entry.generation == self._generation for entry in found)
        for entry in found:
            entry.generation = _STALE
        return count

    def values(self) -> list[T]:
        """All that is here, in force or not."""
        return [entry.value for _, entry in self._entries.items()]

    def names(self) -> list[str]:
        """The names of all that is here."""
        return [name for name, _ in self._entries.items()]

    def clear(self) -> None:
        """Forget everything."""
        self._changed.update(self._loading)
        self._entries.clear()
        self._absent.clear()

    def make_stale(self) -> None:
        """Look everything up anew when it is next used."""
        self._changed.update(self._loading)
        self._generation += 1
        self._absent.clear()
