"""What was taken of a rate is read under the limit of another day."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.contract import Rate
from gateway.limits.gcra import never

RATES = st.builds(
    lambda limit, window_s, burst: Rate("rate", "r", limit, window_s, burst),
    st.integers(1, 1000),
    st.sampled_from([1, 60, 3600, 86_400]),
    st.integers(1, 1000),
)


def rate(limit: int, window_s: float, burst: int | None = None) -> Rate:
    return Rate("rate", "r", limit, window_s, limit if burst is None else burst)


@given(RATES, RATES, st.integers(1, 1000), st.floats(0, 100_000))
def test_after_an_edit_nobody_waits_longer_than_the_new_limit_makes_them(
    old: Rate, new: Rate, amount: int, later: float
) -> None:
    taken = never(old, 0).further(min(amount, old.burst), 0)
    alone = never(new, 0).further(min(amount, new.burst), 0)

    assert taken.under(new).ahead_s(later) <= alone.ahead_s(later) + 1e-6
    assert taken.under(new).ahead_s(0) >= alone.ahead_s(0) - 1e-6 or amount > old.burst


@given(RATES, RATES, st.integers(1, 1000))
def test_edit_that_is_taken_back_has_forgotten_nothing(old: Rate, new: Rate, amount: int) -> None:
    taken = never(old, 0).further(amount, 0)
    there = taken.under(new).under(old)

    assert there.requests + there.beyond == pytest.approx(taken.requests)


def test_what_is_beyond_a_narrow_limit_is_worked_off_too() -> None:
    wide, narrow = rate(100, 60), rate(10, 60)
    taken = never(wide, 0).further(100, 0).under(narrow).further(1, 6)

    assert taken.under(wide).requests == pytest.approx(10 + 80)  # 6 s work off ten of the ninety
    assert taken.under(wide).further(1, 600).requests == 1
