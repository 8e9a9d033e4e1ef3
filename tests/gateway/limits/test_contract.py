"""What a decision says by itself."""

from __future__ import annotations

from gateway.limits.contract import Concurrency, Decision, Limit, Quota, Rate, Standing

RATE = Rate("rate", "r", 10, 60, 10)
DAILY = Quota("daily", "q", 10, "day", "UTC")
PLACES = Concurrency("concurrent", "c", 1)


def standing(limit: Limit, wait_s: float) -> Standing:
    return Standing(limit, 0, wait_s, not wait_s, wait_s)


def test_refusal_names_the_limit_with_the_longest_wait() -> None:
    standings = (standing(RATE, 2), standing(DAILY, 0), standing(PLACES, 1))

    assert Decision(False, standings, "memory", 0).refusing.limit is RATE
    assert Decision(False, standings[1:], "memory", 0).refusing.limit is PLACES


def test_window_of_a_quota_is_its_period() -> None:
    assert (DAILY.window_s, DAILY._replace(period="month").window_s) == (86_400, 2_592_000)
