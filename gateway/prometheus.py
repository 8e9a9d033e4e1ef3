"""Metrics as Prometheus reads them: families made from a snapshot of what was counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from gateway.metrics import OVERHEAD_SECONDS, SECONDS, Snapshot

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class _Family(NamedTuple):
    """A family of the snapshot: what it counts and by which labels; with bounds, a histogram."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


_ROUTE: Final = ("connector", "endpoint")
_HISTOGRAMS: Final = (
    _Family(
        "gateway_request_duration_seconds",
        "From the first byte in to the last byte out.",
        _ROUTE,
        SECONDS,
    ),
    _Family(
        "gateway_upstream_duration_seconds",
        "Waiting for the upstream's answer to begin.",
        _ROUTE,
        SECONDS,
    ),
    _Family(
        "gateway_overhead_seconds",
        "The gateway's own time before the answer begins.",
        _ROUTE,
        OVERHEAD_SECONDS,
    ),
    _Family(
        "gateway_time_to_first_byte_seconds",
        "From the request to the first byte of its answer.",
        _ROUTE,
        SECONDS,
    ),
    _Family(
        "gateway_usage_flush_duration_seconds", "Writing one batch of usage records.", (), SECONDS
    ),
)
_COUNTERS: Final = (
    _Family(
        "gateway_requests",
        "Finished requests, by who made the answer.",
        (*_ROUTE, "method", "code", "source"),
    ),
    _Family("gateway_rejections", "Refusals, by the filter that made them.", ("filter", "code")),
    _Family(
        "gateway_limit_decisions",
        "What limits decided, each by itself: all limits of an admitted request, "
        "and of a refused one those that had no room.",
        ("policy", "decision", "mode"),
    ),
    _Family("gateway_retries", "Attempts beyond the first.", ("connector",)),
    _Family("gateway_usage_records", "Usage records made."),
    _Family("gateway_usage_records_dropped", "Usage records that could not be kept."),
    _Family("gateway_log_lines_dropped", "Lines of the log that could not be written."),
)
_GAUGES: Final = (
    _Family("gateway_in_flight_requests", "Requests being served."),
    _Family("gateway_streams_open", "Answers being streamed."),
    _Family("gateway_usage_queue_depth", "Usage records not written yet."),
    _Family("gateway_config_version", "Grows with each change of configuration."),
    _Family(
        "gateway_config_snapshot_seconds",
        "Only while a snapshot serves in PostgreSQL's place: from when it is, in Unix seconds.",
    ),
    _Family(
        "gateway_config_changes_by",
        "1 for the way by which changes of configuration come here now; none of them: they don't.",
        ("way",),
    ),
    _Family("gateway_config_last_reload_success", "1 when the last reload was good."),
    _Family("gateway_dependency_up", "1 when it answers.", ("name",)),
    _Family(
        "gateway_background_work_failing",
        "1 while background work fails and is tried again, 0 once it works again.",
        ("task",),
    ),
    _Family("gateway_build_info", "The version.", ("version",)),
    _Family(
        "gateway_breaker_state",
        "0 closed, 1 half-open, 2 open: the worst of the connector's targets.",
        ("connector",),
    ),
    _Family(
        "gateway_upstream_healthy",
        "The share of the connector's targets that answer well; 1 is all.",
        ("connector",),
    ),
)


def families(snapshot: Snapshot) -> Iterator[Metric]:
    """All families, those without a value too."""
    for shown, kind in ((_COUNTERS, CounterMetricFamily), (_GAUGES, GaugeMetricFamily)):
        for name, text, labels, _ in shown:
            family = kind(name, text, labels=labels)
            for values, (count,) in snapshot[name]:
                family.add_metric(values, count)
            yield family
    for name, text, labels, bounds in _HISTOGRAMS:
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for values, (*counts, total) in snapshot[name]:
            histogram.add_metric(values, buckets(bounds, counts), total)
        yield histogram


def buckets(bounds: Sequence[float], counts: Sequence[float]) -> list[tuple[str, float]]:
    """The counts up to each bound, as Prometheus wants them."""
    names = [*map(repr, bounds), "+Inf"]
    return [*zip(names, accumulate(counts), strict=True)]


class _Counted(Collector):
    """prometheus_client's protocol for what is counted elsewhere."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The families as they stand."""
        return families(self._read())


def registry_of(read: Callable[[], Snapshot]) -> CollectorRegistry:
    """A registry of what is counted, read at each scrape, and of the process's own metrics."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    registry.register(_Counted(read))
    return registry


def expose(registry: CollectorRegistry) -> bytes:
    """The registry in Prometheus's text format."""
    return generate_latest(registry)
