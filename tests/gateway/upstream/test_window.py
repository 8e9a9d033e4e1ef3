"""Counts of a rolling window, against a list of all events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.window import Window

SPAN_S, SLICE_S = 10.0, 1.0
STEPS = st.tuples(st.floats(0, 4), st.booleans())


def test_nothing_has_happened_at_first() -> None:
    assert Window(SPAN_S).counts(0) == (0, 0)


@pytest.mark.parametrize(
    ("now", "counts"), [(0, (3, 2)), (9.9, (3, 2)), (10, (1, 1)), (14.9, (1, 1)), (15, (0, 0))]
)
def test_events_leave_when_the_window_has_passed(now: float, counts: tuple[int, int]) -> None:
    window = Window(SPAN_S)
    window.add(0)
    window.add(0.5, bad=True)
    window.add(5, bad=True)

    assert window.counts(now) == counts


@given(st.lists(STEPS, max_size=60), st.floats(0, 25))
def test_counts_are_exact_to_one_slice(steps: list[tuple[float, bool]], later: float) -> None:
    window, events, now = Window(SPAN_S), [], 0.0
    for pause, bad in steps:
        now += pause
        window.add(now, bad=bad)
        events.append((now, bad))
    now += later
    everything, bad_ones = window.counts(now)

    surely = [bad for at, bad in events if at > now - SPAN_S + SLICE_S]
    perhaps = [bad for at, bad in events if at > now - SPAN_S]
    assert len(surely) <= everything <= len(perhaps)
    assert sum(surely) <= bad_ones <= sum(perhaps)


def test_event_that_turns_out_bad_is_still_one_event() -> None:
    window = Window(SPAN_S)
    window.add(0)
    window.add(0)
    window.fail_late(1)

    assert window.counts(1) == (2, 1)


def test_event_that_turns_out_bad_when_it_is_past_counts_as_new() -> None:
    window = Window(SPAN_S)
    window.add(0)
    window.fail_late(20)

    assert window.counts(20) == (1, 1)


def test_cleared_window_is_like_a_new_one() -> None:
    window = Window(SPAN_S)
    window.add(3, bad=True)
    window.clear()

    assert (window.counts(3), window.ends) == ((0, 0), 0.0)
    window.add(3)
    assert window.counts(3) == (1, 0)


@given(st.lists(st.floats(0, 4), max_size=200))
def test_it_stays_small(pauses: list[float]) -> None:
    window, now = Window(SPAN_S), 0.0
    for pause in pauses:
        now += pause
        window.add(now)

    assert len(window._notes) <= 11  # noqa: SLF001 - memory is the promise
