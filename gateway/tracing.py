"""OpenTelemetry's SDK: spans of exchanges, sent to a collector by OTLP over HTTP.

The extra `otel` installs it; nothing of the gateway but the filter `trace` imports this module. Names
and values of attributes are those of the semantic conventions for HTTP, but there is no path and no
query of a request: what a caller puts there is its own business.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from gateway import __version__
from gateway.exchange import Exchange
from gateway.ids import is_traceparent

_METHODS: Final = frozenset(
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"]
)
_OTHER: Final = "_OTHER"
_NOBODY: Final = Context()
_GONE: Final = "client_gone"
"""The error of an exchange whose caller went away."""


class _Ids(RandomIdGenerator):
    """Random ids, but for the next ones where they are known already."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_trace_id(self) -> int:
        known, self.trace_id = self.trace_id, 0
        return known or super().generate_trace_id()

    def generate_span_id(self) -> int:
        known, self.span_id = self.span_id, 0
        return known or super().generate_span_id()


class Tracing:
    """Makes spans; a thread of the SDK's exports them. Where to, the OTEL_ variables say."""

    def __init__(self, service_name: str, ratio: float) -> None:
        self._ids = _Ids()
        named = {SERVICE_NAME: service_name} if service_name else {}
        resource = Resource.create({SERVICE_NAME: "service-gateway", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=resource.merge(OTELResourceDetector().detect()).merge(Resource(named)),
            id_generator=self._ids,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("service-gateway", __version__)

    def begin(self, exchange: Exchange) -> Trace:
        """Begin an exchange's span, and have the upstream get the id of another one below it."""
        method = _method(exchange.method)
        parent = _parent(exchange)
        if parent is None:
            self._ids.trace_id = int(exchange.traceparent[3:35], 16)
        server = self._tracer.start_span(
            method,
            _NOBODY if parent is None else set_span_in_context(NonRecordingSpan(parent), _NOBODY),
            SpanKind.SERVER,
            {"http.request.method": method, "gateway.request_id": exchange.request_id},
            start_time=int(exchange.at * 1e9),
        )
        return Trace(self._tracer, self._ids, exchange, server)

    def close(self) -> None:
        """Export what waits; it is done at the process's end in any case."""
        self._provider.shutdown()


class Trace:
    """The spans of one exchange. Ended once; what comes after that changes nothing."""

    def __init__(self, tracer: Tracer, ids: _Ids, exchange: Exchange, server: Span) -> None:
        self._tracer = tracer
        self._ids = ids
        self._exchange = exchange
        self._server = server
        self._client_id = ids.generate_span_id()
        context = server.get_span_context()
        exchange.traceparent = (
            f"00-{context.trace_id:032x}-{self._client_id:016x}-{context.trace_flags:02x}"
        )

    def gone(self) -> None:
        """The caller went away before its answer was complete."""
        self.end(0, _GONE)

    def end(self, status: int, error: str = "") -> None:
        """The exchange is over, answered with this status; zero: with none."""
        server, exchange = self._server, self._exchange
        if not server.is_recording():
            return
        connector, endpoint = exchange.known_connector, exchange.known_endpoint
        if connector is not None and endpoint is not None:
            route = f"/{connector.slug}{endpoint.path}"
            server.update_name(f"{_method(exchange.method)} {route}")
            server.set_attributes({"http.route": route, "gateway.endpoint": endpoint.name})
        if connector is not None:
            server.set_attribute("gateway.connector", connector.slug)
        if status:
            server.set_attribute("http.response.status_code", status)
        has_broken_off = bool(error) and status < 400
        error = error or exchange.outcome.error_code
        if has_broken_off or status >= 500:
            server.set_attribute("error.type", error or str(status))
            server.set_status(StatusCode.ERROR)
        elif error:
            server.set_attribute("gateway.error_code", error)
        if exchange.outcome.attempts:
            self._end_client(status, error)
        server.end()

    def _end_client(self, status: int, error: str) -> None:
        """The span of the upstream: from when it was first turned to until its answer began."""
        exchange, outcome = self._exchange, self._exchange.outcome
        ago_s = time.monotonic() - outcome.upstream_begun_s
        begun = time.time() - ago_s
        self._ids.span_id = self._client_id
        span = self._tracer.start_span(
            method := _method(exchange.outgoing.method),
            set_span_in_context(self._server, _NOBODY),
            SpanKind.CLIENT,
            {"http.request.method": method, **_address(outcome.target)},
            start_time=int(begun * 1e9),
        )
        if outcome.attempts > 1:
            span.set_attribute("http.request.resend_count", outcome.attempts - 1)
        if outcome.source == "upstream" and status:
            span.set_attribute("http.response.status_code", status)
        failed = error and (error == _GONE or outcome.source != "upstream")
        if failed or status >= 400:
            span.set_attribute("error.type", error if failed else str(status))
            span.set_status(StatusCode.ERROR)
        span.end(int((begun + outcome.upstream_s) * 1e9))


def _method(method: str) -> str:
    return method if method in _METHODS else _OTHER


def _address(target: str) -> Mapping[str, Any]:
    """The attributes of a target's label, which is host:port."""
    host, _, port = target.rpartition(":")
    return {"server.address": host, "server.port": int(port)} if port.isdigit() else {}


def _parent(exchange: Exchange) -> SpanContext | None:
    """The caller's span (W3C Trace Context), when it sent one."""
    given = exchange.headers.get("traceparent", "")
    if not is_traceparent(given):
        return None
    state = exchange.headers.get("tracestate")
    return SpanContext(
        int(given[3:35], 16),
        int(given[36:52], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(given[53:], 16)),
        trace_state=TraceState.from_header([state]) if state else None,
    )
