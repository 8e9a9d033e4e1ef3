"""A store of values that is bounded in bytes and shared fairly by its owners.

The least recently used value goes first, but it is taken from whoever holds more than an equal
share: one team's flood never pushes out what another team keeps.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Held(NamedTuple, Generic[V]):
    value: V
    size_bytes: int


class _Share(Generic[K, V]):
    """What one owner holds, the least recently used first."""

    __slots__ = ("entries", "size_bytes")

    def __init__(self) -> None:
        self.entries: OrderedDict[K, _Held[V]] = OrderedDict()
        self.size_bytes = 0


class Bounded(Generic[K, V]):
    """Values by owner and key; sizes are what the caller says they are."""

    def __init__(self, most_bytes: int, most_entries: int | None = None) -> None:
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._shares: dict[str, _Share[K, V]] = {}
        self.size_bytes = 0
        self.count = 0

    def get(self, owner: str, key: K) -> V | None:
        """The value, which counts as used now; None when there is none."""
        share = self._shares.get(owner)
        if share is None or (held := share.entries.get(key)) is None:
            return None
        share.entries.move_to_end(key)
        return held.value

    def put(self, owner: str, key: K, value: V, size_bytes: int) -> None:
        """Keep a value in place of the one before; what is too large for the store is not kept."""
        self.drop(owner, key)
        if size_bytes > self._most_bytes:
            return
        share = self._shares.setdefault(owner, _Share())
        share.entries[key] = _Held(value, size_bytes)
        share.size_bytes += size_bytes
        self.size_bytes += size_bytes
        self.count += 1
        while self.size_bytes > self._most_bytes or (
            self._most_entries is not None and self.count > self._most_entries
        ):
            giving = self._giving(owner)
            self.drop(giving, next(iter(self._shares[giving].entries)))

    def drop(self, owner: str, key: K) -> None:
        """Let a value go, if it is there."""
        share = self._shares.get(owner)
        if share is None or (held := share.entries.pop(key, None)) is None:
            return
        share.size_bytes -= held.size_bytes
        self.size_bytes -= held.size_bytes
        self.count -= 1
        if not share.entries:
            del self._shares[owner]

    def _giving(self, putting: str) -> str:
        """Who gives way: the owner that puts if it has its equal share, else who holds most."""
        share = self._shares.get(putting)
        if share is not None and share.size_bytes * len(self._shares) >= self.size_bytes:
            return putting
        return max(self._shares, key=lambda owner: self._shares[owner].size_bytes)
