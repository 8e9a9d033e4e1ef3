"""The schema of a request's body, from an OpenAPI document to a JSON Schema 2020-12 of its own.

What it refers to comes along in `$defs`, once each, so that circles stay circles. An import is never
stricter than the document: what would be is left out with a warning.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from admin.fields import sentence
from admin.importing.source import Elsewhere, Source, Where
from gateway.transform.rules import (
    MOST_SCHEMA_BYTES,
    MOST_SCHEMAS_BYTES,
    RuleFault,
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
_MAPS: Final = frozenset(
    {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}
)
_NOT_OF_JSON_SCHEMA: Final = frozenset(
    {
        "discriminator",
        "example",
        "externalDocs",
        "nullable",
        "xml",
        "$recursiveAnchor",
        "$recursiveRef",
    }
)


class _LeftOut(Exception):
    """The schema can't be taken over; the text says why."""


class _Definition(NamedTuple):
    """A schema that others refer to: converted, its size in bytes, and the places it refers to."""

    schema: Any
    size: int
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
        self._left = MOST_SCHEMAS_BYTES

    def schema(self, node: Any, where: Where) -> Any:
        """The JSON Schema of a body, or None where it is left out with a warning."""
        source = self._source
        try:
            schema, size = self._whole(node, where)
            if not source.faults:
                compile_schema(schema)
        except (_LeftOut, RuleFault) as error:
            source.warn(where, f"Bodies are not checked: {sentence(error)}")
            return None
        except Elsewhere as error:
            detail = f"Bodies are not checked: part of the schema is elsewhere, at {error}."
            source.warn(where, detail)
            return None
        self._left -= size
        return schema

    def _whole(self, node: Any, where: Where) -> tuple[Any, int]:
        """The schema with its `$defs`, which are shared, and its size in bytes."""
        node, where = self._source.follow(node, where)
        own, size, refers = self._converted(node, where)
        defs: dict[str, Any] = {}
        waiting, seen = [*refers], set(refers)
        while waiting:
            place = waiting.pop()
            found = self._definition(place)
            defs[self._names[place]] = found.schema
            size += found.size
            if size > MOST_SCHEMA_BYTES:
                raise _LeftOut(f"a JSON Schema has at most {MOST_SCHEMA_BYTES >> 10} KiB")
            waiting += found.refers - seen
            seen |= found.refers
        if size > self._left:
            most = MOST_SCHEMAS_BYTES >> 20
            raise _LeftOut(f"the schemas of a connector have at most {most} MiB")
        if not defs:
            return own, size
        whole: dict[str, Any] = own if isinstance(own, dict) else {"allOf": [own]}
        return {**whole, "$defs": {**whole.get("$defs", {}), **dict(sorted(defs.items()))}}, size

    def _definition(self, place: Where) -> _Definition:
        """One that others refer to, as it was found the first time."""
        if place not in self._found:
            try:
                self._found[place] = self._converted(self._nodes[place], place)
            except (_LeftOut, Elsewhere) as error:
                self._found[place] = error
        if isinstance(found := self._found[place], Exception):
            raise found
        return found

    def _converted(self, node: Any, where: Where) -> _Definition:
        self._refers = set()
        schema = self._schema(node, where)
        return _Definition(schema, size_of(schema), frozenset(self._refers))

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
