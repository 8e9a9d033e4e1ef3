"""What one process counts: plain counters on the hot path, and a snapshot of them when scraped.

prometheus_client's own children take a lock and several calls for each observation; here an
observation is one bisection and two additions. Labels are bounded by configuration. How a snapshot
is shown is in gateway/prometheus.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from gateway.changes import CHANNEL, WAYS
from gateway.limits.contract import Decision

Snapshot = dict[str, list[tuple[tuple[str, ...], list[float]]]]
"""For each family the values of its labels, and one number; or a histogram's counts and its sum.

It can be sent to another process, and those of several processes be added up.
"""
SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
)  # fmt: skip
OVERHEAD_SECONDS: Final = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
)  # fmt: skip
_FIRST_BYTE, _UPSTREAM, _OVERHEAD = (number * (len(SECONDS) + 2) for number in (1, 2, 3))
"""Where histograms begin in a route's list: each is its counts, and the sum at the end."""
_MOST_SERIES: Final = 20_000
_OTHER: Final = "_other"
"""No connector has this name: those beyond the bound are counted under it."""
_KNOWN_METHODS: Final = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])


class UpstreamCondition(Protocol):
    """How a connector's upstream does: its worst breaker (0, 1, 2), and the share of healthy targets."""

    @property
    def state(self) -> int: ...
    @property
    def healthy(self) -> float: ...


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

    def values(self) -> list[float]:
        """The counts, and the sum at the end."""
        return [*self.counts, self.total]


class Route:
    """The histograms of one (connector, endpoint), in one list: there may be thousands of them."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: list[float] = [0] * (_OVERHEAD + len(OVERHEAD_SECONDS) + 2)

    def observe(self, total_s: float, first_byte_s: float, own_s: float, upstream_s: float) -> None:
        """Count the times of one request; one that reached no upstream did not wait for it."""
        counts = self._counts
        counts[bisect_left(SECONDS, total_s)] += 1
        counts[_FIRST_BYTE - 1] += total_s
        counts[_FIRST_BYTE + bisect_left(SECONDS, first_byte_s)] += 1
        counts[_UPSTREAM - 1] += first_byte_s
        if upstream_s:
            counts[_UPSTREAM + bisect_left(SECONDS, upstream_s)] += 1
            counts[_OVERHEAD - 1] += upstream_s
        counts[_OVERHEAD + bisect_left(OVERHEAD_SECONDS, own_s)] += 1
        counts[-1] += own_s

    def duration(self) -> list[float]:
        """The counts and the sum of what requests took in all."""
        return self._counts[:_FIRST_BYTE]

    def first_byte(self) -> list[float]:
        """Those until the first byte of the answer."""
        return self._counts[_FIRST_BYTE:_UPSTREAM]

    def upstream(self) -> list[float]:
        """Those of waiting for the upstream."""
        return self._counts[_UPSTREAM:_OVERHEAD]

    def overhead(self) -> list[float]:
        """Those of the gateway's own time."""
        return self._counts[_OVERHEAD:]


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
        self._in_flight: list[Callable[[], int]] = []
        self.streams_open = 0
        self.usage_records = {"written": 0, "dropped": 0}
        self.usage_flush = Histogram(SECONDS)
        self.usage_queue_depth: Callable[[], int] = lambda: 0
        self._lines_dropped: Callable[[], int] = lambda: 0
        self._config_version: Callable[[], int] = lambda: 0
        self._way: Callable[[], str] = str
        self._snapshot_at: Callable[[], float | None] = lambda: None
        self._failing: dict[str, bool] = {}
        self._conditions: Callable[[], Mapping[str, UpstreamCondition]] = dict
        self._shares: Callable[[], Mapping[str, float]] = dict
        self.config_reloaded = True

    @property
    def in_flight(self) -> int:
        """How many requests the servers are serving."""
        return sum(read() for read in self._in_flight)

    def finished(
        self,
        connector: str,
        endpoint: str,
        method: str,
        code: int,
        source: str,
        *,
        total_s: float,
        first_byte_s: float,
        own_s: float,
        upstream_s: float,
    ) -> None:
        """Count a finished request and its times.

        The connector and the endpoint are empty for a request that reached none. Series are never
        dropped, or the sum of several processes' counters would go back; when there are too many,
        the requests of those that are new are counted together.
        """
        if method not in _KNOWN_METHODS:
            method = "other"
        key = (connector, endpoint, method, code, source)
        requests = self.requests
        if (count := requests.get(key)) is not None:
            requests[key] = count + 1
            route = self.routes[connector, endpoint]
        else:
            if len(requests) >= _MOST_SERIES:
                connector = endpoint = _OTHER
                key = (connector, endpoint, method, code, source)
            requests[key] = requests.get(key, 0) + 1
            route = self.routes.setdefault((connector, endpoint), Route())
        route.observe(total_s, first_byte_s, own_s, upstream_s)

    def watch_server(self, in_flight: Callable[[], int]) -> None:
        """Read at each scrape how many requests a server is serving."""
        self._in_flight.append(in_flight)

    def watch_usage_queue(self, depth: Callable[[], int]) -> None:
        """Read at each scrape how many usage records wait."""
        self.usage_queue_depth = depth

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Read at each scrape how many lines of the log were dropped."""
        self._lines_dropped = dropped

    def watch_directory(self, version: Callable[[], int], way: Callable[[], str]) -> None:
        """Read the configuration's version, and how its changes come here, at each scrape."""
        self._config_version = version
        self._way = way

    def watch_snapshot(self, at: Callable[[], float | None]) -> None:
        """Read at each scrape from when the snapshot is that serves in PostgreSQL's place, if one does."""
        self._snapshot_at = at

    def work_ended(self, name: str, *, is_good: bool) -> None:
        """Remember how a turn of background work ended that must succeed, once one has failed."""
        if not is_good or name in self._failing:
            self._failing[name] = not is_good

    def watch_upstreams(
        self,
        conditions: Callable[[], Mapping[str, UpstreamCondition]],
        shares: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """Read at each scrape how connectors' upstreams do: in use, and by health checks."""
        self._conditions = conditions
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
        if connector not in self.retries and len(self.retries) >= _MOST_SERIES:
            connector = _OTHER
        self.retries[connector] = self.retries.get(connector, 0) + further

    def stream_opened(self) -> None:
        """Count an answer that leaves in pieces, until `stream_closed`."""
        self.streams_open += 1

    def stream_closed(self) -> None:
        """An answer in pieces is over."""
        self.streams_open -= 1

    def batch_written(self, written: int, dropped: int, seconds: float) -> None:
        """Count a batch of usage records, and those of it that could not be kept."""
        self.usage_records["written"] += written
        self.usage_records["dropped"] += dropped
        self.usage_flush.observe(seconds)

    def records_dropped(self, count: int) -> None:
        """Count usage records that are lost."""
        self.usage_records["dropped"] += count

    def dependency_answered(self, name: str, *, is_up: bool) -> None:
        """Remember whether something that we depend on answered when it was last turned to."""
        self.dependencies[name] = is_up

    def reloaded(self, *, is_good: bool) -> None:
        """Remember whether the last reload of the configuration was good."""
        self.config_reloaded = is_good

    def snapshot(self) -> Snapshot:
        """All that is counted, and what is watched, as it stands: plain data of its own."""
        routes = self.routes.items()
        shares = dict(self._shares())
        conditions = self._conditions()
        for slug, standing in conditions.items():
            shares[slug] = min(standing.healthy, shares.get(slug, 1.0))
        way = self._way()
        up = {**self.dependencies, "announcements": way == CHANNEL}
        return {
            "gateway_requests": [
                ((connector, endpoint, method, str(code), source), [count])
                for (connector, endpoint, method, code, source), count in self.requests.items()
            ],
            "gateway_request_duration_seconds": [(n, r.duration()) for n, r in routes],
            "gateway_upstream_duration_seconds": [(n, r.upstream()) for n, r in routes],
            "gateway_overhead_seconds": [(n, r.overhead()) for n, r in routes],
            "gateway_time_to_first_byte_seconds": [(n, r.first_byte()) for n, r in routes],
            "gateway_usage_flush_duration_seconds": [((), self.usage_flush.values())],
            "gateway_rejections": [(names, [count]) for names, count in self.rejections.items()],
            "gateway_limit_decisions": [
                (names, [count]) for names, count in self.limit_decisions.items()
            ],
            "gateway_retries": [((slug,), [count]) for slug, count in self.retries.items()],
            "gateway_usage_records": [((), [sum(self.usage_records.values())])],
            "gateway_usage_records_dropped": [((), [self.usage_records["dropped"]])],
            "gateway_in_flight_requests": [((), [self.in_flight])],
            "gateway_streams_open": [((), [self.streams_open])],
            "gateway_log_lines_dropped": [((), [self._lines_dropped()])],
            "gateway_usage_queue_depth": [((), [self.usage_queue_depth()])],
            "gateway_config_version": [((), [self._config_version()])],
            "gateway_config_snapshot_seconds": [((), [at])] if (at := self._snapshot_at()) else [],
            "gateway_config_changes_by": [((each,), [float(each == way)]) for each in WAYS],
            "gateway_config_last_reload_success": [((), [float(self.config_reloaded)])],
            "gateway_dependency_up": [((name,), [float(is_up)]) for name, is_up in up.items()],
            "gateway_background_work_failing": [
                ((name,), [float(fails)]) for name, fails in self._failing.items()
            ],
            "gateway_build_info": [((self._version,), [1])],
            "gateway_breaker_state": [((slug,), [s.state]) for slug, s in conditions.items()],
            "gateway_upstream_healthy": [((slug,), [share]) for slug, share in shares.items()],
        }
