"""The field map: a new object from the fields of a JSON answer, `{"to.here": "from.there"}`.

`items.0.id` is one element of a list, `items[].id` each of them. A destination may have as many
`[]` as its source, `songs[].title`: then the elements meet in objects by their position; without
them it becomes a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any, Final

from gateway.problems import quoted
from gateway.transform import documents
from gateway.transform.documents import MISSING
from gateway.transform.rules import RuleFault


class Each(Enum):
    """The step to every element of a list."""

    EACH = "[]"


EACH: Final = Each.EACH
Steps = tuple[str | Each, ...]

_MOST_STEPS: Final = 32


class FieldMapFault(RuleFault):
    """A field map that does not compile; the text says why."""


@dataclass(frozen=True, slots=True)
class FieldMap:
    """A compiled map: pairs of destination and source."""

    pairs: tuple[tuple[Steps, Steps], ...]

    def apply(self, content: bytes) -> bytes:
        """The new object, from a JSON document. Raises documents.NotJson.

        A source that isn't there leaves its destination out; in a list it is null, so that the
        others keep their positions.
        """
        document = documents.parse(content)
        made: dict[str, Any] = {}
        for destination, source in self.pairs:
            value = _gathered(document, source, destination.count(EACH))
            if value is not MISSING:
                _put(made, destination, value)
        return documents.render(made)


def compile_field_map(pairs: Mapping[str, str]) -> FieldMap | None:
    """The map; None for an empty one, which changes nothing. Raises FieldMapFault."""
    compiled = []
    for to, source in pairs.items():
        destination, origin = _destination(to), _steps(source)
        if destination.count(EACH) > origin.count(EACH):
            raise FieldMapFault(f"{quoted(to)} has more [] than {quoted(source)}")
        compiled.append((destination, origin))
    _check_apart([destination for destination, _ in compiled])
    return FieldMap(tuple(compiled)) if compiled else None


def _steps(text: str) -> Steps:
    """The steps of `items[].id`; `[]` alone stands for each element of the document itself."""
    steps: list[str | Each] = []
    for segment in text.split("."):
        name = segment.removesuffix("[]")
        try:
            steps += documents.path(name) if name or name == segment else ()
        except documents.PathFault:
            raise FieldMapFault(
                f"{quoted(text[:80])} is not a path such as a.0.b or a[].b"
            ) from None
        if name != segment:
            steps.append(EACH)
    if len(steps) > _MOST_STEPS:
        raise FieldMapFault(f"a path has at most {_MOST_STEPS} steps")
    return tuple(steps)


def _destination(text: str) -> Steps:
    """The steps to where a value goes; a `[]` at the end says what a list is anyway."""
    steps = _steps(text)
    while steps[-1:] == (EACH,):
        steps = steps[:-1]
    if not steps or steps[0] is EACH or (EACH, EACH) in pairwise(steps):
        raise FieldMapFault(f"{quoted(text[:80])} names no field for what is in []")
    return steps


def _check_apart(destinations: Sequence[Steps]) -> None:
    """Raises FieldMapFault when a destination is inside another, or in a list and an object."""
    tree: dict[str | Each | None, Any] = {}
    for destination in destinations:
        node = tree
        for step in (*destination, None):
            if node and (step is None or None in node or (step is EACH) != (EACH in node)):
                shown = ".".join("[]" if part is EACH else str(part) for part in destination)
                raise FieldMapFault(f"{quoted(shown)} does not go with another destination")
            node = node.setdefault(step, {})


def _gathered(value: Any, source: Steps, aligned: int) -> Any:
    """What is at the source, or MISSING: from each `[]` on a list of what is at the rest.

    In the lists that `aligned` counts, from the outermost, what isn't there stays MISSING.
    """
    for position, step in enumerate(source, 1):
        if isinstance(step, str):
            value = documents.step(value, step)
        elif isinstance(value, list):
            found = [_gathered(element, source[position:], aligned - 1) for element in value]
            return found if aligned > 0 else [None if v is MISSING else v for v in found]
        else:
            return MISSING
    return value


def _put(target: dict[str, Any], destination: Steps, value: Any) -> None:
    """Put a value under a destination, and the objects and lists on the way to it."""
    name, rest = str(destination[0]), destination[1:]
    if not rest:
        target[name] = value
    elif rest[0] is EACH:
        rows = target.setdefault(name, [])
        for index, element in enumerate(value):
            if index == len(rows):
                rows.append({})
            if element is not MISSING:
                _put(rows[index], rest[1:], element)
    else:
        _put(target.setdefault(name, {}), rest, value)
