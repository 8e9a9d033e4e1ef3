"""What an operator's tools get of a running process: the spans of its last moment, and health."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.process import Gateway, fetch

Make = Callable[..., Gateway]
PIPELINE = """\
pipeline: [usage, trace, respond, authenticate, resolve, authorize, validate, transform, proxy]
"""


@contextmanager
def collecting() -> Iterator[tuple[str, list[bytes]]]:
    """A collector of OTLP over HTTP; gives its base URL and what it gets."""
    got: list[bytes] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_spans_of_the_last_moment_are_exported_when_the_process_stops(make_gateway: Make) -> None:
    with collecting() as (url, got):
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        gateway = make_gateway(PIPELINE, environ)
        gateway.start("--demo")
        gateway.wait_for("-H 'Authorization: Bearer gw_")
        key = (gateway.data / "demo.key").read_text().strip()
        assert gateway.call("/demo/json", key).status == 200
        assert got == []
        assert gateway.stop() == 0, gateway.said()

    batches = [ExportTraceServiceRequest.FromString(body) for body in got]
    scopes = [
        scope for batch in batches for each in batch.resource_spans for scope in each.scope_spans
    ]
    names = [span.name for scope in scopes for span in scope.spans]
    assert "GET /demo/json" in names
    assert key.encode() not in b"".join(got)


def test_demo_is_checked_and_tells_it(demo: Gateway) -> None:
    token = demo.token("demo")
    deadline = time.monotonic() + 60
    while (found := demo.admin("GET", "/health/demo", token=token))["status"] == "unknown":
        assert time.monotonic() < deadline, demo.said()

    assert (found["status"], found["uptime"]) == ("healthy", 1.0)
    while (line := 'gateway_upstream_healthy{connector="demo"} 1.0') not in metrics(demo):
        assert time.monotonic() < deadline, line


def metrics(gateway: Gateway) -> str:
    return fetch(f"{gateway.status}/metrics").body.decode()
