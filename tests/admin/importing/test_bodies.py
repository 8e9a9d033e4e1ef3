"""Schemas of bodies: the same bodies pass as before, and circles stay circles."""

from __future__ import annotations

from typing import Any

import pytest

from admin.importing.bodies import Bodies
from admin.importing.source import Source
from gateway.transform.rules import MOST_SCHEMA_BYTES, compile_schema

SCHEMAS = {
    "node": {
        "type": "object",
        "properties": {"next": {"$ref": "#/components/schemas/node"}, "v": {"$ref": "#/v"}},
    },
    "a/b": {"type": "integer"},
}


def converted(schema: Any, version: str = "3.0.3") -> tuple[Any, Source]:
    source = Source(
        {"openapi": version, "components": {"schemas": SCHEMAS}, "v": {"type": "string"}}
    )
    bodies = Bodies(source)
    made = bodies.schema(schema, ("s",))
    whole = {**made, "$defs": bodies.schemas} if bodies.schemas else made
    return whole, source


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "string", "nullable": True, "enum": ["a"]},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"allOf": [{"type": "object"}], "nullable": True},
            {"anyOf": [{"allOf": [{"type": "object"}]}, {"type": "null"}]},
        ),
        (
            {"type": "integer", "minimum": 1, "exclusiveMinimum": True},
            {"type": "integer", "exclusiveMinimum": 1},
        ),
        (
            {"type": "integer", "maximum": 1, "exclusiveMaximum": False},
            {"type": "integer", "maximum": 1},
        ),
        ({"type": "string", "example": "a", "xml": {}, "x-y": 1}, {"type": "string"}),
        (
            {"required": ["id", "a"], "properties": {"id": {"readOnly": True}, "a": {}}},
            {"required": ["a"], "properties": {"id": {"readOnly": True}, "a": {}}},
        ),
        (
            {"properties": {"nullable": {"type": "string"}, "x-a": {"example": 1}}},
            {"properties": {"nullable": {"type": "string"}, "x-a": {}}},
        ),
        ({"type": "string", "pattern": "^(?=a)b"}, {"type": "string"}),
        ({"items": [{"type": "string", "nullable": False}]}, {"items": [{"type": "string"}]}),
    ],
)
def test_words_of_openapi_become_json_schema(before: Any, after: Any) -> None:
    if isinstance(before.get("items"), list):
        before, after = {"prefixItems": before["items"]}, {"prefixItems": after["items"]}

    assert converted(before)[0] == after


def test_references_come_along_once_each() -> None:
    schema, source = converted(
        {
            "type": "object",
            "properties": {
                "first": {"$ref": "#/components/schemas/node"},
                "second": {"$ref": "#/components/schemas/node"},
                "third": {"$ref": "#/components/schemas/a~1b"},
            },
        }
    )

    assert source.faults == []
    assert schema["$defs"].keys() == {"node", "a_b", "v"}
    assert schema["properties"]["second"] == {"$ref": "#/$defs/node"}
    assert schema["$defs"]["node"]["properties"]["next"] == {"$ref": "#/$defs/node"}
    validator = compile_schema(schema)
    assert validator.is_valid({"first": {"next": {"next": {"v": "x"}}}})
    assert not validator.is_valid({"first": {"next": {"next": {"v": 1}}}})


def test_schema_that_is_a_reference_to_a_circle() -> None:
    validator = compile_schema(converted({"$ref": "#/components/schemas/node"})[0])

    assert validator.is_valid({"next": {}})
    assert not validator.is_valid({"next": {"next": 1}})


def test_siblings_of_a_reference_count_from_3_1_on() -> None:
    given = {"allOf": [{"$ref": "#/v", "maxLength": 2}]}

    assert converted(given, "3.0.0")[0]["allOf"] == [{"$ref": "#/$defs/v"}]
    assert converted(given, "3.1.0")[0]["allOf"] == [{"$ref": "#/$defs/v", "maxLength": 2}]


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"properties": {"a": {"$ref": "other.yaml"}}}, "elsewhere, at other.yaml"),
        ({"type": "file"}, "Bodies are not checked"),
        ({"$id": "https://a.example", "type": "string"}, "names for schemas"),
        ({"description": "x" * MOST_SCHEMA_BYTES}, "at most 256 KiB"),
    ],
)
def test_what_cannot_be_taken_over_is_left_out_and_told(schema: Any, why: str) -> None:
    made, source = converted(schema)

    assert made is None
    assert why in source.warnings[0].detail
    assert source.faults == []


def test_reference_to_nothing_is_a_fault_of_the_document() -> None:
    source = converted({"properties": {"a": {"$ref": "#/nowhere"}}})[1]

    assert [fault.pointer for fault in source.faults] == ["/document/s/properties/a/$ref"]
