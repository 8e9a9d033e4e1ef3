"""Marshmallow's schemas as the JSON Schemas of OpenAPI 3.1: for answers, for bodies, for patches.

A patch may leave everything out and clears with null; an answer has read-only fields, and may get
more of them later. Rules that JSON Schema cannot say are left out, never said wrongly.
"""

from __future__ import annotations

import inspect
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields, validate

from admin.auth_config import SCHEMAS, AuthConfig
from admin.fields import Pairs, Rule


class _Converter(OpenAPIConverter):
    """Marshmallow's schemas in JSON Schema, apart for answers, for bodies, and for bodies of PATCH."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.uses: dict[int, str] = {}
        self._made: dict[tuple[type[Schema], str], Schema] = {}

    def used(self, cls: type[Schema], use: str) -> Schema:
        """The schema with those fields alone that there are in an answer, a body or a patch."""
        if (cls, use) not in self._made:
            every = cls().fields
            loaded = {name for name, field in every.items() if field.load_only}
            dumped = {name for name, field in every.items() if field.dump_only}
            made = cls(exclude=loaded if use == "answer" else dumped, partial=use == "patch")
            self.uses[id(made)] = use
            self._made[cls, use] = made
        return self._made[cls, use]

    def reference(self, cls: type[Schema], use: str) -> dict[str, Any]:
        """A reference to a schema, which is added when it is first asked for."""
        resolve: Any = self.resolve_nested_schema
        return dict(resolve(self.used(cls, use)))

    def use_of(self, field: Any) -> str:
        """For what the schema of a field is used."""
        return self.uses.get(id(field.root), "body")

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:
        """An object; what is in an answer for certain is required there, and more may come."""
        made: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call] # as apispec has it
        if self.uses.get(id(schema)) == "answer":
            sure = [str(f.data_key) for f in schema.fields.values() if f.required or f.dump_only]
            made["required"] = sorted(sure)
            del made["additionalProperties"]
        if not made.get("required"):
            made.pop("required", None)
        made["description"] = inspect.getdoc(type(schema)) or ""
        return made

    def nested2properties(self, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
        """A nested object is used as the one around it; in a patch it is replaced as a whole."""
        if not isinstance(field, fields.Nested):
            return {}
        use = "answer" if self.use_of(field) == "answer" else "body"
        found = self.reference(type(field.schema), use)
        return {"type": "array", "items": found} if field.many else found


def _name_of(converter: _Converter, schema: Any) -> str:
    """The name of a component: Connector, ConnectorBody, ConnectorPatch."""
    cls = type(schema)
    name, use = cls.__name__.removesuffix("Schema"), converter.uses.get(id(schema), "body")
    if use == "patch":
        return f"{name}Patch"
    only_in_answers = any(field.dump_only for field in cls().fields.values())
    return f"{name}Body" if use == "body" and only_in_answers and name != cls.__name__ else name


def _bounds(self: _Converter, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
    """Lengths as JSON Schema calls them for each type, and what our rules say of themselves."""
    said: dict[str, Any] = {}
    for check in field.validators:
        if isinstance(check, Rule):
            said |= check.says
        elif isinstance(check, validate.Regexp):
            whole = str(check.regex.pattern).removeprefix("(?:").removesuffix(r")\Z")
            said["pattern"] = f"^(?:{whole})$" if "|" in whole else f"^{whole}$"
    if isinstance(field, fields.Dict):
        least, most = ret.pop("minLength", None), ret.pop("maxLength", None)
        said |= {"minProperties": least} if least else {}
        said |= {"maxProperties": most} if most else {}
    if ret.get("minLength") == 0:
        del ret["minLength"]
    return said


def _names(self: _Converter, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
    """What the names of pairs must be."""
    if not isinstance(field, Pairs) or field.key_field is None:
        return {}
    rule = self.field2property(field.key_field)
    return {"propertyNames": {name: value for name, value in rule.items() if name != "type"}}


def _auth_config(self: _Converter, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
    """One of the objects that the types of authentication ask for."""
    if not isinstance(field, AuthConfig):
        return {}
    use = "answer" if self.use_of(field) == "answer" else "body"
    kinds = {type(schema): kind for kind, schema in SCHEMAS.items()}
    options = [self.reference(cls, use) for cls in kinds]
    return {
        "description": f"What authType asks for ({', '.join(kinds.values())}, in this order).",
        "anyOf": options,
    }


def _meaning(self: _Converter, field: Any, ret: dict[str, Any]) -> dict[str, Any]:
    """Defaults of bodies alone; null where PATCH takes it; no words that all fields share.

    What is one of several objects has no default: generators of clients can't choose one.
    """
    for word in ("readOnly", "writeOnly"):
        ret.pop(word, None)
    use, default = self.use_of(field), field.load_default
    if default in (list, dict) and not field.dump_only:
        ret["default"] = default()
    if use != "body" or "anyOf" in ret:
        ret.pop("default", None)
    cleared = use == "patch" and field.parent is field.root and not field.required
    if cleared and not field.allow_none:
        if "type" in ret:
            ret["type"] = [ret["type"], "null"]
        if "enum" in ret:
            ret["enum"] = [*ret["enum"], None]
        if "anyOf" in ret:
            ret["anyOf"] = [*ret["anyOf"], {"type": "null"}]
    return {}


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


class Components:
    """The schemas that a document refers to; each is added when it is first asked for."""

    def __init__(self) -> None:
        plugin: Any = _Plugin(schema_name_resolver=lambda made: _name_of(plugin.converter, made))
        self._spec = APISpec("", "", "3.1.0", plugins=[plugin])
        self._converter: _Converter = plugin.converter
        for function in (_bounds, _names, _auth_config, _meaning):
            plugin.converter.add_attribute_function(function)

    def reference(self, cls: type[Schema], use: str) -> dict[str, Any]:
        """A reference to a schema; `use` is answer, body or patch."""
        return self._converter.reference(cls, use)

    def field(self, field: fields.Field[Any]) -> dict[str, Any]:
        """What a field that stands alone takes."""
        return dict(self._converter.field2property(field))

    def parameters(self, cls: type[Schema]) -> list[dict[str, Any]]:
        """The fields of a schema as parameters of a query."""
        made: list[dict[str, Any]] = self._converter.schema2parameters(
            self._converter.used(cls, "body"), location="query"
        )
        return made

    def schemas(self) -> dict[str, Any]:
        """All that were referred to, by name."""
        found: dict[str, Any] = self._spec.to_dict().get("components", {}).get("schemas", {})
        return dict(sorted(found.items()))
