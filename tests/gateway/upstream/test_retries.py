"""When a request may be sent once more: every case, and how long to wait before it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import RawHeaders
from gateway.upstream.retries import Budget, backoff_s, has_key, may_pass, may_repeat, retry_after_s

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE")  # RFC 9110 9.2.2
UNSAFE = ("POST", "PATCH", "CONNECT", "QUERY", "get", "")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("was_sent", "is_whole", "has_key", "safe", "unsafe"),
    [
        # nothing was sent: whatever it is, it can't be done twice
        (False, True, False, True, True),
        (False, True, True, True, True),
        (False, False, False, True, True),
        (False, False, True, True, True),
        # it was sent: only what may be done twice, and only if it is still there to be sent
        (True, True, False, True, False),
        (True, True, True, True, True),
        (True, False, False, False, False),
        (True, False, True, False, False),
    ],
)
def test_table_of_what_may_be_repeated(
    was_sent: bool, is_whole: bool, has_key: bool, safe: bool, unsafe: bool
) -> None:
    for method in SAFE + UNSAFE:
        may = may_repeat(was_sent=was_sent, is_whole=is_whole, method=method, has_key=has_key)
        assert may == (safe if method in SAFE else unsafe), method


@pytest.mark.parametrize("told_s", [None, 0.0, 1.0, 2.0, 2.001, 60.0, float("inf")])
def test_table_of_answers_that_may_pass(told_s: float | None) -> None:
    is_short = told_s is None or told_s <= 2
    for status in range(200, 600):
        expected = is_short and (
            status in {502, 503, 504} or (status == 429 and told_s is not None)
        )
        assert may_pass(status, told_s) == expected, status


@pytest.mark.parametrize(
    ("given", "passed_on", "has"),
    [
        ({}, [], False),
        ({"idempotency-key": "a"}, [(b"Idempotency-Key", b"a")], True),
        ({"idempotency-key": "a"}, [(b"idempotency-KEY", b"a"), (b"b", b"a")], True),
        ({"idempotency-key": "a"}, [], False),  # the endpoint removes it
        ({"idempotency-key": "a"}, [(b"Idempotency-Key", b"fixed")], False),  # or replaces it
        ({}, [(b"Idempotency-Key", b"fixed")], False),  # or has one for all callers
        ({"idempotency-key": ""}, [(b"Idempotency-Key", b"")], False),
        ({"idempotency-key": "a"}, [(b"Idempotency-Key", b"a"), (b"Idempotency-Key", b"b")], False),
        ({"idempotency-key": "\udce9"}, [(b"Idempotency-Key", b"\xe9")], True),
    ],
)
def test_key_counts_when_the_caller_gave_it_and_the_upstream_gets_it(
    given: dict[str, str], passed_on: RawHeaders, has: bool
) -> None:
    assert has_key(given, passed_on) == has


@pytest.mark.parametrize(
    ("retry", "most_s"), [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.6), (6, 2.0), (60, 2.0)]
)
def test_backoff_doubles_up_to_two_seconds_with_full_jitter(retry: int, most_s: float) -> None:
    for chance in (0, 0.25, 0.5, 0.999):
        assert backoff_s(retry, chance) == pytest.approx(chance * most_s)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0), (b"2", 2), (b" 120 ", 120), (b"007", 7),
        (b"Tue, 24 Nov 2026 12:00:02 GMT", 2), (b"Tue, 24 Nov 2026 11:59:00 GMT", 0),
        (b"Tuesday, 24-Nov-26 12:00:02 GMT", 2), (b"Tue Nov 24 12:00:02 2026", 2),
        (b"Tue, 24 Nov 2026 12:00:02 -0000", 2),
        (b"", None), (b"soon", None), (b"-1", None), (b"1.5", None), (b"1, 2", None),
        (b"\xb2", None), (b"\xd9\xa3", None), (b"Tue, 99 Nov 2026 12:00:02 GMT", None),
        (b"9" * 5000, float("inf")),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    fields = [(b"a", b"1"), (b"RETRY-after", value), (b"Retry-After", b"3")]

    assert retry_after_s(fields, NOW.timestamp()) == seconds


def test_no_retry_after_says_nothing() -> None:
    assert retry_after_s([(b"a", b"1")], 0) is None


@given(st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001 - hypothesis wants them so
def test_any_date_is_told_in_seconds_from_now_and_never_in_the_past(when: datetime) -> None:
    when = when.replace(tzinfo=UTC, microsecond=0)
    field = (b"Retry-After", format_datetime(when, usegmt=True).encode())

    expected = max((when - NOW).total_seconds(), 0)
    assert retry_after_s([field], NOW.timestamp()) == pytest.approx(expected)


@given(st.binary(max_size=60) | st.text("0123456789 :,-+GMTueNovabc", max_size=40).map(str.encode))
def test_no_retry_after_breaks_anything(value: bytes) -> None:
    told_s = retry_after_s([(b"Retry-After", value)], 0)

    assert told_s is None or told_s >= 0


@pytest.mark.parametrize(("requests", "retries"), [(0, 30), (100, 30), (300, 30), (1000, 100)])
def test_budget_is_a_tenth_of_the_requests_and_a_few_a_second_in_any_case(
    requests: int, retries: int
) -> None:
    budget, taken = Budget(10, 10), 0
    while budget.take(requests + taken, now=0):
        taken += 1

    assert taken == retries


def test_budget_comes_back_as_the_window_moves() -> None:
    budget = Budget(10, 10)
    assert sum(budget.take(0, now=0) for _ in range(100)) == 30
    assert not budget.take(0, now=9)

    assert sum(budget.take(0, now=10) for _ in range(100)) == 30


def test_retries_earn_no_retries() -> None:
    """When every attempt fails, a tenth more is sent, not a tenth of a tenth more."""
    budget, attempts = Budget(10, 10), 0
    for _ in range(10_000):
        attempts += 1
        while budget.take(attempts, now=0):
            attempts += 1

    assert 10_990 <= attempts <= 11_000


@pytest.mark.parametrize("percent", [0, 50, 100])
def test_budget_is_the_operators(percent: float) -> None:
    budget, taken = Budget(percent, 10), 0
    while budget.take(1000 + taken, now=0):
        taken += 1

    assert taken == max(30, 10 * percent)
