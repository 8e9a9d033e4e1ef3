"""What spans are made of, apart from exchanges; tests/filters/test_trace.py has the whole way."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from gateway.tracing import Tracing
from tests.dataplane import exchange
from tests.gateway.trying import closed_port


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that is not there."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")


async def test_collector_that_is_not_there_holds_nothing_up(nobody: None) -> None:
    tracing = Tracing("", 1.0)
    for _ in range(100):
        tracing.begin(exchange()).end(200)
    async with asyncio.timeout(20):
        await asyncio.to_thread(tracing.close)


async def test_spans_are_ended_once(nobody: None) -> None:
    tracing = Tracing("", 1.0)
    begun = tracing.begin(exchange())
    begun.end(200)
    begun.gone()
    begun.end(500, "internal")
    server = begun._server  # noqa: SLF001 - what is exported of it

    assert server.attributes["http.response.status_code"] == 200  # type: ignore[attr-defined] # of the SDK
    await asyncio.to_thread(tracing.close)


async def test_method_that_nobody_knows_is_no_name(nobody: None) -> None:
    tracing = Tracing("", 1.0)
    begun = tracing.begin(exchange("SECRET-WORD"))
    begun.end(405, "method_not_allowed")

    assert begun._server.name == "_OTHER"  # type: ignore[attr-defined] # noqa: SLF001 - of the SDK
    await asyncio.to_thread(tracing.close)


def test_gateway_without_the_filter_does_not_import_the_sdk() -> None:
    program = (
        "import sys, gateway.__main__; from gateway import pipeline, settings;"
        "pipeline.plan(settings.DEFAULT_PIPELINE);"
        "sys.exit('opentelemetry' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
