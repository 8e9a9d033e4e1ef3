"""The field map: every value lands where the map says, and maps that contradict themselves don't compile."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.transform.documents import NotJson
from gateway.transform.field_map import FieldMapFault, compile_field_map

SONGS = {
    "items": [
        {"id": 1, "name": "one", "tags": [{"t": "a"}, {"t": "b"}]},
        {"id": 2, "tags": []},
        {"id": 3, "name": None, "tags": "none"},
    ],
    "total": 3,
    "by": {"name": "ana"},
}


def mapped(pairs: dict[str, str], document: Any) -> Any:
    field_map = compile_field_map(pairs)
    assert field_map is not None
    return json.loads(field_map.apply(json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("pairs", "made"),
    [
        pytest.param({"n": "total"}, {"n": 3}, id="a name"),
        pytest.param({"a.b.c": "by.name", "a.n": "total"}, {"a": {"b": {"c": "ana"}, "n": 3}}, id="nested"),
        pytest.param({"first": "items.0.name"}, {"first": "one"}, id="one element"),
        pytest.param({"who": "by"}, {"who": {"name": "ana"}}, id="an object as it is"),
        pytest.param({"ids": "items[].id"}, {"ids": [1, 2, 3]}, id="each"),
        pytest.param({"ids[]": "items[].id"}, {"ids": [1, 2, 3]}, id="each, said twice"),
        pytest.param({"names": "items[].name"}, {"names": ["one", None, None]}, id="each, null where none is"),
        pytest.param(
            {"songs[].title": "items[].name", "songs[].no": "items[].id", "n": "total"},
            {"songs": [{"title": "one", "no": 1}, {"no": 2}, {"title": None, "no": 3}], "n": 3},
            id="each into objects",
        ),
        pytest.param(
            {"s[].x.y": "items[].id"}, {"s": [{"x": {"y": 1}}, {"x": {"y": 2}}, {"x": {"y": 3}}]},
            id="each into objects in objects",
        ),
        pytest.param(
            {"tags": "items[].tags[].t"}, {"tags": [["a", "b"], [], None]}, id="each of each"
        ),
        pytest.param(
            {"s[].tags": "items[].tags[].t"}, {"s": [{"tags": ["a", "b"]}, {"tags": []}, {}]},
            id="each of each, into objects",
        ),
        pytest.param(
            {"s[].tags[].name": "items[].tags[].t"},
            {"s": [{"tags": [{"name": "a"}, {"name": "b"}]}, {"tags": []}, {}]},
            id="each of each, into objects of objects",
        ),
        pytest.param({"a": "gone", "b": "items.9.id", "c": "total[].x", "d": "by.name.x"}, {}, id="nothing there"),
        pytest.param({"a[].b": "gone[].b"}, {}, id="no list there"),
    ],
)  # fmt: skip
def test_object_is_made_of_the_fields_that_are_named(pairs: dict[str, str], made: Any) -> None:
    assert mapped(pairs, SONGS) == made


def test_lists_at_the_top_and_of_different_lengths() -> None:
    assert mapped({"ids": "[].id"}, [{"id": 1}, {"id": 2}]) == {"ids": [1, 2]}
    assert mapped({"all": "[]", "first": "0"}, [1, 2]) == {"all": [1, 2], "first": 1}
    assert mapped({"cells": "[].[]"}, [[1], [2, 3]]) == {"cells": [[1], [2, 3]]}
    assert mapped({"r[].a": "a[]", "r[].b": "b[]"}, {"a": [1], "b": [2, 3]}) == {
        "r": [{"a": 1, "b": 2}, {"b": 3}]
    }


@pytest.mark.parametrize("document", [1, "x", None, True, [], {}])
def test_document_without_any_of_them_becomes_an_empty_object(document: Any) -> None:
    assert mapped({"a": "b", "c": "d.0"}, document) == {}


def test_values_are_as_the_upstream_wrote_them() -> None:
    field_map = compile_field_map({"a": "x", "b": "y"})
    assert field_map is not None

    made = field_map.apply(b'{"x": 1.10, "y": [123456789012345678901234567890, "\\u00e9{{a}}"]}')
    assert made == '{"a":1.10,"b":[123456789012345678901234567890,"é{{a}}"]}'.encode()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"NaN", b"[" * 100_000, b'{"x": "\\ud800"}']
)
def test_what_is_not_json_is_told(content: bytes) -> None:
    field_map = compile_field_map({"a": "x"})
    assert field_map is not None
    with pytest.raises(NotJson):
        field_map.apply(content)


def test_empty_map_is_none() -> None:
    assert compile_field_map({}) is None


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ({"": "a"}, "not a path"), ({"a": ""}, "not a path"), ({"a..b": "a"}, "not a path"),
        ({"a": "b[0]"}, "not a path"), ({"a": "b[][]"}, "not a path"), ({"a": "b [].c"}, "not a path"),
        ({"[]": "[]"}, "names no field"), ({"[].a": "[].a"}, "names no field"),
        ({"a[].[].b": "x[].[].y"}, "names no field"),
        ({"a[].b": "x"}, "more \\[\\] than"), ({"a[].b[].c": "x[].y"}, "more \\[\\] than"),
        ({"a": "x", "a.b": "y"}, "does not go with"), ({"a.b": "x", "a": "y"}, "does not go with"),
        ({"a[].b": "x[]", "a.b": "y"}, "does not go with"), ({"a.b": "y", "a[].c": "x[]"}, "does not go with"),
        ({"a": "x", "a[]": "y[]"}, "does not go with"), ({"a": "x", "a[].b": "y[]"}, "does not go with"),
        ({"a": "b" + ".b" * 40}, "at most"),
    ],
)  # fmt: skip
def test_map_that_cannot_be_done_is_refused(pairs: dict[str, str], why: str) -> None:
    with pytest.raises(FieldMapFault, match=why):
        compile_field_map(pairs)
