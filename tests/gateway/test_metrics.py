"""What a process counts: by bounded labels, and a snapshot is a copy."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.limits import contract
from gateway.limits.contract import Concurrency, Decision, Quota
from gateway.metrics import OVERHEAD_SECONDS, SECONDS, Metrics

TIMES = {"total_s": 0.03, "first_byte_s": 0.02, "own_s": 0.01, "upstream_s": 0.0}


def test_times_of_a_request_are_those_of_its_route() -> None:
    metrics = Metrics("1")
    for upstream_s in (0.0, 0.5):
        times = TIMES | {"upstream_s": upstream_s}
        metrics.finished("maps", "geocode", "GET", 200, "upstream", **times)
    route = metrics.routes["maps", "geocode"]

    for found, bounds, slot, count, total in (
        (route.duration(), SECONDS, 0.05, 2, 0.06),
        (route.first_byte(), SECONDS, 0.025, 2, 0.04),
        (route.upstream(), SECONDS, 0.5, 1, 0.5),
        (route.overhead(), OVERHEAD_SECONDS, 0.01, 2, 0.02),
    ):
        expected = [0.0] * (len(bounds) + 1)
        expected[bounds.index(slot)] = count
        assert found == [*expected, pytest.approx(total)]


def test_limits_of_a_decision_are_counted_by_what_each_decided() -> None:
    metrics = Metrics("1")
    daily, places = Quota("daily", "d", 1, "day", "UTC"), Concurrency("concurrent", "c", 1)
    room = contract.Standing(places, 0, 0, True, 0)
    full, left = (contract.Standing(daily, 0, 9, has_room, 9) for has_room in (False, True))
    for decision in (
        Decision(True, (room, left), "memory", 0),
        Decision(False, (room, full), "memory", 0),
        Decision(False, (room, full), "local", 0),
    ):
        metrics.limits_decided(decision)

    assert metrics.limit_decisions == {
        ("concurrent", "admitted", "memory"): 1,
        ("daily", "admitted", "memory"): 1,
        ("daily", "refused", "memory"): 1,
        ("daily", "refused", "local"): 1,
    }


def test_snapshot_stays_as_it_was() -> None:
    metrics = Metrics("1")
    metrics.finished("maps", "geocode", "GET", 200, "upstream", **TIMES)
    before, again = metrics.snapshot(), metrics.snapshot()
    metrics.finished("maps", "geocode", "GET", 200, "upstream", **TIMES)
    metrics.stream_opened()

    assert before == again != metrics.snapshot()


@pytest.mark.parametrize("method", ["BREW", "get", "", "G\nET", "X" * 5000, "\x00", "é"])
def test_methods_that_a_caller_makes_up_share_one_series(method: str) -> None:
    metrics = Metrics("1")
    for suffix in ("", "1", "2"):
        metrics.finished("", "", method + suffix, 405, "gateway", **TIMES)

    assert {key[2] for key in metrics.requests} == {"other"}


def test_number_of_series_is_bounded() -> None:
    metrics = Metrics("1")
    for number in range(30_000):
        metrics.finished(f"c{number}", "e", "GET", 200, "upstream", **TIMES)

    assert len(metrics.requests) == len(metrics.routes) == 20_001
    for connector in ("one more", "c7"):
        metrics.finished(connector, "e", "GET", 200, "upstream", **TIMES)
    assert len(metrics.requests) == 20_001
    assert metrics.requests["c7", "e", "GET", 200, "upstream"] == 2
    assert metrics.requests["_other", "_other", "GET", 200, "upstream"] == 10_001
    assert sum(metrics.routes["_other", "_other"].duration()[:-1]) == 10_001


def test_number_of_connectors_that_retries_are_counted_of_is_bounded() -> None:
    metrics = Metrics("1")
    for number in range(30_000):
        metrics.retried(f"c{number}")

    assert len(metrics.retries) == 20_001
    assert metrics.retries["_other"] == 10_000


def test_series_of_a_route_take_a_kibibyte_however_much_is_counted() -> None:
    names = [(f"c{number}", "e") for number in range(2_000)]
    metrics = Metrics("1")
    tracemalloc.start()
    for turn in range(300):
        for connector, name in names if turn < 2 else names[:20]:
            times = [turn * number / 1_000 for number in range(1, 5)]
            given = dict(zip(TIMES, times, strict=True))
            metrics.finished(connector, name, "GET", 200, "upstream", **given)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert grown / len(names) < 1_300
