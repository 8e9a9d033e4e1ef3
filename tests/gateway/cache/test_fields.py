"""Dates and targeted directives: what is valid, and what is as if it were in the past or not there."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.fields import moment, targeted

AT = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
        "SUN, 06 nov 1994 08:49:37 gmt", "Mon, 06 Nov 1994 08:49:37 GMT",
    ],
)  # fmt: skip
def test_date_may_have_three_forms_in_any_case(date: str) -> None:
    assert moment(date) == AT


@pytest.mark.parametrize(
    "date",
    [
        None, "", "0", "-1", "now", "Sun 06 Nov 1994 08:49:37 GMT", "Sun,  06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT", "Sun, 06 Nov 1994 08.49.37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 AEST", "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 06 Nov 1994 08:49:37", "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT", "06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov \u0661994 08:49:37 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date_has_no_moment(date: str | None) -> None:
    assert moment(date) is None


@given(st.integers(-(10**9), 10**11))
def test_every_date_that_is_made_is_read(at: int) -> None:
    assert moment(formatdate(at, usegmt=True)) == at


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("max-age=60", {"max-age": "60"}), ("no-store", {"no-store": ""}),
        ("max-age=60, private;a=1 , must-revalidate", {"max-age": "60", "private": "", "must-revalidate": ""}),
        ("max-age=60, max-age=5", {"max-age": "5"}), ("no-store=?0, max-age=1", {"max-age": "1"}),
        ('x="a, b", max-age=1', {"x": "a, b", "max-age": "1"}), ("no-store=?1", {"no-store": ""}),
        ('max-age="60"', {}), ("max-age=6.5", {}), ("max-age=-1", {}), ("max-age", {}),
        (None, None), ("", None), (" ", None), ("Max-Age=60", None), ("max-age=60,", None),
        ("max-age = 60", None), ("max-age=60 no-store", None), ("max-age==60", None), ('x="a', None),
    ],
)  # fmt: skip
def test_targeted_field_is_a_dictionary_or_nothing(field: str | None, told: Any) -> None:
    assert targeted(field) == told


@given(st.text(alphabet='ab=,;"\\ 1?*:', max_size=40))
def test_any_text_is_read_or_refused(field: str) -> None:
    assert targeted(field) is None or isinstance(targeted(field), dict)
