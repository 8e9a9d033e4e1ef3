"""JSON Schemas made by hand: members are required unless they can be missing; null where it may be."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from admin.api import ROUTES
from admin.shapes import COUNT, TEXT, perhaps, record, several


def fits(schema: Any, value: Any) -> bool:
    return jsonschema_rs.Draft202012Validator(schema).is_valid(value)


def test_members_are_required_unless_they_can_be_missing() -> None:
    schema = record(may=("b",), a=TEXT, b=COUNT)

    assert fits(schema, {"a": ""})
    assert not fits(schema, {"b": 1})
    assert not fits(schema, {"a": "", "b": "1"})


@pytest.mark.parametrize("of", [TEXT, record(a=TEXT)])
def test_perhaps_takes_null_too(of: Any) -> None:
    assert fits(perhaps(of), None)
    assert not fits(perhaps(of), 1)


def test_list_has_items_of_one_kind() -> None:
    assert fits(several(COUNT), [1, 2])
    assert not fits(several(COUNT), [1, ""])


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(route.operation.answer, id=f"{route.method} {route.path}")
        for route in ROUTES
        if isinstance(route.operation.answer, dict)
    ],
)
def test_answers_made_by_hand_are_schemas(schema: Any) -> None:
    jsonschema_rs.Draft202012Validator(schema)
