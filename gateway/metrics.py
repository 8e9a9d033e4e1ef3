"""Prometheus metrics: plain counters on the hot path, turned into families when scraped.

prometheus_client's own children take a lock and several calls for each observation; here an
observation is one bisection and two additions. Labels are bounded by configuration.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from gateway.limits.contract import Decision
    from gateway.upstream.targets import Standing

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
)  # fmt: skip
OVERHEAD_SECONDS: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
_MOST_SERIES: Final = 20_000
_KNOWN_METHODS: Final = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])


class Histogram:
    """Counts by upper bound (seconds), the last one for what is beyond them all, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as Prometheus wants them."""
        found, running = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            running += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return found


class Route:
    """The histograms of one (connector, endpoint)."""

    __slots__ = ("duration", "first_byte", "overhead", "upstream")

    def __init__(self) -> None:
        self.duration = Histogram(SECONDS)
        self.upstream = Histogram(SECONDS)
        self.overhead = Histogram(OVERHEAD_SECONDS)
        self.first_byte = Histogram(SECONDS)


class Metrics:
    """Everything that one process counts. Not thread-safe: the event loop is the only writer."""

    def __init__(self, version: str) -> None:
        self._version = version
        self.requests: dict[tuple[str, str, str, int, str], int] = {}
        self.routes: dict[tuple[str, str], Route] = {}
        self.rejections: dict[tuple[str, str], int] = {}
        self._limit_decisions: dict[tuple[bool, str], dict[str, int]] = defaultdict(
            lambda: defaultdict(int)
        )
        self.retries: dict[str, int] = {}
        self.dependencies: dict[str, bool] = {}
        self.in_flight = 0
        self.streams_open = 0
        self.usage_records = {"written": 0, "dropped": 0}
        self.usage_flush = Histogram(SECONDS)
        self.usage_queue_depth: Callable[[], int] = lambda: 0
        self._config_version: Callable[[], int] = lambda: 0
        self._hearing: Callable[[], bool] = lambda: False
        self._standings: Callable[[], Mapping[str, Standing]] = dict
        self._shares: Callable[[], Mapping[str, float]] = dict
        self.config_reloaded = True

    def request(
        self, connector: str, endpoint: str, method: str, code: int, source: str
    ) -> Route | None:
        """Count a finished request; answers its route's histograms, None past the series limit."""
        if method not in _KNOWN_METHODS:
            method = "other"
        key = (connector, endpoint, method, code, source)
        requests = self.requests
        if (count := requests.get(key)) is not None:
            requests[key] = count + 1
            return self.routes[connector, endpoint]
        if len(requests) >= _MOST_SERIES:
            return None
        requests[key] = 1
        return self.routes.setdefault((connector, endpoint), Route())

    def watch_directory(self, version: Callable[[], int], hearing: Callable[[], bool]) -> None:
        """Read the configuration's version, and whether its changes are heard, at each scrape."""
        self._config_version = version
        self._hearing = hearing

    def watch_upstreams(
        self,
        standings: Callable[[], Mapping[str, Standing]],
        shares: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """Read at each scrape how connectors' upstreams do: in use, and by health checks."""
        self._standings = standings
        self._shares = shares

    def rejected(self, stage: str, code: str) -> None:
        """Count a refusal by the filter that made it."""
        self.rejections[stage, code] = self.rejections.get((stage, code), 0) + 1

    def limit_decided(self, policy: str, mode: str, *, admitted: bool) -> None:
        """Count what one limit decided in memory, redis …"""
        self._limit_decisions[admitted, mode][policy] += 1

    def limits_decided(self, decision: Decision) -> None:
        """Count each limit of an admitted request, or those that had no room for a refused one."""
        admitted = decision.admitted
        counts = self._limit_decisions[admitted, decision.mode]
        for standing in decision.standings:
            if admitted or not standing.admitted:
                counts[standing.limit.policy] += 1

    @property
    def limit_decisions(self) -> dict[tuple[str, str, str], int]:
        """How often limits decided, by policy, admitted or refused, and mode."""
        return {
            (policy, "admitted" if admitted else "refused", mode): count
            for (admitted, mode), counts in self._limit_decisions.items()
            for policy, count in counts.items()
        }

    def retried(self, connector: str, further: int = 1) -> None:
        """Count attempts at an upstream beyond a request's first."""
        self.retries[connector] = self.retries.get(connector, 0) + further

    def registry(self) -> CollectorRegistry:
        """A registry with these and the process's own metrics."""
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(self)
        return registry

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's protocol: the families as they stand."""
        yield from self._requests()
        yield from self._histograms()
        yield from self._counters()
        yield from self._gauges()
        yield from self._upstreams()

    def _requests(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "gateway_requests",
            "Finished requests, by who made the answer.",
            labels=["connector", "endpoint", "method", "code", "source"],
        )
        for (connector, endpoint, method, code, source), count in self.requests.items():
            family.add_metric([connector, endpoint, method, str(code), source], count)
        yield family

    def _histograms(self) -> Iterator[Metric]:
        for name, attribute, text in (
            ("request_duration", "duration", "From the first byte in to the last byte out."),
            ("upstream_duration", "upstream", "Waiting for the upstream's answer to begin."),
            ("overhead", "overhead", "The gateway's own time before the answer begins."),
            (
                "time_to_first_byte",
                "first_byte",
                "From the request to the first byte of its answer.",
            ),
        ):
            family = HistogramMetricFamily(
                f"gateway_{name}_seconds", text, labels=["connector", "endpoint"]
            )
            for (connector, endpoint), route in self.routes.items():
                histogram: Histogram = getattr(route, attribute)
                family.add_metric([connector, endpoint], histogram.buckets(), histogram.total)
            yield family
        flush = HistogramMetricFamily(
            "gateway_usage_flush_duration_seconds", "Writing one batch of usage records."
        )
        flush.add_metric([], self.usage_flush.buckets(), self.usage_flush.total)
        yield flush

    def _counters(self) -> Iterator[Metric]:
        rejections = CounterMetricFamily(
            "gateway_rejections",
            "Refusals, by the filter that made them.",
            labels=["filter", "code"],
        )
        for labels, count in self.rejections.items():
            rejections.add_metric(list(labels), count)
        yield rejections
        decisions = CounterMetricFamily(
            "gateway_limit_decisions",
            "What limits decided, each by itself: all limits of an admitted request, "
            "and of a refused one those that had no room.",
            labels=["policy", "decision", "mode"],
        )
        for decision, count in self.limit_decisions.items():
            decisions.add_metric(list(decision), count)
        yield decisions
        retries = CounterMetricFamily(
            "gateway_retries", "Attempts beyond the first.", labels=["connector"]
        )
        for connector, count in self.retries.items():
            retries.add_metric([connector], count)
        yield retries
        records = self.usage_records
        yield CounterMetricFamily(
            "gateway_usage_records", "Usage records made.", value=sum(records.values())
        )
        yield CounterMetricFamily(
            "gateway_usage_records_dropped",
            "Usage records that could not be kept.",
            value=records["dropped"],
        )

    def _upstreams(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "gateway_breaker_state",
            "0 closed, 1 half-open, 2 open: the worst of the connector's targets.",
            labels=["connector"],
        )
        healthy = GaugeMetricFamily(
            "gateway_upstream_healthy",
            "The share of the connector's targets that answer well; 1 is all.",
            labels=["connector"],
        )
        shares = dict(self._shares())
        for connector, standing in self._standings().items():
            states.add_metric([connector], float(standing.state))
            shares[connector] = min(standing.healthy, shares.get(connector, 1.0))
        for connector, share in shares.items():
            healthy.add_metric([connector], share)
        yield from (states, healthy)

    def _gauges(self) -> Iterator[Metric]:
        for name, text, value in (
            ("in_flight_requests", "Requests being served.", self.in_flight),
            ("streams_open", "Answers being streamed.", self.streams_open),
            ("usage_queue_depth", "Usage records not written yet.", self.usage_queue_depth()),
            ("config_version", "Grows with each change of configuration.", self._config_version()),
            (
                "config_last_reload_success",
                "1 when the last reload was good.",
                self.config_reloaded,
            ),
        ):
            yield GaugeMetricFamily(f"gateway_{name}", text, value=float(value))
        up = GaugeMetricFamily("gateway_dependency_up", "1 when it answers.", labels=["name"])
        for name, is_up in {**self.dependencies, "announcements": self._hearing()}.items():
            up.add_metric([name], float(is_up))
        yield up
        build = GaugeMetricFamily("gateway_build_info", "The version.", labels=["version"])
        build.add_metric([self._version], 1)
        yield build


def expose(registry: CollectorRegistry) -> bytes:
    """The registry in Prometheus's text format."""
    return generate_latest(registry)
