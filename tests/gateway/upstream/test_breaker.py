"""The circuit breaker, with a clock that is turned by hand."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.breaker import Breaker, BreakerSettings, State

SETTINGS = BreakerSettings()
STEPS = ("begin", "good", "bad", "gone", "fail_late", "wait")
CLOSED, HALF_OPEN, OPEN = State.CLOSED, State.HALF_OPEN, State.OPEN


def broken(now: float = 0.0, settings: BreakerSettings = SETTINGS) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker(settings)
    for _ in range(settings.least_attempts):
        breaker.failed(now, breaker.era)
    assert breaker.state is OPEN
    return breaker


def probing(now: float, breaker: Breaker) -> int:
    """Begin a probe; answers its era."""
    assert breaker.admits(now)
    breaker.begin()
    return breaker.era


def test_defaults_are_half_of_twenty_in_ten_seconds() -> None:
    assert BreakerSettings(50.0, 10.0, 20, 5.0, 60.0, 3) == SETTINGS


@pytest.mark.parametrize(
    ("good", "bad", "state"),
    [
        (0, 19, CLOSED), (0, 20, OPEN), (10, 9, CLOSED), (10, 10, OPEN), (11, 10, CLOSED),
        (1000, 999, CLOSED), (1000, 1000, OPEN), (20, 0, CLOSED), (19, 1, CLOSED),
    ],
)  # fmt: skip
def test_it_opens_at_the_share_of_failures_when_there_were_enough(
    good: int, bad: int, state: State
) -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(good):
        breaker.succeeded(0, 0)
    for _ in range(bad):
        breaker.failed(0, 0)

    assert breaker.state is state
    assert breaker.admits(0) == (state is CLOSED)


def test_failures_that_are_past_count_no_more() -> None:
    breaker = Breaker(SETTINGS)
    for second in range(100):
        breaker.failed(second, 0)

    assert breaker.state is CLOSED
    assert breaker.attempts(99) == 10


@pytest.mark.parametrize(
    ("later", "admits", "wait_s"), [(0, False, 5), (1.5, False, 3.5), (4.99, False, 0.01)]
)
def test_open_breaker_says_truly_when_to_come_back(
    later: float, admits: bool, wait_s: float
) -> None:
    breaker = broken(now=100)

    assert breaker.admits(100 + later) == admits
    assert breaker.wait_s(100 + later) == pytest.approx(wait_s)
    assert breaker.admits(100 + later + wait_s)


def test_three_probes_at_a_time_and_three_successes_close_it() -> None:
    breaker = broken()
    eras = [probing(5, breaker) for _ in range(3)]
    assert (breaker.state, breaker.admits(5), breaker.wait_s(5)) == (HALF_OPEN, False, 1)

    breaker.succeeded(6, eras[0])
    assert (breaker.state, breaker.admits(6)) == (HALF_OPEN, True)
    breaker.succeeded(6, eras[1])
    breaker.succeeded(6, eras[2])

    assert (breaker.state, breaker.admits(6)) == (CLOSED, True)


def test_failed_probe_opens_it_again_for_twice_as_long_up_to_a_minute() -> None:
    breaker, now, times = broken(), 0.0, []
    for _ in range(7):
        times.append(breaker.wait_s(now))
        now += breaker.wait_s(now)
        breaker.failed(now, probing(now, breaker))

    assert times == [5, 10, 20, 40, 60, 60, 60]


def test_time_starts_over_once_it_has_closed() -> None:
    breaker = broken()
    breaker.failed(5, probing(5, breaker))
    for _ in range(3):
        breaker.succeeded(15, probing(15, breaker))
    assert breaker.state is CLOSED
    for _ in range(20):
        breaker.failed(16, breaker.era)

    assert (breaker.state, breaker.wait_s(16)) == (OPEN, 5)


def test_closed_again_it_has_forgotten_the_failures_before() -> None:
    breaker = broken()
    for _ in range(3):
        breaker.succeeded(5, probing(5, breaker))
    breaker.failed(5, breaker.era)

    assert (breaker.state, breaker.attempts(5)) == (CLOSED, 2)


def test_probe_whose_caller_went_away_makes_room_for_another() -> None:
    breaker = broken()
    eras = [probing(5, breaker) for _ in range(3)]
    breaker.abandoned(eras[0])

    assert (breaker.state, breaker.admits(5)) == (HALF_OPEN, True)


@pytest.mark.parametrize("how", ["succeeded", "failed", "failed_late"])
def test_what_began_before_it_opened_says_nothing_of_the_time_since(how: str) -> None:
    """Requests that hang for long end when probes are under way."""
    breaker = Breaker(SETTINGS)
    early = breaker.era
    for _ in range(20):
        breaker.failed(0, early)
    eras = [probing(5, breaker) for _ in range(3)]
    for _ in range(50):
        getattr(breaker, how)(5, early)
        breaker.abandoned(early)
    assert (breaker.state, breaker.admits(5)) == (HALF_OPEN, False)
    for era in eras:
        breaker.succeeded(5, era)

    assert breaker.state is CLOSED


def test_answers_that_break_off_count_as_failures_instead() -> None:
    breaker = Breaker(SETTINGS)
    for _ in range(20):
        breaker.succeeded(0, 0)
    for count in range(10):
        assert (breaker.state, breaker.attempts(1)) == (CLOSED, 20), count
        breaker.failed_late(1, 0)

    assert breaker.state is OPEN


def test_standing_knows_that_the_time_is_over_before_anybody_asks() -> None:
    breaker = broken()

    assert [breaker.condition(now) for now in (0, 4.9, 5)] == [OPEN, OPEN, HALF_OPEN]
    assert Breaker(SETTINGS).condition(0) is CLOSED


@pytest.mark.parametrize(
    ("now", "idle"), [(0, False), (5, False), (64.9, False), (65, True), (1000, True)]
)
def test_open_breaker_is_idle_some_time_after_it_was_open(now: float, idle: bool) -> None:
    assert broken().is_idle(now, 60) == idle


def test_closed_breaker_is_idle_some_time_after_its_last_attempt() -> None:
    breaker = Breaker(SETTINGS)
    assert breaker.is_idle(1000, 60)
    breaker.succeeded(1000, 0)

    assert [breaker.is_idle(now, 60) for now in (1000, 1060, 1061)] == [False, False, True]


@pytest.mark.parametrize(
    ("changed", "failures"), [({"failure_percent": 100.0}, 20), ({"least_attempts": 3}, 3)]
)
def test_settings_decide(changed: dict[str, float], failures: int) -> None:
    settings = dataclasses.replace(SETTINGS, **changed)  # type: ignore[arg-type] # as the settings have it
    breaker = Breaker(settings)
    for _ in range(failures):
        assert breaker.state is CLOSED
        breaker.failed(0, 0)

    assert breaker.state is OPEN


def test_longest_time_that_is_shorter_than_the_first_does_not_shorten_it() -> None:
    breaker = broken(settings=dataclasses.replace(SETTINGS, longest_open_s=1))
    assert breaker.wait_s(0) == 5
    breaker.failed(5, probing(5, breaker))

    assert breaker.wait_s(5) == 5


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5))))
def test_never_more_probes_than_allowed_and_never_stuck(steps: list[tuple[str, int]]) -> None:
    breaker = Breaker(dataclasses.replace(SETTINGS, least_attempts=3))
    now, begun = 0.0, list[int]()
    for what, which in steps:
        if what == "begin":
            if breaker.admits(now):
                breaker.begin()
                begun.append(breaker.era)
        elif what == "wait":
            now += which
        elif begun:
            era = begun.pop(which % len(begun))
            if what == "good":
                breaker.succeeded(now, era)
            elif what == "bad":
                breaker.failed(now, era)
            elif what == "gone":
                breaker.abandoned(era)
            else:
                breaker.failed_late(now, era)
        if breaker.state is HALF_OPEN:
            assert begun.count(breaker.era) <= 3
    for era in begun:
        breaker.abandoned(era)

    assert breaker.admits(now + 60)
