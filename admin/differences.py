"""Whether two JSON values are the same, and where they are not: the one answer for every "did it change".

Values are equal as JSON: 1 is 1.0 and is not true, and members of an object are in no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gateway.transform.rules import pointer

Path = tuple[str | int, ...]

ABSENT: Final = object()
"""Stands for a value that is not there."""


class Difference(NamedTuple):
    """One place that is not the same: `op` is add, remove or replace; what is absent is None."""

    op: str
    path: Path
    before: Any
    after: Any

    def told(self) -> dict[str, Any]:
        """As it is on the wire."""
        return {
            "op": self.op,
            "pointer": pointer(self.path),
            "before": self.before,
            "after": self.after,
        }


def is_same(one: Any, other: Any) -> bool:
    """True for equal JSON.

    An integer and a float are compared as floats: of a large number PostgreSQL gives all digits back.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            is_same(value, other[name]) for name, value in one.items()
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, float) and isinstance(other, int):
        return one == float(other)
    if isinstance(one, int) and isinstance(other, float):
        return float(one) == other
    return bool(one == other)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Each field that is not the same, with its value before and after; None for an absent one."""
    names = dict.fromkeys((*before, *after))
    pairs = {name: [before.get(name), after.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if not is_same(*pair)}


def places(before: Any, after: Any, path: Path = ()) -> Iterator[Difference]:
    """Every place that is not the same, objects member by member, lists as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from places(before.get(name, ABSENT), after.get(name, ABSENT), (*path, name))
    elif before is ABSENT:
        yield Difference("add", path, None, after)
    elif after is ABSENT:
        yield Difference("remove", path, before, None)
    elif not is_same(before, after):
        yield Difference("replace", path, before, after)
