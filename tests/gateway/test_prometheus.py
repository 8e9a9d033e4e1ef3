"""Prometheus can read what was counted, and the names are the contract's."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.metrics import OVERHEAD_SECONDS, SECONDS, Histogram, Metrics, Snapshot
from gateway.prometheus import CONTENT_TYPE, buckets, expose, families, registry_of
from gateway.upstream.breaker import State
from gateway.upstream.targets import Condition

NAMES = {
    "gateway_requests_total", "gateway_request_duration_seconds", "gateway_upstream_duration_seconds",
    "gateway_overhead_seconds", "gateway_time_to_first_byte_seconds", "gateway_in_flight_requests",
    "gateway_streams_open", "gateway_rejections_total", "gateway_limit_decisions_total",
    "gateway_retries_total", "gateway_usage_records_total", "gateway_usage_queue_depth",
    "gateway_usage_records_dropped_total", "gateway_usage_flush_duration_seconds",
    "gateway_config_version", "gateway_config_last_reload_success", "gateway_dependency_up",
    "gateway_build_info", "gateway_breaker_state", "gateway_upstream_healthy",
    "gateway_log_lines_dropped_total",
    "gateway_config_changes_by", "gateway_background_work_failing",
    "gateway_config_snapshot_seconds",
}  # fmt: skip
LABELS = {
    "gateway_requests_total": {"connector", "endpoint", "method", "code", "source"},
    "gateway_rejections_total": {"filter", "code"},
    "gateway_limit_decisions_total": {"policy", "decision", "mode"},
    "gateway_retries_total": {"connector"},
    "gateway_dependency_up": {"name"},
    "gateway_build_info": {"version"},
    "gateway_config_changes_by": {"way"},
    "gateway_background_work_failing": {"task"},
    "gateway_request_duration_seconds_count": {"connector", "endpoint"},
    "gateway_overhead_seconds_sum": {"connector", "endpoint"},
}

TIMES = {"total_s": 0.03, "first_byte_s": 0.03, "own_s": 0.03, "upstream_s": 0.03}


def scraped(metrics: Metrics) -> list[Sample]:
    text = expose(registry_of(metrics.snapshot)).decode("utf-8")
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    found = [s.value for s in scraped(metrics) if s.name == name and s.labels == labels]
    assert len(found) < 2
    return found[0] if found else None


@pytest.fixture
def metrics() -> Metrics:
    """Metrics that have seen one of everything."""
    made = Metrics("1.2.3")
    made.finished("maps", "geocode", "GET", 200, "upstream", **TIMES)
    made.rejected("quota", "quota_exceeded")
    made.limit_decided("daily", "memory", admitted=False)
    made.retried("maps")
    made.work_ended("quota counts", is_good=False)
    made.watch_snapshot(lambda: 1.0)
    made.batch_written(3, 1, 0.2)
    made.dependency_answered("postgresql", is_up=True)
    return made


def test_names_are_those_of_the_contract(metrics: Metrics) -> None:
    text = expose(registry_of(metrics.snapshot)).decode("utf-8")
    found = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE gateway_")}

    assert found == NAMES


def test_labels_are_those_of_the_contract(metrics: Metrics) -> None:
    samples = scraped(metrics)

    for name, labels in LABELS.items():
        assert {frozenset(s.labels) for s in samples if s.name == name} == {frozenset(labels)}


def test_every_family_says_what_it_counts(metrics: Metrics) -> None:
    text = expose(registry_of(metrics.snapshot)).decode("utf-8")

    assert "version=0.0.4" in CONTENT_TYPE or "version=1.0.0" in CONTENT_TYPE
    for family in text_string_to_metric_families(text):
        assert family.documentation.strip()
        assert family.type != "unknown"


def test_process_tells_of_itself(metrics: Metrics) -> None:
    names = {sample.name for sample in scraped(metrics)}

    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= names


def test_requests_are_counted_by_route_method_status_and_source() -> None:
    metrics = Metrics("1")
    for code, source in ((200, "upstream"), (200, "upstream"), (429, "gateway")):
        metrics.finished("maps", "geocode", "GET", code, source, **TIMES)

    labels = {"connector": "maps", "endpoint": "geocode", "method": "GET"}
    assert value(metrics, "gateway_requests_total", **labels, code="200", source="upstream") == 2
    assert value(metrics, "gateway_requests_total", **labels, code="429", source="gateway") == 1
    assert value(metrics, "gateway_requests_total", **labels, code="200", source="gateway") is None


def test_gauges_show_what_is_so_at_the_scrape() -> None:
    metrics, depth, way = Metrics("1.2.3"), [7], ["channel"]
    metrics.watch_usage_queue(lambda: depth[0])
    metrics.watch_directory(lambda: 42, lambda: way[0])
    metrics.watch_server(lambda: 2)
    metrics.watch_server(lambda: 1)
    for _ in range(3):
        metrics.stream_opened()
    metrics.stream_closed()
    metrics.reloaded(is_good=False)
    metrics.dependency_answered("postgresql", is_up=False)

    assert value(metrics, "gateway_in_flight_requests") == 3
    assert value(metrics, "gateway_streams_open") == 2
    assert value(metrics, "gateway_usage_queue_depth") == 7
    metrics.watch_log(lambda: 5)
    assert value(metrics, "gateway_log_lines_dropped_total") == 5
    assert value(metrics, "gateway_config_version") == 42
    assert value(metrics, "gateway_config_last_reload_success") == 0
    assert value(metrics, "gateway_dependency_up", name="postgresql") == 0
    assert value(metrics, "gateway_dependency_up", name="announcements") == 1
    assert value(metrics, "gateway_build_info", version="1.2.3") == 1
    depth[0], way[0] = 0, "poll"
    assert value(metrics, "gateway_usage_queue_depth") == 0
    assert value(metrics, "gateway_dependency_up", name="announcements") == 0
    ways = {
        way: value(metrics, "gateway_config_changes_by", way=way) for way in ("channel", "poll")
    }
    assert ways == {"channel": 0, "poll": 1}


def test_work_that_fails_is_shown_from_its_first_failure_on() -> None:
    metrics = Metrics("1")
    metrics.work_ended("quota counts", is_good=True)
    assert value(metrics, "gateway_background_work_failing", task="quota counts") is None
    metrics.work_ended("quota counts", is_good=False)
    assert value(metrics, "gateway_background_work_failing", task="quota counts") == 1
    metrics.work_ended("quota counts", is_good=True)
    assert value(metrics, "gateway_background_work_failing", task="quota counts") == 0


def test_counters_count_each_by_its_labels() -> None:
    metrics = Metrics("1")
    for _ in range(3):
        metrics.rejected("authorize", "forbidden")
        metrics.limit_decided("rate", "memory", admitted=True)
        metrics.retried("maps")
    metrics.batch_written(5, 1, 0.1)
    metrics.records_dropped(1)

    assert value(metrics, "gateway_rejections_total", filter="authorize", code="forbidden") == 3
    assert value(metrics, "gateway_retries_total", connector="maps") == 3
    decisions = {"policy": "rate", "decision": "admitted", "mode": "memory"}
    assert value(metrics, "gateway_limit_decisions_total", **decisions) == 3
    assert value(metrics, "gateway_usage_records_total") == 7
    assert value(metrics, "gateway_usage_records_dropped_total") == 2


def test_upstreams_are_told_as_they_stand_at_the_scrape() -> None:
    metrics, standings = Metrics("1"), {"maps": Condition(State.CLOSED, 1.0)}
    metrics.watch_upstreams(lambda: standings)
    for standing in (Condition(State.HALF_OPEN, 0.75), Condition(State.OPEN, 0.0)):
        standings["maps"] = standing

        assert value(metrics, "gateway_breaker_state", connector="maps") == standing.state
        assert value(metrics, "gateway_upstream_healthy", connector="maps") == standing.healthy
    standings.clear()
    assert value(metrics, "gateway_breaker_state", connector="maps") is None


def test_worse_of_requests_and_checks_is_how_healthy_an_upstream_is() -> None:
    metrics = Metrics("1")
    standings = {"a": Condition(State.CLOSED, 1.0), "b": Condition(State.OPEN, 0.0)}
    metrics.watch_upstreams(lambda: standings, lambda: {"a": 0.5, "b": 1.0, "unused": 0.25})

    found = {name: value(metrics, "gateway_upstream_healthy", connector=name) for name in standings}
    assert found == {"a": 0.5, "b": 0.0}
    assert value(metrics, "gateway_upstream_healthy", connector="unused") == 0.25
    assert value(metrics, "gateway_breaker_state", connector="unused") is None


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_name_of_a_connector_or_an_endpoint_breaks_the_format(
    connector: str, endpoint: str
) -> None:
    metrics = Metrics("1")
    metrics.finished(connector, endpoint, "GET", 200, "upstream", **TIMES)
    wanted = {
        "connector": connector,
        "endpoint": endpoint,
        "method": "GET",
        "code": "200",
        "source": "upstream",
    }

    assert value(metrics, "gateway_requests_total", **wanted) == 1


@pytest.mark.parametrize("bounds", [SECONDS, OVERHEAD_SECONDS])
@given(observed=st.lists(st.floats(0, 1000), max_size=30))
def test_histogram_counts_each_observation_once_up_to_its_bound(
    bounds: tuple[float, ...], observed: list[float]
) -> None:
    histogram = Histogram(bounds)
    for seconds in observed:
        histogram.observe(seconds)
    found = buckets(bounds, histogram.counts)

    assert [float(bound) for bound, _ in found] == [*bounds, float("inf")]
    assert [count for _, count in found] == [
        sum(seconds <= float(bound) for seconds in observed) for bound, _ in found
    ]
    assert histogram.total == pytest.approx(sum(observed))


def added(one: Snapshot, other: Snapshot) -> Snapshot:
    """Add up the counts of two processes, as plain data."""
    sums: Snapshot = {}
    for name in one:
        rows: dict[tuple[str, ...], list[float]] = {}
        for labels, values in (*one[name], *other[name]):
            rows[labels] = [a + b for a, b in zip(rows.get(labels, [0] * 99), values, strict=False)]
        sums[name] = [*rows.items()]
    return sums


def test_snapshots_of_processes_can_be_sent_and_added_up(metrics: Metrics) -> None:
    metrics.finished("maps", "geocode", "GET", 404, "gateway", **TIMES)
    sent: Snapshot = pickle.loads(pickle.dumps(metrics.snapshot()))  # noqa: S301 - our own
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(added(sent, metrics.snapshot()))
        for sample in family.samples
    }

    assert found["gateway_requests_total", "maps", "geocode", "GET", "404", "gateway"] == 2
    assert found["gateway_request_duration_seconds_count", "maps", "geocode"] == 4
    assert found["gateway_request_duration_seconds_sum", "maps", "geocode"] == pytest.approx(0.12)
    assert found["gateway_usage_records_total",] == 8
