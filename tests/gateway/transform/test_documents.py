"""JSON that is taken apart and put together again loses nothing, and paths lead where they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transform.documents import MISSING, NotJson, PathFault, find, parse, path, render

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.parametrize(
    "number",
    [
        "0", "-0", "1.10", "1.0", "1e2", "1E+400", "-1e-400", "0.1000000000000000055511151231257827",
        "123456789012345678901234567890", "9" * 5000, "18446744073709551616", "-9007199254740993",
    ],
)  # fmt: skip
def test_numbers_are_written_as_they_were(number: str) -> None:
    assert render(parse(b'{"a":[%b]}' % number.encode())) == b'{"a":[%b]}' % number.encode()


@given(VALUES)
def test_any_document_is_the_same_afterwards(value: Any) -> None:
    assert json.loads(render(parse(json.dumps(value).encode()))) == value


def test_last_of_a_name_that_is_there_twice_counts() -> None:
    assert render(parse(b'{"a":1,"b":2,"a":{"c":3}}')) == b'{"a":{"c":3},"b":2}'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "position 0"), (b"{", "position 1"), (b"{} {}", "position 3"), (b"'a'", "position 0"),
        (b"\xef\xbb\xbf{}", "BOM"), (b"\xff", "not UTF-8 at position 0"), (b'"\x00"', "control"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"), (b"NaN", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"), (b"01", "position 1"), (b"1.", "position 1"),
        (b"[" * 100_000, "too deeply"), (b'{"a":' * 100_000, "too deeply"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_json_is_refused_with_the_reason(content: bytes, why: str) -> None:
    with pytest.raises(NotJson, match=why):
        parse(content)


@pytest.mark.parametrize("content", [b'"\\ud800"', b'{"\\udfff": 1}', b"[" * 300 + b"]" * 300])
def test_what_cannot_be_written_again_is_refused(content: bytes) -> None:
    with pytest.raises(NotJson):
        render(parse(content))


DOCUMENT = {"a": {"b": [10, {"c": None}]}, "": 1, "0": "zero", "__class__": "own", "é": 2}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.b.0", 10), ("a.b.1.c", None), ("0", "zero"), ("__class__", "own"), ("é", 2),
        ("a.b.2", MISSING), ("a.b.-1", MISSING), ("a.b.00", MISSING), ("a.b.\u0661", MISSING),
        ("a.b.9999999999", MISSING), ("a.b.0.x", MISSING), ("a.b.1.c.d", MISSING), ("b", MISSING),
        ("a.__class__", MISSING), ("a.b.append", MISSING), ("0.upper", MISSING),
    ],
)  # fmt: skip
def test_path_finds_members_and_elements_and_nothing_else(text: str, found: Any) -> None:
    assert find(DOCUMENT, path(text)) == found


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a b", "a\nb", "a[0]", "{a}", "a." * 32 + "a", "x" * 129]
)
def test_text_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(PathFault):
        path(text)
