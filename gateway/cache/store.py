"""The store of a cache: for each target the answers that were kept, bounded in bytes and fair.

A target belongs to one team and to one compiled form of a connector: a change of the connector or
of its secrets leaves what was kept before out of reach.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from gateway.cache.bounded import Bounded
from gateway.cache.rules import Selecting, Stored, selecting
from gateway.exchange import Exchange

_MOST_VARIANTS: Final = 16


class Target(NamedTuple):
    """What a request asks for, whatever its method (RFC 9111 2, the cache key)."""

    team: str
    connector: str
    identity: object
    path: str
    query: str

    @classmethod
    def of(cls, exchange: Exchange) -> Target:
        """The target of a resolved request, by path and query as the caller sent them."""
        connector = exchange.connector
        team = exchange.caller.team
        return cls(team, connector.id, connector.identity, exchange.path, exchange.query)


class Shelf:
    """The answers kept for one target, the newest first: one for each selection (RFC 9111 4.1).

    Until `alone_until` nobody waits for another's answer: it was of no use to those who did.
    """

    __slots__ = ("__weakref__", "alone_until", "variants")

    def __init__(self) -> None:
        self.variants: list[Stored] = []
        self.alone_until = 0.0

    @property
    def size_bytes(self) -> int:
        """What all of it weighs."""
        return sum(variant.size_bytes for variant in self.variants)

    def find(self, exchange: Exchange) -> Stored | None:
        """The newest answer that was made for a request like this one."""
        for variant in self.variants:
            names = tuple(name.decode("latin-1") for name, _ in variant.selecting or ())
            if selecting(exchange, names) == variant.selecting:
                return variant
        return None

    def selects(self, exchange: Exchange) -> Selecting:
        """The request's values of the fields that mattered last; none when that isn't known."""
        if not self.variants:
            return ()
        newest = self.variants[0].selecting or ()
        return selecting(exchange, tuple(name.decode("latin-1") for name, _ in newest))

    def put(self, answer: Stored) -> None:
        """Add an answer in place of that for the same selection."""
        kept = [v for v in self.variants if v.selecting != answer.selecting]
        self.variants = [answer, *kept[: _MOST_VARIANTS - 1]]

    def remove(self, answer: Stored | None) -> None:
        """Take an answer away, if it is here."""
        self.variants = [variant for variant in self.variants if variant is not answer]


class Answers:
    """All shelves. One that holds nothing lives as long as somebody works with it."""

    def __init__(self, most_bytes: int) -> None:
        self._kept: Bounded[Target, Shelf] = Bounded(most_bytes)
        self._live: WeakValueDictionary[Target, Shelf] = WeakValueDictionary()

    @property
    def size_bytes(self) -> int:
        """What is kept in all."""
        return self._kept.size_bytes

    def shelf(self, target: Target) -> Shelf:
        """The target's shelf, which counts as used now; a new one when there is none."""
        if (shelf := self._live.get(target)) is None:
            shelf = self._live[target] = Shelf()
        else:
            self._kept.get(target.team, target)
        return shelf

    def keep(self, target: Target, shelf: Shelf) -> bool:
        """Keep a shelf as it is now; False when the target was forgotten while it was worked on."""
        if self._live.get(target) is not shelf:
            return False
        own = 512 + 2 * (len(target.path) + len(target.query))
        self._kept.put(target.team, target, shelf, own + shelf.size_bytes)
        return True

    def forget(self, target: Target) -> None:
        """Drop what is kept, and what is about to be (RFC 9111 4.4)."""
        self._live.pop(target, None)
        self._kept.drop(target.team, target)
