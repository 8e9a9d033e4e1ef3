"""Values that were used lately, bounded in bytes: a hit sets a flag, nothing is reordered.

What is to give way is chosen by second chance: the oldest that was not used since it was last
passed over. Sizes are what the caller says they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ENTRY_BYTES: Final = 320
"""What keeping a value costs beside the value and what its key has of its own, nearly."""
_MOST_PASSED: Final = 16
"""How many values are passed over for one that is dropped: dropping takes little time."""


class _Kept(Generic[V]):
    __slots__ = ("size_bytes", "used", "value")

    def __init__(self, value: V, size_bytes: int) -> None:
        self.value = value
        self.size_bytes = size_bytes
        self.used = False


class Recent(Generic[K, V]):
    """Values by key, as many as fit into `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()
        self.size_bytes = 0

    def get(self, key: K) -> V | None:
        """The value, which counts as used now; None when there is none."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        kept.used = True
        return kept.value

    def put(self, key: K, value: V, size_bytes: int) -> None:
        """Keep a value in place of the one before; one that is too large by itself is not kept."""
        self.drop(key)
        size_bytes += ENTRY_BYTES
        if size_bytes > self._most_bytes:
            return
        self.size_bytes += size_bytes
        while self.size_bytes > self._most_bytes:
            self._give_way()
        self._kept[key] = _Kept(value, size_bytes)

    def drop(self, key: K) -> None:
        """Let a value go, if it is there."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size_bytes -= kept.size_bytes

    def clear(self) -> None:
        """Let all go."""
        self._kept.clear()
        self.size_bytes = 0

    def items(self) -> Iterator[tuple[K, V]]:
        """All that is kept, without counting as used."""
        return ((key, kept.value) for key, kept in self._kept.items())

    def _give_way(self) -> None:
        for _ in range(_MOST_PASSED):
            key, kept = next(iter(self._kept.items()))
            if not kept.used:
                break
            kept.used = False
            self._kept.move_to_end(key)
        self.drop(next(iter(self._kept)))
