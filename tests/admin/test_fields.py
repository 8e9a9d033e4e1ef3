"""The schemas' fields: strict about types, honest about names, and what PATCH makes of null."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError, fields

from admin.fields import (
    Instant,
    Pairs,
    Switch,
    Wire,
    camel,
    count,
    is_id,
    matches,
    says,
    text,
    texts,
)


class Sample(Wire):
    """A bit of everything."""

    some_name = text(8, required=True)
    how_many = count(0, 10, load_default=3)
    quota = count(0, 10, load_default=5, allow_none=True)
    is_on = Switch(load_default=True)
    at = Instant(load_default=None)
    words = texts(text(4), 2)
    headers = Pairs(keys=text(4), values=text(4), load_default=dict)
    hidden = fields.String(load_only=True)
    version = fields.Integer(dump_only=True)


SAMPLE = Sample()


def refusals(given: dict[str, Any]) -> Any:
    with pytest.raises(ValidationError) as caught:
        SAMPLE.load({"someName": "x", **given})
    return caught.value.messages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("someName", 1),
        ("someName", None),
        ("someName", "far too long"),
        ("howMany", "1"),
        ("howMany", 1.0),
        ("howMany", True),
        ("howMany", 11),
        ("howMany", None),
        ("isOn", 1),
        ("isOn", "true"),
        ("isOn", None),
        ("at", "2030-01-31"),
        ("at", "2030-01-31T12:00:00"),
        ("at", "2030-02-31T12:00:00Z"),
        ("at", "9999-12-31T23:59:59-23:59"),
        ("at", 1893456000),
        ("words", "text"),
        ("words", ["a", "a"]),
        ("words", ["a", "b", "c"]),
        ("words", [None]),
        ("headers", [["a", "b"]]),
        ("version", 1),
        ("some_name", "x"),
        ("nonsense", None),
    ],
)
def test_what_only_resembles_is_refused_at_its_place(name: str, value: Any) -> None:
    assert list(refusals({name: value})) == [name]


def test_fault_of_a_pair_points_to_the_pair() -> None:
    found = refusals({"headers": {"long name": "x", "b": "long value", "c": 1}})

    assert set(found["headers"]) == {"long name", "b", "c"}


def test_times_are_told_in_utc() -> None:
    item = SAMPLE.load({"someName": "x", "at": "2030-01-31T12:00:00.5+02:00"})

    assert SAMPLE.dump(item)["at"] == "2030-01-31T10:00:00.500000Z"


def test_settings_are_what_may_be_set_and_is_shown() -> None:
    row = {"some_name": "x", "how_many": 1, "version": 7, "hidden": "h"}

    assert SAMPLE.settings(row) == {"someName": "x", "howMany": 1}


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        ({}, {"someName": "x", "howMany": 1, "quota": 2}),
        ({"howMany": 2}, {"someName": "x", "howMany": 2, "quota": 2}),
        ({"howMany": None}, {"someName": "x", "quota": 2}),
        ({"quota": None}, {"someName": "x", "howMany": 1, "quota": None}),
        ({"someName": None}, {"howMany": 1, "quota": 2}),
        ({"other": None}, {"someName": "x", "howMany": 1, "quota": 2, "other": None}),
    ],
)
def test_null_clears_to_null_or_to_the_default(
    patch: dict[str, Any], after: dict[str, Any]
) -> None:
    assert SAMPLE.merged({"someName": "x", "howMany": 1, "quota": 2}, patch) == after


def test_names_are_camel_case_on_the_wire() -> None:
    assert [camel("slug"), camel("upstream_base_url")] == ["slug", "upstreamBaseUrl"]


def test_pattern_is_for_the_whole_text() -> None:
    rule = matches("a|b", "no")

    assert rule("a") == "a"
    for text_ in ("ab", "a\n", "\na", ""):
        with pytest.raises(ValidationError):
            rule(text_)


@pytest.mark.parametrize(
    ("text_", "expected"),
    [
        ("01a20fbf-912d-7af9-aa70-787456ed8d23", True),
        ("01A20FBF-912D-7AF9-AA70-787456ED8D23", True),
        ("01a20fbf912d7af9aa70787456ed8d23", False),
        ("{01a20fbf-912d-7af9-aa70-787456ed8d23}", False),
        ("01a20fbf-912d-7af9-aa70-787456ed8d2g", False),
        ("maps", False),
    ],
)
def test_only_the_canonical_form_is_an_id(text_: str, *, expected: bool) -> None:
    assert is_id(text_) is expected


def test_rule_is_its_check_and_says_what_json_schema_can() -> None:
    @says(pattern="^a")
    def begins_with_a(value: str) -> None:
        if not value.startswith("a"):
            raise ValidationError("No.")

    assert begins_with_a.says == {"pattern": "^a"}
    begins_with_a("ab")
    with pytest.raises(ValidationError):
        begins_with_a("b")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("some_name", "x", 'Unknown field; did you mean "someName"?'),
        ("howmany", 3, 'Unknown field; did you mean "howMany"?'),
        ("zzz", 3, "Unknown field."),
        ("version", 3, "Read-only field: leave it out."),
        ("howMany", "3", "Not an integer from 0 to 10."),
        ("howMany", 11, "Not an integer from 0 to 10."),
        ("isOn", "yes", "Not true or false."),
        ("words", "a", "Not a list."),
        ("words", ["a", "a"], 'Has "a" twice.'),
        ("headers", ["a"], "Not an object of names and values."),
        ("someName", 5, "Not a text."),
    ],
)
def test_refusal_says_what_would_be_right(name: str, value: Any, said: str) -> None:
    assert refusals({name: value}) == {name: [said]}


def test_strange_member_of_a_nested_object_is_named_there() -> None:
    class Outer(Wire):
        """Holds the sample."""

        inner = fields.Nested(Sample)

    with pytest.raises(ValidationError) as caught:
        Outer().load({"inner": {"someName": "x", "quotas": 1, "version": 2}})
    assert caught.value.messages == {
        "inner": {
            "quotas": ['Unknown field; did you mean "quota"?'],
            "version": ["Read-only field: leave it out."],
        }
    }


@pytest.mark.parametrize("given", ["30s", 30.5, 0, -1, 10**9, 10**30])
def test_time_is_refused_with_its_unit_and_an_example(given: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        count(1, 3_600_000, "milliseconds").deserialize(given)
    said = "Not an integer of milliseconds from 1 to 3600000, such as 30000."
    assert caught.value.messages == [said]
