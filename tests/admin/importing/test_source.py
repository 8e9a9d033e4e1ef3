"""OpenAPI documents as they are given: which are read, where their faults are, what is not fetched."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from admin.importing.source import MOST_WARNINGS, Elsewhere, Source, read
from gateway.problems import Rejected
from tests.gateway.bombs import alias_bomb

WHOLE = {"openapi": "3.1.0", "info": {"title": "A"}, "paths": {}}


def refused(given: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        read(given)
    assert caught.value.code == "validation_failed"
    fault = caught.value.errors[0]
    return fault.pointer, fault.detail


@pytest.mark.parametrize(
    "given",
    [
        WHOLE,
        orjson.dumps(WHOLE).decode(),
        "\ufeff" + orjson.dumps(WHOLE).decode(),
        "openapi: 3.1.0\ninfo:\n  title: A\npaths: {}\n",
    ],
)
def test_object_and_text_of_json_and_yaml_are_read(given: Any) -> None:
    assert read(given).document == WHOLE


@pytest.mark.parametrize(
    ("given", "at", "why"),
    [
        ({"swagger": "2.0"}, "/document/swagger", "convert"),
        ({"openapi": "4.0.0"}, "/document/openapi", "3.0 or 3.1"),
        ({"openapi": 3.1}, "/document/openapi", "3.0 or 3.1"),
        ({}, "/document/openapi", "3.0 or 3.1"),
        ("- a", "/document", "Not an object"),
        ('{"openapi": ', "/document", "Not JSON"),
        ("openapi: [", "/document", "Not YAML"),
        ("a: 1\na: 2", "/document", "given twice (line 2"),
        (alias_bomb(), "/document", "aliases repeat more than"),
        ('{"openapi": "3.1.0", "x": "\\u0000"}', "/document", "NUL"),
        ('{"a": ' * 70 + "1" + "}" * 70, "/document", "nested more than 64"),
    ],
)
def test_what_is_no_document_is_refused_where_it_is_none(given: Any, at: str, why: str) -> None:
    pointer, detail = refused(given)

    assert pointer == at
    assert why in detail


def test_reference_is_followed_with_its_place() -> None:
    source = Source({"a": {"$ref": "#/b~1c/0"}, "b/c": [{"$ref": "#/d%20e"}], "d e": {"x": 1}})

    assert source.follow(source.document["a"], ("a",)) == ({"x": 1}, ("d e",))
    assert source.faults == []


@pytest.mark.parametrize("reference", ["#/nowhere", "#/a/7", "#/a/-1", 5])
def test_reference_to_nothing_is_a_fault(reference: Any) -> None:
    source = Source({"a": [{}]})

    assert source.follow({"$ref": reference}, ("x",))[0] == {}
    assert [fault.pointer for fault in source.faults] == ["/document/x/$ref"]


def test_circle_of_references_is_a_fault() -> None:
    source = Source({"a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}})

    source.follow(source.document["a"], ("a",))

    assert len(source.faults) == 1


@pytest.mark.parametrize(
    "reference", ["other.yaml#/a", "http://127.0.0.1/x", "file:///etc/passwd", "//a.example/b"]
)
def test_nothing_is_fetched(reference: str) -> None:
    source = Source({})

    with pytest.raises(Elsewhere):
        source.follow({"$ref": reference}, ())
    assert source.one({"a": {"$ref": reference}}, "a", ()) is None
    assert [warning.pointer for warning in source.warnings] == ["/document/a"]


def test_members_of_a_wrong_kind_are_faults() -> None:
    source = Source({})
    node = {"a": [], "b": {}, "c": {"d": 1, "x-e": 2}}

    assert source.member(node, "a", (), dict) == {}
    assert source.member(node, "b", (), str) == ""
    assert [*source.objects(node, "c", ())] == []
    found = [(fault.pointer, fault.detail) for fault in source.faults]
    assert found == [
        ("/document/a", "Not an object."),
        ("/document/b", "Not a text."),
        ("/document/c/d", "Not an object."),
    ]


def test_warnings_are_bounded_and_counted() -> None:
    source = Source({})
    for number in range(MOST_WARNINGS + 5):
        source.warn((number,), "x")

    assert len(source.told()) == MOST_WARNINGS + 1
    assert source.told()[-1]["detail"] == "And 5 more."
