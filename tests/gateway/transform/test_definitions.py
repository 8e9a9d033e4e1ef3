"""Schemas that a connector keeps for its endpoints: what one leads to, and who wins."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.problems import Rejected
from gateway.transform.definitions import Definitions, alone, fault, referred
from gateway.transform.rules import Costly, RuleFault, compile_schema

PET = {"properties": {"owner": {"$ref": "#/$defs/Person"}}, "required": ["owner"]}
PERSON = {"properties": {"pet": {"$ref": "#/$defs/Pet"}, "name": {"type": "string"}}}
SHARED = Definitions({"Pet": PET, "Person": PERSON, "Other": {"type": "integer"}})


def test_schema_stands_alone_with_what_it_leads_to_and_nothing_is_copied() -> None:
    whole = SHARED.whole({"items": {"$ref": "#/$defs/Pet"}})

    assert list(whole["$defs"]) == ["Person", "Pet"]
    assert whole["$defs"]["Pet"] is PET
    assert SHARED.whole(True) is True


def test_own_definitions_win() -> None:
    own = {"$ref": "#/$defs/Other", "$defs": {"Other": {"type": "string"}}}

    assert SHARED.whole(own) == own


def test_own_definition_that_hides_what_another_refers_to_is_refused() -> None:
    own = {"$ref": "#/$defs/Pet", "$defs": {"Person": {"type": "string"}}}

    with pytest.raises(RuleFault, match="hide Person, which the connector's Pet refers to"):
        compile_schema(own, SHARED)


def test_definition_that_is_not_there_is_named() -> None:
    with pytest.raises(RuleFault, match="Nowhere"):
        compile_schema({"$ref": "#/$defs/Nowhere"}, SHARED)


def test_definitions_that_lead_to_each_other_are_compiled_once_and_told_apart() -> None:
    shared = Definitions(SHARED.schemas)
    pet = compile_schema({"$ref": "#/$defs/Pet"}, shared)
    person = compile_schema({"$ref": "#/$defs/Person"}, shared)

    assert len(shared.compiled) == 1
    assert shared.unit({"$ref": "#/$defs/Pet"}) == shared.unit({"$ref": "#/$defs/Person"})
    assert person.is_valid({})
    assert not pet.is_valid({})
    with pytest.raises(Rejected) as caught:
        pet.check(orjson.dumps({"owner": {"pet": {"owner": {"name": 1}}}}))
    assert [one.pointer for one in caught.value.errors] == ["/owner/pet/owner/name"]


def test_cost_of_a_check_sees_the_definitions() -> None:
    twice = {"anyOf": [{"items": {"$ref": "#/$defs/Twice"}}, {"items": {"$ref": "#/$defs/Twice"}}]}
    schema = compile_schema({"$ref": "#/$defs/Twice"}, Definitions({"Twice": twice}))

    with pytest.raises(Costly):
        schema.check(b"[" * 40 + b"]" * 40)


def test_unit_of_a_schema_of_its_own_counts_itself_and_what_it_leads_to() -> None:
    own = {"items": {"$ref": "#/$defs/Other"}}

    assert SHARED.unit(own).size == len(orjson.dumps(own)) + len(orjson.dumps({"type": "integer"}))
    assert SHARED.unit({"type": "null"}).size == len(b'{"type":"null"}')


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ({"$ref": "#/$defs/Pet"}, "Pet"),
        ({"$ref": "#/$defs/Pet/properties/owner"}, None),
        ({"$ref": "#/$defs/Pet", "title": "A"}, None),
        ({"$ref": "#"}, None),
        ({"$ref": 1}, None),
        (True, None),
    ],
)
def test_schema_that_is_nothing_but_a_reference(schema: Any, name: str | None) -> None:
    assert alone(schema) == name


def test_references_are_read_as_pointers_in_fragments() -> None:
    schema = {"allOf": [{"$ref": "#/%24defs/a~1b/items"}, {"$ref": "#/$defs/a%25"}, {"$ref": "#"}]}

    assert referred(schema) == {"a/b", "a%"}


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"$id": "https://a.example"}, "has no $id"),
        ({"items": {"$anchor": "a"}}, "has no $anchor"),
        ({"$ref": "#"}, "refers to others as #/$defs/NAME"),
        ({"properties": {"$id": {"type": "string"}, "a": {"$ref": "#/$defs/A"}}}, None),
        (False, None),
    ],
)
def test_definitions_know_each_other_by_name_alone(schema: Any, why: str | None) -> None:
    found = fault(schema)

    assert found is None if why is None else why in str(found)
