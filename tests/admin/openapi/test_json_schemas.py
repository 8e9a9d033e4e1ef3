"""Fields as JSON Schema: each says exactly what it takes, apart for bodies, patches and answers."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError, fields

from admin import connectors, endpoints, keys, plans
from admin.fields import Instant, Switch, Wire, choice, count, matches, pairs, says, text, texts
from admin.openapi.json_schemas import Components

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5_000_000_000),
    st.text(max_size=5),
    st.sampled_from(["GET", "raw", "none", "UTC", "/a/:b", "https://a.example", "192.0.2.0/24"]),
    st.lists(st.sampled_from(["a", "b", "x-a", "text/plain", "::1", "a.example"]), max_size=3),
    st.dictionaries(st.sampled_from(["a", "404", "x-b", ""]), st.text(max_size=3), max_size=2),
)


@says(format="uri", pattern="^https://")
def _secure(value: str) -> None:
    if not value.startswith("https://"):
        raise ValidationError("Not https.")


class Inner(Wire):
    """Part of it."""

    number = count(0, 9, load_default=3)


class SampleSchema(Wire):
    """One of each."""

    id = fields.String(dump_only=True)
    name = text(8, least=1, rules=(matches("[a-z]+", "Not a name."),), required=True)
    word = choice(("a", "b"), load_default="a")
    maybe = choice(("a", "b"), load_default=None)
    flag = Switch(load_default=False)
    url = text(20, rules=(_secure,), load_default=None)
    words = texts(text(3, least=1), 2)
    headers = pairs(text(4, rules=(matches("x|y", "Not x or y."),)), text(5), most=2)
    at = Instant(load_default=None)
    inner = fields.Nested(Inner)
    secret = text(5, load_only=True)


def schema(use: str, cls: type[Wire] = SampleSchema) -> dict[str, Any]:
    components = Components()
    name = components.reference(cls, use)["$ref"].rpartition("/")[2]
    found: dict[str, Any] = components.schemas()[name]
    return found


def test_bodies_have_bounds_defaults_and_what_is_required() -> None:
    body = schema("body")

    assert body["required"] == ["name"]
    assert body["additionalProperties"] is False
    assert body["properties"] == {
        "name": {"type": "string", "minLength": 1, "maxLength": 8, "pattern": "^[a-z]+$"},
        "word": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "maybe": {"type": ["string", "null"], "enum": ["a", "b", None], "default": None},
        "flag": {"type": "boolean", "default": False},
        "url": {
            "type": ["string", "null"],
            "maxLength": 20,
            "format": "uri",
            "pattern": "^https://",
            "default": None,
        },
        "words": {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": 3},
            "maxItems": 2,
            "uniqueItems": True,
            "default": [],
        },
        "headers": {
            "type": "object",
            "additionalProperties": {"type": "string", "maxLength": 5},
            "propertyNames": {"maxLength": 4, "pattern": "^(?:x|y)$"},
            "maxProperties": 2,
            "default": {},
        },
        "at": {"type": ["string", "null"], "format": "date-time", "default": None},
        "inner": {"$ref": "#/components/schemas/Inner"},
        "secret": {"type": "string", "maxLength": 5},
    }


def test_patches_may_leave_everything_out_and_clear_all_but_what_is_required() -> None:
    patch = schema("patch")

    assert "required" not in patch
    assert patch["properties"]["name"]["type"] == "string"
    assert patch["properties"]["flag"] == {"type": ["boolean", "null"]}
    assert patch["properties"]["word"] == {"type": ["string", "null"], "enum": ["a", "b", None]}


def test_answers_have_read_only_fields_no_secrets_and_may_grow() -> None:
    answer = schema("answer")

    assert answer["required"] == ["id", "name"]
    assert "secret" not in answer["properties"]
    assert "additionalProperties" not in answer
    assert "default" not in answer["properties"]["word"]


def test_description_is_the_schemas_own() -> None:
    assert schema("body")["description"] == "One of each."


@pytest.mark.parametrize(
    "cls",
    [
        connectors.ConnectorCreate,
        connectors.ConnectorSchema,
        endpoints.EndpointSchema,
        keys.KeySchema,
        plans.PlanSchema,
    ],
)
@given(st.data())
def test_what_the_api_takes_is_what_it_describes(cls: type[Wire], data: st.DataObject) -> None:
    """A value that a field takes is never one that the description refuses."""
    components = Components()
    reference = components.reference(cls, "body")
    whole = {**reference, "components": {"schemas": components.schemas()}}
    validator = jsonschema_rs.Draft202012Validator(whole)
    known = {str(field.data_key): field for field in cls().load_fields.values()}
    # What may stand there is for the whole endpoint to say.
    name = data.draw(st.sampled_from(sorted(known.keys() - {"bodySchema"})))
    value = data.draw(VALUES)
    try:
        known[name].deserialize(value, name, {name: value})
    except ValidationError:
        return
    faults = [error for error in validator.iter_errors({name: value}) if error.instance_path]

    assert faults == [], (name, value)
