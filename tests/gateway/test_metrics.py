"""What a process counts: by bounded labels, and a snapshot is a copy."""

from __future__ import annotations

import pytest

from gateway.limits import contract
from gateway.limits.contract import Concurrency, Decision, Quota
from gateway.metrics import Metrics

TIMES = {"total_s": 0.03, "first_byte_s": 0.02, "own_s": 0.01, "upstream_s": 0.0}


def test_times_of_a_request_are_those_of_its_route() -> None:
    metrics = Metrics("1")
    for upstream_s in (0.0, 0.5):
        times = TIMES | {"upstream_s": upstream_s}
        metrics.finished("maps", "geocode", "GET", 200, "upstream", **times)
    route = metrics.routes["maps", "geocode"]

    assert [h.total for h in (route.duration, route.first_byte, route.overhead)] == [
        pytest.approx(total) for total in (0.06, 0.04, 0.02)
    ]
    assert sum(route.upstream.counts) == 1, "one that reached no upstream did not wait for it"


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

    assert len(metrics.requests) == len(metrics.routes) == 20_000
    for connector in ("one more", "c7"):
        metrics.finished(connector, "e", "GET", 200, "upstream", **TIMES)
    assert len(metrics.requests) == 20_000
    assert metrics.requests["c7", "e", "GET", 200, "upstream"] == 2
