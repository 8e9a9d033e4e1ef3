"""The schemas that a connector keeps once for all of its endpoints, and which of them one leads to.

`#/$defs/NAME` is the way to them as to a schema's own `$defs`, which win.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import orjson

from gateway.transform.costs import REFERENCES, nodes

_PLACE: Final = "#/$defs/"
_NAMES: Final = ("$id", "$anchor", "$dynamicAnchor", "$dynamicRef")


class Unit(NamedTuple):
    """What is compiled at once: its bytes, and what tells it from others.

    Schemas that are nothing but a reference are one where they lead to the same definitions.
    """

    key: bytes | frozenset[str]
    size: int


class Definitions:
    """A connector's schemas by name."""

    def __init__(self, schemas: Mapping[str, Any]) -> None:
        self.schemas = schemas
        self.compiled: dict[frozenset[str], Any] = {}
        """Validators of definitions that lead to each other, by their names."""
        self._refers = cache(lambda name: referred(self.schemas[name]))
        self._size = cache(lambda name: len(orjson.dumps(self.schemas[name])))

    def whole(self, document: Any) -> Any:
        """A schema as one that stands alone, with what it leads to among its `$defs`.

        Raises ValueError where its own `$defs` hide what a definition refers to.
        """
        reached = self._reached(document)
        if not reached:
            return document
        theirs = {name: self.schemas[name] for name in sorted(reached)}
        return {**document, "$defs": {**theirs, **_own(document)}}

    def unit(self, document: Any) -> Unit:
        """With what a schema is compiled. Raises ValueError like `whole`."""
        reached = self._reached(document)
        size = sum(map(self._size, reached))
        if reached and alone(document) is not None:
            return Unit(frozenset(reached), size)
        text = orjson.dumps(document)
        return Unit(text, size + len(text))

    def _reached(self, document: Any) -> set[str]:
        own = _own(document)
        reached: set[str] = set()
        waiting = referred(document) - own.keys()
        while waiting:
            name = waiting.pop()
            if name in self.schemas and name not in reached:
                reached.add(name)
                refers = self._refers(name)
                if hidden := sorted(refers & own.keys()):
                    raise ValueError(
                        f"its own $defs hide {hidden[0]}, which the connector's {name} refers to"
                    )
                waiting |= refers
        return reached


NONE: Final = Definitions({})


def alone(document: Any) -> str | None:
    """The name in a schema that is nothing but a reference to a definition."""
    is_one = isinstance(document, dict) and document.keys() == {"$ref"}
    return next(iter(referred(document)), None) if is_one and _is_whole(document["$ref"]) else None


def referred(document: Any) -> set[str]:
    """The names of the definitions that a schema refers to."""
    return {
        unquote(text)[len(_PLACE) :].partition("/")[0].replace("~1", "/").replace("~0", "~")
        for node in nodes(document)
        for keyword in REFERENCES
        if isinstance(text := node.get(keyword), str) and unquote(text).startswith(_PLACE)
    }


def fault(schema: Any) -> str | None:
    """What keeps a schema from being a definition: they know each other by name only."""
    for node in nodes(schema):
        if found := [word for word in _NAMES if isinstance(node.get(word), str)]:
            return f"a shared schema has no {found[0]}"
        reference = node.get("$ref", _PLACE)
        if isinstance(reference, str) and not unquote(reference).startswith(_PLACE):
            return f"a shared schema refers to others as {_PLACE}NAME"
    return None


def _own(document: Any) -> Mapping[str, Any]:
    own = document.get("$defs") if isinstance(document, dict) else None
    return own if isinstance(own, dict) else {}


def _is_whole(reference: Any) -> bool:
    """True for a reference to a definition, not to a part of one."""
    return isinstance(reference, str) and unquote(reference).count("/") == 2
