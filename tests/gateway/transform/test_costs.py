"""The bound of a check's work: it grows where checks do, and stays small for usual schemas."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.transform.costs import TOO_MUCH, Cost, depth_of, nodes

SELF = {"$ref": "#"}
TREE = {"type": "object", "properties": {"next": SELF, "other": SELF}}
TWICE = {"anyOf": [{"items": SELF}, {"items": SELF}]}


def test_schema_that_applies_once_to_each_place_costs_more_by_the_level_alone() -> None:
    cost = Cost(TREE)

    assert cost.of(40, 1) < 5 * cost.of(10, 1)
    assert cost.of(10, 100) == 100 * cost.of(10, 1)


@pytest.mark.parametrize(
    "schema",
    [
        TWICE,
        {"oneOf": [{"properties": {"a": SELF}}, {"additionalProperties": SELF}]},
        {"items": SELF, "contains": SELF},
        {"if": {"items": {"$ref": "#"}}, "else": {"items": {"$ref": "#"}}},
        {"$anchor": "top", "allOf": [{"items": {"$ref": "#top"}}, {"not": {"items": SELF}}]},
        {"properties": {"a": SELF}, "patternProperties": {"a": SELF}},
        {"$dynamicAnchor": "n", "prefixItems": [{"$dynamicRef": "#n"}], "unevaluatedItems": SELF,
         "anyOf": [{"items": {"$dynamicRef": "#n"}}]},
    ],
)  # fmt: skip
def test_schema_that_applies_twice_to_each_place_costs_a_power_of_the_depth(schema: Any) -> None:
    cost = Cost(schema)

    assert cost.of(20, 1) > 2**20


def test_named_members_do_not_add_up_but_the_dearest_counts() -> None:
    wide = {"properties": {f"p{at}": {"type": "string"} for at in range(50)}}

    assert Cost(wide).of(5, 1) < 60


def test_circle_that_goes_no_deeper_ends() -> None:
    assert Cost({"allOf": [SELF, SELF]}).of(3, 1) < 10


def test_document_that_is_too_deep_and_schema_that_is_too_large_to_tell_are_too_much() -> None:
    defs = {
        f"d{at}": {
            "properties": {f"p{to}": {"$ref": f"#/$defs/d{to}"} for to in range(at % 7, 90, 3)}
        }
        for at in range(90)
    }

    assert Cost(TREE).of(65, 1) == TOO_MUCH
    assert Cost({"$ref": "#/$defs/d0", "$defs": defs}).of(60, 1) == TOO_MUCH


def test_depth_counts_objects_and_lists() -> None:
    assert [depth_of(document) for document in (1, [], {"a": [1]}, [[], {"a": {}}])] == [0, 1, 2, 3]
    assert depth_of([[[[[]]]]], 2) == 3


def test_every_object_of_a_schema_is_found() -> None:
    assert sum(1 for _ in nodes({"allOf": [{"not": {}}, True], "properties": {"a": {}}})) == 5
