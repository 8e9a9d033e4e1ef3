"""The schemas of requests' bodies, from an OpenAPI document to JSON Schemas 2020-12.

What they refer to becomes the connector's own, once each, so that circles stay circles. An import is
never stricter than the document: what would be is left out with a warning.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import orjson

from admin.body_schemas import MOST_DEFINITIONS
from admin.fields import sentence
from admin.importing.source import Elsewhere, Source, Where
from gateway.transform.definitions import Definitions
from gateway.transform.rules import (
    MOST_SCHEMAS_BYTES,
    RuleFault,
    check_definition,
    compile_schema,
    pointer,
    size_of,
)

_SCHEMAS: Final = frozenset(
    {
        *("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not"),
        *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
    }
)
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAPS: Final = frozenset({"definitions", "dependentSchemas", "patternProperties", "properties"})
_NOT_OF_JSON_SCHEMA: Final = frozenset(
    {
        "discriminator",
        "example",
        "externalDocs",
        "nullable",
        "xml",
        "$anchor",
        "$defs",
        "$dynamicAnchor",
        "$recursiveAnchor",
        "$recursiveRef",
    }
)


class _LeftOut(Exception):
    """The schema can't be taken over; the text says why."""


class _Definition(NamedTuple):
    """A schema that others refer to: converted, and the places it refers to."""

    schema: Any
    refers: frozenset[Where]


class Bodies:
    """The schemas of a document's bodies. What they refer to is converted once for all of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names: dict[Where, str] = {}
        self._taken: set[str] = set()
        self._nodes: dict[Where, Any] = {}
        self._found: dict[Where, _Definition | Exception] = {}
        self._refers: set[Where] = set()
        self._known: dict[str, Any] = {}
        self._shared = Definitions(self._known)
        self._units: set[Any] = set()
        self._total = self._size = 0
        self._compiled: dict[bytes, RuleFault | None] = {}
        self.schemas: dict[str, Any] = {}
        """What the bodies refer to, by name: the connector's schemas."""

    def schema(self, node: Any, where: Where) -> Any:
        """The JSON Schema of a body, or None where it is left out with a warning."""
        source = self._source
        try:
            schema, reached = self._with_reached(node, where)
            if not source.faults:
                self._check(schema, reached)
        except (_LeftOut, RuleFault) as error:
            source.warn(where, f"Bodies are not checked: {sentence(error)}")
            return None
        except Elsewhere as error:
            detail = f"Bodies are not checked: part of the schema is elsewhere, at {error}."
            source.warn(where, detail)
            return None
        self.schemas |= reached
        return schema

    def _with_reached(self, node: Any, where: Where) -> tuple[Any, dict[str, Any]]:
        """The schema, and all that it leads to, by name."""
        own, refers = self._converted(node, where)
        reached: dict[str, Any] = {}
        waiting, seen = [*refers], set(refers)
        while waiting:
            place = waiting.pop()
            found = self._definition(place)
            reached[self._names[place]] = found.schema
            waiting += found.refers - seen
            seen |= found.refers
        return own, reached

    def _check(self, schema: Any, reached: dict[str, Any]) -> None:
        """Raises RuleFault or _LeftOut for what the connector could not have."""
        self._known |= reached
        text = orjson.dumps(schema)
        if text not in self._compiled:
            try:
                compile_schema(schema, self._shared)
                self._compiled[text] = None
            except RuleFault as fault:
                self._compiled[text] = fault
        if (known := self._compiled[text]) is not None:
            raise known
        unit = self._shared.unit(schema)
        total = self._total + (0 if unit.key in self._units else unit.size)
        after = {**self.schemas, **reached}
        size = size_of(after) if len(after) > len(self.schemas) else self._size
        if max(total, size) > MOST_SCHEMAS_BYTES or len(after) > MOST_DEFINITIONS:
            raise _LeftOut("the connector's schemas would be more than it may have")
        self._units.add(unit.key)
        self._total, self._size = total, size

    def _definition(self, place: Where) -> _Definition:
        """One that others refer to, as it was found the first time."""
        if place not in self._found:
            try:
                found = self._converted(self._nodes[place], place)
                check_definition(found.schema)
                self._found[place] = found
            except (_LeftOut, RuleFault, Elsewhere) as error:
                self._found[place] = error
        if isinstance(known := self._found[place], Exception):
            raise known
        return known

    def _converted(self, node: Any, where: Where) -> _Definition:
        self._refers = set()
        schema = self._schema(node, where)
        return _Definition(schema, frozenset(self._refers))

    def _schema(self, node: Any, where: Where) -> Any:
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            self._source.fault(where, "Not a schema: neither an object nor true or false.")
            return True
        if "$id" in node or "$dynamicRef" in node:
            raise _LeftOut("it has its own names for schemas")
        nullable = node.get("nullable") is True
        if "$ref" in node:
            made = {"$ref": self._reference(node, where)}
            if not self._source.document["openapi"].startswith("3.0"):
                made |= self._keywords({k: v for k, v in node.items() if k != "$ref"}, where)
        else:
            made = self._keywords(node, where)
        return _with_null(made) if nullable else made

    def _reference(self, node: dict[str, Any], where: Where) -> str:
        inner, place = self._source.follow(node, where)
        self._refers.add(place)
        if place not in self._names:
            base = re.sub(r"[^A-Za-z0-9._-]+", "_", str(place[-1] if place else "root"))[:64]
            name, number = base, 1
            while name in self._taken:
                number += 1
                name = f"{base}_{number}"
            self._names[place], self._nodes[place] = name, inner
            self._taken.add(name)
        return f"#{pointer(('$defs', self._names[place]))}"

    def _keywords(self, node: dict[str, Any], where: Where) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in node.items():
            place = (*where, name)
            if name in _NOT_OF_JSON_SCHEMA or name.startswith("x-"):
                continue
            if name in _SCHEMAS and not isinstance(value, list):
                made[name] = self._schema(value, place)
            elif (name in _LISTS or name == "items") and isinstance(value, list):
                made[name] = [self._schema(part, (*place, at)) for at, part in enumerate(value)]
            elif name in _MAPS and isinstance(value, dict):
                made[name] = {key: self._schema(part, (*place, key)) for key, part in value.items()}
            elif name == "pattern" and not _compiles(value):
                self._source.warn(place, "Not checked: a pattern that needs no backtracking is.")
            else:
                made[name] = value
        return _with_bounds(self._without_read_only(made, node))

    def _without_read_only(self, made: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
        """What only answers have is not required of bodies (OpenAPI 3.0.4, 4.7.24)."""
        required, properties = node.get("required"), node.get("properties")
        if isinstance(required, list) and isinstance(properties, dict):
            made["required"] = [
                name
                for name in required
                if not isinstance(name, str)
                or not isinstance(own := properties.get(name), dict)
                or not self._source.follow(own, ())[0].get("readOnly")
            ]
        return made


def _compiles(pattern: Any) -> bool:
    try:
        compile_schema({"pattern": pattern})
    except RuleFault:
        return False
    return True


def _with_bounds(made: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0 says beside a bound, with true or false, whether it is part of the range."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(flag := made.get(exclusive), bool):
            del made[exclusive]
            if flag and bound in made:
                made[exclusive] = made.pop(bound)
    return made


def _with_null(made: dict[str, Any]) -> dict[str, Any]:
    """A schema that takes null, too."""
    kind = made.get("type")
    if not isinstance(kind, str) or {"$ref", "allOf", "anyOf", "oneOf", "not"} & made.keys():
        return {"anyOf": [made, {"type": "null"}]}
    widened = {**made, "type": [kind, "null"]}
    if isinstance(values := made.get("enum"), list) and None not in values:
        widened["enum"] = [*values, None]
    return widened
