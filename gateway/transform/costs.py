"""How much work the check of a document against a JSON Schema may be: a bound, found beforehand.

Schemas that apply to one place of a document again and again make a check grow with a power of its
depth. The bound counts, along one path of the document, the schemas that could be applied to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

TOO_MUCH: Final = float("inf")
DEEPEST: Final = 64
"""Documents deeper than this are said to be too much work."""
_MOST_STEPS: Final = 10_000
"""How many pairs of a schema and a depth are looked at; working out the bound is work, too."""
_ONE: Final = ("not", "if", "then", "else")
_LISTS: Final = ("allOf", "anyOf", "oneOf")
REFERENCES: Final = ("$ref", "$dynamicRef")
_OF_MEMBERS: Final = ("propertyNames", "unevaluatedProperties")
_OF_ITEMS: Final = ("contains", "unevaluatedItems")
_UNEVALUATED: Final = frozenset({"unevaluatedItems", "unevaluatedProperties"})


class Cost:
    """The bound for one schema. What has been worked out is remembered."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._anchors: dict[str, Any] | None = None
        self._found: dict[tuple[int, int], float] = {}
        self._steps = 0

    def of(self, depth: int, values: int) -> float:
        """For a document nested so deep, of so many values that are no objects and no lists."""
        if depth > DEEPEST:
            return TOO_MUCH
        try:
            return self._along(self._schema, depth, frozenset()) * values
        except RecursionError:
            return TOO_MUCH

    def _along(self, node: Any, depth: int, within: frozenset[int]) -> float:
        """For one path of a document; `within` are the schemas that are being applied to its root."""
        if not isinstance(node, dict) or id(node) in within:
            return 1.0
        key = id(node), depth
        if (known := self._found.get(key)) is not None:
            return known
        self._steps += 1
        if self._steps > _MOST_STEPS:
            return TOO_MUCH
        here = within | {id(node)}
        twice = 2 if _UNEVALUATED & node.keys() else 1
        beside = sum(self._along(other, depth, here) for other in self._beside(node))
        below = self._below(node, depth - 1) if depth else 0.0
        own = 1 + sum(len(value) for value in node.values() if isinstance(value, (dict, list)))
        self._found[key] = found = own + twice * beside + below
        return found

    def _beside(self, node: Mapping[str, Any]) -> Iterator[Any]:
        """The schemas that apply to the very place that this one applies to."""
        for name in REFERENCES:
            if isinstance(reference := node.get(name), str):
                yield self._target(reference)
        yield from (node[name] for name in _ONE if name in node)
        for name in _LISTS:
            yield from _parts(node.get(name))
        yield from _parts(node.get("dependentSchemas"))

    def _below(self, node: Mapping[str, Any], depth: int) -> float:
        """The dearest of what may be below: one member or one item."""

        def along(part: Any) -> float:
            return self._along(part, depth, frozenset())

        named = max(map(along, _parts(node.get("properties"))), default=0.0)
        other = along(node["additionalProperties"]) if "additionalProperties" in node else 0.0
        member = max(named, other) + sum(map(along, _parts(node.get("patternProperties"))))
        member += sum(along(node[name]) for name in _OF_MEMBERS if name in node)
        first = max(map(along, _parts(node.get("prefixItems"))), default=0.0)
        item = max(first, along(node["items"]) if "items" in node else 0.0)
        item += sum(along(node[name]) for name in _OF_ITEMS if name in node)
        return max(member, item)

    def _target(self, reference: str) -> Any:
        """What a reference within the schema leads to; the whole where that is not clear."""
        fragment = unquote(reference[1:])
        if fragment and not fragment.startswith("/"):
            return self._anchor(fragment)
        node = self._schema
        for token in fragment.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                return self._schema
        return node

    def _anchor(self, name: str) -> Any:
        if self._anchors is None:
            found = ((node, node.get(key)) for node in nodes(self._schema) for key in _ANCHORS)
            self._anchors = {text: node for node, text in found if isinstance(text, str)}
        return self._anchors.get(name, self._schema)


_ANCHORS: Final = ("$anchor", "$dynamicAnchor")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.values()]
    return value if isinstance(value, list) else []


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object of a schema, in no order."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def depth_of(document: Any, most: int = 1024) -> int:
    """How deep the objects and lists of a document are nested; looks no deeper than one past `most`."""
    level, depth = [document], 0
    while depth <= most:
        level = [node for node in level if isinstance(node, (dict, list))]
        if not level:
            break
        depth += 1
        level = [part for node in level for part in _parts(node)]
    return depth
