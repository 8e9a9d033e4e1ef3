"""Ids: what is made fits its standard, and what callers send is kept only when it is harmless."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ids import BASE62, Random, base62, is_request_id, is_traceparent, uuid7


@pytest.mark.parametrize("make", [Random().request_id, uuid7], ids=["request", "object"])
def test_made_ids_are_uuids_of_version_7_and_of_this_moment(make: Callable[[], object]) -> None:
    before_ms = time.time_ns() // 1_000_000
    made = uuid.UUID(str(make()))
    after_ms = time.time_ns() // 1_000_000

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before_ms <= made.int >> 80 <= after_ms


def test_request_ids_never_repeat_and_may_be_sent_back() -> None:
    random = Random()
    made = [random.request_id() for _ in range(10_000)]

    assert len(set(made)) == len(made)
    assert all(map(is_request_id, made))


@pytest.mark.parametrize("count", [1, 10, 8191, 8192, 10_000])
def test_random_digits_are_as_many_as_asked_for(count: int) -> None:
    random = Random()

    assert [len(random.digits(count)) for _ in range(3)] == [count] * 3


def test_random_digits_are_given_once() -> None:
    random = Random()
    taken = [random.digits(48) for _ in range(1000)]  # past the end of several blocks

    assert len(set(taken)) == len(taken)


def test_made_traceparents_are_well_formed_and_not_sampled() -> None:
    made = Random().traceparent()

    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", made)
    assert is_traceparent(made)


@pytest.mark.parametrize("text", ["a", "A-Z_0.9", "-", "..", "x" * 128])
def test_harmless_request_ids_are_kept(text: str) -> None:
    assert is_request_id(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "x" * 129, "a b", "a\n", "\na", "a\r\nX: y", "a\x00", "a/b", "a:b", "a,b", "a;b", "é",
        "١٢٣", "a\u2028", "{a}", '"', "<a>", "%41",
    ],
)  # fmt: skip
def test_other_request_ids_are_replaced(text: str) -> None:
    assert not is_request_id(text)


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_traceparents_of_version_00_are_passed_on(flags: str) -> None:
    assert is_traceparent(f"00-{TRACE}-{SPAN}-{flags}")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", id="forbidden version"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="no span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", id="upper case"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-extra", id="longer"),
        pytest.param(f"00-{TRACE}-{SPAN}-1", id="shorter"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\n", id="line end"),
        pytest.param(f"00-{TRACE}-{SPAN}-01\r\nX: y", id="injection"),
        pytest.param(f"00-{TRACE[:-1]}g-{SPAN}-01", id="not hexadecimal"),
    ],
)
def test_other_traceparents_are_begun_anew(text: str) -> None:
    assert not is_traceparent(text)


@given(st.integers(0, 62**9 - 1))
def test_base62_keeps_the_number_in_its_width(number: int) -> None:
    text = base62(number, 9)
    read = 0
    for digit in text:
        read = read * 62 + BASE62.index(digit)

    assert len(text) == 9
    assert read == number
