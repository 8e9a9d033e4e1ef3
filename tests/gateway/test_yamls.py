"""YAML as JSON: what its scalars are, what is refused, and that no small text becomes a large one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.yamls import MOST_REPEATED, MOST_VALUES, NotYaml, line, parse, render
from tests.gateway.bombs import alias_bomb

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("On", "On"),
        ("true", True),
        ("", None),
        ("~", None),
        ("2020-01-01", "2020-01-01"),
        ("12:30:45", "12:30:45"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("-7", -7),
        ("+.5", 0.5),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("12345678901234567890", 12345678901234567890.0),
    ],
)
def test_scalars_are_what_json_can_say(text: str, value: Any) -> None:
    found = parse(f"a: {text}")["a"]

    assert (found, type(found)) == (value, type(value))


def test_names_are_texts() -> None:
    assert parse("200: {true: 1}") == {"200": {"true": 1}}


def test_alias_stands_for_what_its_anchor_is_at() -> None:
    assert parse("a: &x [1, {b: &y 2}]\nc: *x\nd: *y") == {
        "a": [1, {"b": 2}],
        "c": [1, {"b": 2}],
        "d": 2,
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: 1\na: 2", '"a" is given twice (line 2, column 1)'),
        ("x: {<<: {a: 1}}", "a merge key (<<) is not JSON (line 1, column 5)"),
        ("--- 1\n--- 2", "there is a second document"),
        ("a: &a [*a]", "nothing before it is called *a"),
        ("a: *b", "nothing before it is called *b"),
        ("? [a]\n: 1", "a name that is no text is not JSON"),
        ("a: !!python/object:os.system x", "the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: !!set {b}", "the tag tag:yaml.org,2002:set"),
        ("a: [", "(line "),
        ("\x00", "position 0"),
        ("[" * 200 + "]" * 200, "nested more than 100 levels deep"),
        ("[" * 5000, "nesting depth"),
    ],
)
def test_what_json_cannot_say_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(NotYaml) as caught:
        parse(text)

    assert why in str(caught.value)


def test_aliases_of_aliases_end_at_a_bound() -> None:
    with pytest.raises(NotYaml, match=f"aliases repeat more than {MOST_REPEATED} values"):
        parse(alias_bomb())


def test_document_that_is_large_by_itself_ends_at_a_bound() -> None:
    with pytest.raises(NotYaml, match=f"it has more than {MOST_VALUES} values"):
        parse("[" + "0," * MOST_VALUES + "]")


@given(DOCUMENTS)
@example("0E0")
@example({"1e5": "0o17"})
def test_what_is_written_is_read_again(document: Any) -> None:
    assert parse(render(document)) == document


@given(DOCUMENTS)
def test_what_is_written_means_the_same_to_other_readers(document: Any) -> None:
    assert yaml.safe_load(render(document)) == json.loads(json.dumps(document))


def test_what_is_there_twice_is_written_twice() -> None:
    inner = [1]

    assert "&" not in render({"a": inner, "b": inner})


@given(DOCUMENTS)
@example({"\U00010000": {"\n": None}})
@example(["\\ud83d\\ude00", "\n\U0001f600\U0010ffff"])
def test_line_is_one_line_and_is_read_again(document: Any) -> None:
    written = line(document)

    assert "\n" not in written
    assert parse(written) == document


@pytest.mark.parametrize(
    ("value", "written"),
    [(None, "null"), (True, "true"), ("x", "x"), ("no", "'no'"), ([], "[]"), (["a", 1], "[a, 1]")],
)
def test_line_is_written_as_a_person_would(value: Any, written: str) -> None:
    assert line(value) == written
