"""Spans as a collector gets them: of exchanges that end in all the ways they can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from filters import trace
from filters.trace import Options, Trace
from gateway import pipeline
from gateway.options import OptionFaults
from gateway.server.server import Server
from tests.dataplane import Migrated, Rows, assert_honest, connect, endpoint, exchange, listening
from tests.dataplane import working as worker_at
from tests.gateway.trying import closed_port, status
from tests.loopback import Call, Client, Fields, Message, Upstream, saying

Eventually = Callable[..., Awaitable[None]]

REST = ["respond", "authenticate", "resolve", "authorize", "validate", "transform", "proxy"]
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
SERVER, CLIENT = Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT


@dataclass
class Collector:
    """What was exported to it, parsed."""

    upstream: Upstream

    @property
    def batches(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(call.body) for call in self.upstream.calls]

    @property
    def spans(self) -> list[Span]:
        found = [batch.resource_spans for batch in self.batches]
        scopes = [scope for spans in found for each in spans for scope in each.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    def of(self, kind: Any) -> Span:
        """The one span of a kind."""
        (found,) = [span for span in self.spans if span.kind == kind]
        return found


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or resource."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in of.attributes}


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Where spans go."""

    async def accept(call: Call) -> None:
        await call.answer(200, b"", [("Content-Type", "application/x-protobuf")])

    async with Upstream() as upstream:
        upstream.script = accept
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", upstream.url)
        yield Collector(upstream)


@dataclass
class Traced:
    """A gateway with the filter."""

    rows: Rows
    key: str
    address: tuple[str, int]
    filter: Trace

    async def client(self, path: str = "/up/x", fields: Fields = (), method: str = "GET") -> Client:
        """A connection on which a request was sent."""
        client = await Client.connect(self.address)
        credential = ("Authorization", f"Bearer {self.key}")
        await client.request(method, f"/api/v1/gw{path}", [credential, *fields])
        return client

    async def call(self, path: str = "/up/x", fields: Fields = (), method: str = "GET") -> Message:
        """A request and its whole answer."""
        client = await self.client(path, fields, method)
        answer = await client.answer(method)
        client.close()
        return answer

    async def export(self) -> None:
        """Have everything exported."""
        await asyncio.to_thread(self.filter.tracing.close)


@pytest.fixture
async def gateway(
    database: Migrated, tmp_path: Path, collector: Collector
) -> AsyncIterator[Callable[..., Awaitable[Traced]]]:
    """Start a gateway with the filter and these options."""
    async with AsyncExitStack() as stack:

        async def start(
            entries: Sequence[str] = ("usage", "trace", *REST), **options: Any
        ) -> Traced:
            connection = await connect(database.dsn)
            stack.push_async_callback(connection.close)
            worker = await stack.enter_async_context(worker_at(database.dsn, tmp_path))
            listed = [{"trace": options} if entry == "trace" else entry for entry in entries]
            stages = pipeline.plan(listed)
            filters = [stage.cls(stage.options, worker.runtime) for stage in stages]
            server = Server(
                pipeline.fold([(type(each).__name__, each) for each in filters]),
                None,
                worker.runtime.metrics,
            )
            address = await stack.enter_async_context(listening(server))
            (tracing,) = [each for each in filters if isinstance(each, Trace)]
            rows = Rows(connection, worker.vault)
            await rows.plan("default")
            made = Traced(rows, await rows.key(), address, tracing)
            stack.push_async_callback(made.export)
            return made

        yield start


Start = Callable[..., Awaitable[Traced]]


async def test_exchange_has_a_span_and_its_upstream_one_below_it(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url, endpoint("GET", "/find/:place", "find"))
    answer = await started.call("/up/find/s3cret?token=s3cret")
    await started.export()

    server, client = collector.of(SERVER), collector.of(CLIENT)
    assert server.name == "GET /up/find/:place"
    assert attributes(server) == {
        "http.request.method": "GET",
        "http.route": "/up/find/:place",
        "http.response.status_code": 200,
        "gateway.connector": "up",
        "gateway.endpoint": "find",
        "gateway.request_id": answer.field("x-request-id"),
    }
    assert client.name == "GET"
    assert attributes(client) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": upstream.port,
    }
    assert (client.parent_span_id, client.trace_id) == (server.span_id, server.trace_id)
    assert server.parent_span_id == b""
    assert server.start_time_unix_nano <= client.start_time_unix_nano + 2_000_000
    assert client.start_time_unix_nano < client.end_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano + 2_000_000
    sent = upstream.call.field("traceparent") or ""
    assert sent.split("-")[1:3] == [client.trace_id.hex(), client.span_id.hex()]
    assert int(sent[53:], 16) & 1
    exported = b"".join(call.body for call in collector.upstream.calls)
    assert b"s3cret" not in exported
    assert started.key.encode() not in exported
    assert collector.upstream.calls[0].target == "/v1/traces"


async def test_callers_trace_goes_on_and_the_usage_record_has_its_id(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url)
    await started.call(fields=[("traceparent", PARENT), ("tracestate", "other=1")])
    await started.export()
    (record,) = await started.rows.records(1)

    server = collector.of(SERVER)
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == ("a" * 32, "b" * 16)
    assert server.trace_state == "other=1"
    assert record["trace_id"] == "a" * 32
    assert (upstream.call.field("traceparent") or "").startswith(f"00-{'a' * 32}-")
    assert upstream.call.field("tracestate") == "other=1"


async def test_trace_that_is_begun_here_has_the_usage_records_id(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url)
    await started.call(fields=[("traceparent", "00-nonsense")])
    await started.export()
    (record,) = await started.rows.records(1)

    assert collector.of(SERVER).trace_id.hex() == record["trace_id"]


@pytest.mark.parametrize(
    ("ratio", "flags", "kept"),
    [(0, None, False), (0, "01", True), (1, "00", False), (1, None, True)],
)
async def test_caller_decides_what_is_sampled_and_else_the_ratio(
    gateway: Start,
    collector: Collector,
    upstream: Upstream,
    ratio: float,
    flags: str | None,
    kept: bool,
) -> None:
    started = await gateway(sample_ratio=ratio)
    await started.rows.connector(upstream.url)
    fields = [("traceparent", PARENT[:-2] + flags)] if flags else []
    assert (await started.call(fields=fields)).status == 200
    await started.export()

    assert len(collector.spans) == (2 if kept else 0)
    assert bool(int((upstream.call.field("traceparent") or "")[53:], 16) & 1) is kept


async def test_refusal_has_no_span_of_an_upstream_and_is_no_error_of_ours(
    gateway: Start, collector: Collector
) -> None:
    started = await gateway()
    assert (await started.call("/nowhere/x")).status == 404
    await started.export()

    (span,) = collector.spans
    assert span.name == "GET"
    assert span.status.code == Status.STATUS_CODE_UNSET
    found = attributes(span)
    assert (found["http.response.status_code"], found["gateway.error_code"]) == (
        404,
        "connector_not_found",
    )
    assert "error.type" not in found


async def test_upstream_that_is_not_there_is_an_error_of_both_spans(
    gateway: Start, collector: Collector
) -> None:
    started = await gateway()
    await started.rows.connector(f"http://127.0.0.1:{closed_port()}")
    assert (await started.call()).status == 502
    await started.export()

    assert collector.of(SERVER).status.code == Status.STATUS_CODE_ERROR
    assert attributes(collector.of(SERVER))["error.type"] == "upstream_unavailable"


async def test_upstreams_answer_with_an_error_is_told_by_its_status(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    upstream.script = status(503)
    started = await gateway()
    await started.rows.connector(upstream.url, endpoint(retries=1))
    assert (await started.call()).status == 503
    await started.export()

    for kind in (SERVER, CLIENT):
        span = collector.of(kind)
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "503"
    assert attributes(collector.of(CLIENT))["http.request.resend_count"] == 1
    assert len({call.field("traceparent") for call in upstream.calls}) == 1


async def test_upstreams_404_is_an_error_of_the_client_span_alone(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    upstream.script = status(404)
    started = await gateway()
    await started.rows.connector(upstream.url)
    await started.call()
    await started.export()

    assert collector.of(SERVER).status.code == Status.STATUS_CODE_UNSET
    assert collector.of(CLIENT).status.code == Status.STATUS_CODE_ERROR


async def test_span_of_a_stream_ends_with_its_last_byte(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    goes_on = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await goes_on.wait()
        await call.send(b"0\r\n\r\n")

    upstream.script = stream
    started = await gateway()
    await started.rows.connector(upstream.url)
    client = await started.client()
    await client.until(b"a\r\n")
    await asyncio.to_thread(started.filter.tracing._provider.force_flush)  # noqa: SLF001 - so far
    assert collector.spans == []
    goes_on.set()
    await client.until(b"0\r\n\r\n")
    client.close()
    await started.export()

    assert collector.of(SERVER).status.code == Status.STATUS_CODE_UNSET


async def test_caller_that_goes_away_is_told_as_such(
    gateway: Start, collector: Collector, upstream: Upstream, eventually: Eventually
) -> None:
    async def stream(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await call.gone()

    async def hang(call: Call) -> None:
        await call.gone()

    started = await gateway()
    await started.rows.connector(upstream.url)
    for script in (stream, hang):
        upstream.script = script
        client = await started.client()
        if script is stream:
            await client.until(b"a\r\n")
        await eventually(lambda: upstream.open == 1)
        client.reset()
        await eventually(lambda: upstream.open == 0)
    await started.export()

    servers = [span for span in collector.spans if span.kind == SERVER]
    assert [attributes(span)["error.type"] for span in servers] == ["client_gone"] * 2


async def test_answer_that_breaks_off_is_an_error(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    begun = b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    upstream.script = saying(begun, close=True)
    started = await gateway()
    await started.rows.connector(upstream.url)
    assert not (await started.call()).complete
    await started.export()

    assert attributes(collector.of(SERVER))["error.type"] == "upstream_invalid"


async def test_head_has_spans_that_end(
    gateway: Start, collector: Collector, upstream: Upstream
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url)
    assert (await started.call(method="HEAD")).status == 200
    await started.export()

    assert {span.kind for span in collector.spans} == {SERVER, CLIENT}


async def test_without_respond_refusals_are_told_too(gateway: Start, collector: Collector) -> None:
    started = await gateway(["trace", *REST[1:]])
    assert (await started.call("/nowhere/x")).status == 404
    await started.export()

    found = attributes(collector.of(SERVER))
    assert (found["http.response.status_code"], found["gateway.error_code"]) == (
        404,
        "connector_not_found",
    )


@pytest.mark.parametrize(
    ("option", "variable", "expected"),
    [
        ("", "", "service-gateway"),
        ("", "from-environment", "from-environment"),
        ("gateway-eu", "from-environment", "gateway-eu"),
    ],
)
async def test_name_of_the_service_is_the_options_else_the_variables(
    gateway: Start,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    variable: str,
    expected: str,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    if variable:
        monkeypatch.setenv("OTEL_SERVICE_NAME", variable)
    started = await gateway(service_name=option)
    await started.call("/nowhere/x")
    await started.export()

    found = attributes(collector.batches[0].resource_spans[0].resource)
    assert found["service.name"] == expected
    assert found["service.version"]
    assert found["deployment.environment.name"] == "test"


async def test_it_reads_and_fills_what_it_says(collector: Collector, gateway: Start) -> None:
    started = await gateway()

    await assert_honest(started.filter, exchange())


def test_missing_extra_is_told_at_the_check_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trace, "_NEEDED", ("there_is_no_such_package.at_all",))
    with pytest.raises(OptionFaults) as caught:
        pipeline.plan(["usage", "trace", *REST])

    assert str(caught.value) == (
        "pipeline[1].trace: needs OpenTelemetry: pip install 'service-gateway[otel]'"
    )


def test_it_stands_before_authenticate() -> None:
    with pytest.raises(OptionFaults, match="trace must stand before authenticate"):
        pipeline.plan(["respond", "authenticate", "trace", *REST[2:]])


def test_ratio_is_a_share() -> None:
    assert Options(sample_ratio=0.5).sample_ratio == 0.5
    with pytest.raises(OptionFaults, match=r"trace\.sample_ratio"):
        pipeline.plan([{"trace": {"sample_ratio": 2}}, *REST])
