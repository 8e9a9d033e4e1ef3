"""Header fields as raw pairs."""

from __future__ import annotations

import pytest

from gateway.http.header_fields import joined, nominated, tokens, vary_by, without
from gateway.http.messages import RawHeaders

FIELDS = [(b"Vary", b"A"), (b"ETag", b'"x"'), (b"vARY", b"b, C"), (b"X-\xe9", b"\xff")]


def test_values_of_a_repeated_field_are_one_list_in_their_order() -> None:
    assert joined(FIELDS, b"vary") == "A, b, C"
    assert joined(FIELDS, b"x-\xe9") == "\xff"
    assert joined(FIELDS, b"etags") is None
    assert joined([(b"A", b"")], b"a") == ""


@pytest.mark.parametrize(
    ("value", "members"),
    [(None, ()), ("", ()), (" , ,", ()), ("A", ("a",)), (" a,\tB ,, c ", ("a", "b", "c"))],
)
def test_list_is_read_with_its_empty_members_left_out(
    value: str | None, members: tuple[str, ...]
) -> None:
    assert tokens(value) == members


def test_fields_are_taken_out_whatever_their_case() -> None:
    assert without(FIELDS, {b"vary"}) == [FIELDS[1], FIELDS[3]]
    assert without(FIELDS, set()) == FIELDS


@pytest.mark.parametrize(
    ("there", "added"),
    [
        ([], True),
        ([(b"Vary", b"Accept")], True),
        ([(b"Vary", b"X-Origin")], True),
        ([(b"vary", b"accept, oriGin")], False),
        ([(b"Vary", b"Accept"), (b"Vary", b"Origin")], False),
        ([(b"Vary", b"*")], False),
    ],
)
def test_vary_is_extended_once(there: RawHeaders, added: bool) -> None:
    fields = list(there)
    vary_by(fields, "Origin")
    vary_by(fields, "Origin")

    assert fields == there + [(b"Vary", b"Origin")] * added


def test_connection_names_what_ends_here_but_nothing_that_is_for_all() -> None:
    fields = [
        (b"CONNECTION", b"close,X-A ,"),
        (b"x-a", b"1"),
        (b"connection", b"Content-Type, x-B, vary"),
    ]

    assert nominated(fields) - {b""} == {b"close", b"x-a", b"x-b"}
    assert nominated([]) == frozenset()
