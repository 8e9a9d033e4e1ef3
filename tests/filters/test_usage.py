"""One record for each exchange, whatever becomes of it, read back from the database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime

import pytest

from filters.usage import Options, Usage
from gateway.exchange import Body, Exchange, Proceed, Response
from gateway.lifecycle.wiring import Worker
from gateway.options import OptionFaults, load
from gateway.problems import Rejected
from gateway.runtime import Runtime
from tests.dataplane import KEY_ID, Rows, answering, assert_honest, connector, exchange

AT = connector("http://127.0.0.1")
NOW = float(int(time.time()))
"""A time that retention keeps: older records may be dropped while a test looks for them."""


@pytest.fixture
def stage(worker: Worker) -> Usage:
    return Usage(Options(), worker.runtime)


def asking(method: str = "GET", request_id: str = "request-1") -> Exchange:
    request = exchange(method, at=AT)
    request.request_id = request_id
    return request


def streaming(*pieces: bytes | BaseException, status: int = 200) -> Proceed:
    async def come() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    async def proceed(request: Exchange) -> Response:
        request.outcome.source = "upstream"
        return Response(status, [], come())

    return proceed


def iterator(response: Response) -> AsyncIterator[bytes]:
    assert not isinstance(response.body, bytes)
    return response.body


def test_options_are_checked() -> None:
    assert load(Options, {"unknown_callers_per_s": "3"}).unknown_callers_per_s == 3
    with pytest.raises(OptionFaults, match="unknown_callers_per_s"):
        load(Options, {"unknown_callers_per_s": -1})


async def test_record_says_everything_about_the_exchange(stage: Usage, rows: Rows) -> None:
    request = asking("POST")
    request.at, request.body = NOW + 0.25, Body.of(b"four")
    request.outcome.attempts, request.outcome.target = 2, "127.0.0.1:9"
    await stage(request, answering(201, b"answer"))

    (record,) = await rows.records(1)
    assert {name: value for name, value in record.items() if not name.endswith("_ms")} == {
        "at": datetime.fromtimestamp(NOW + 0.25, UTC),
        "request_id": "request-1",
        "trace_id": "a" * 32,
        "team_id": "red",
        "connector_id": record["connector_id"],
        "connector": "up",
        "endpoint": "POST /:rest*",
        "method": "POST",
        "caller_type": "key",
        "caller_id": KEY_ID,
        "status": 201,
        "source": "gateway",
        "error_code": "",
        "bytes_in": 4,
        "bytes_out": 6,
        "attempts": 2,
        "cached": False,
        "client_gone": False,
        "replayed": False,
        "target": "127.0.0.1:9",
        "client_address": "192.0.2.1",
    }
    assert str(record["connector_id"]) == AT.id
    assert 0 <= record["own_ms"] <= record["first_byte_ms"] <= record["total_ms"]


async def test_stream_is_recorded_when_it_ends_with_what_left(stage: Usage, rows: Rows) -> None:
    response = await stage(asking(), streaming(b"abc", b"de"))
    body = iterator(response)
    assert await anext(body) == b"abc"
    assert await anext(body) == b"de"
    assert await rows.records(0) == []
    with pytest.raises(StopAsyncIteration):
        await anext(body)
    await body.aclose()  # type: ignore[attr-defined] # as the server does

    (record,) = await rows.records(1)
    assert (record["status"], record["source"], record["bytes_out"]) == (200, "upstream", 5)
    assert (record["client_gone"], record["error_code"]) == (False, "")


@pytest.mark.parametrize(
    ("error", "code"),
    [(Rejected("upstream_invalid", ""), "upstream_invalid"), (RuntimeError("a fault"), "internal")],
)
async def test_stream_that_breaks_off_is_recorded_as_that(
    stage: Usage, rows: Rows, error: Exception, code: str
) -> None:
    body = iterator(await stage(asking(), streaming(b"abc", error)))
    await anext(body)
    with pytest.raises(type(error)):
        await anext(body)
    await body.aclose()  # type: ignore[attr-defined] # as the server does

    (record,) = await rows.records(1)
    assert (record["error_code"], record["client_gone"], record["bytes_out"]) == (code, False, 3)


async def test_stream_that_is_given_up_was_left_by_its_client(stage: Usage, rows: Rows) -> None:
    body = iterator(await stage(asking(), streaming(b"abc", b"de")))
    await anext(body)
    await body.aclose()  # type: ignore[attr-defined] # as the server does
    await body.aclose()  # type: ignore[attr-defined] # once more changes nothing

    (record,) = await rows.records(1)
    assert (record["status"], record["client_gone"], record["bytes_out"]) == (200, True, 3)


@pytest.mark.parametrize("end", [asyncio.CancelledError(), Rejected("forbidden", ""), KeyError()])
async def test_what_nobody_got_of_the_upstream_is_not_its_answer(
    stage: Usage, rows: Rows, end: BaseException
) -> None:
    async def proceed(request: Exchange) -> Response:
        request.outcome.source = "upstream"
        raise end

    with pytest.raises(type(end)):
        await stage(asking(), proceed)

    (record,) = await rows.records(1)
    assert record["source"] == "gateway"


async def test_client_that_left_before_the_answer_is_499(stage: Usage, rows: Rows) -> None:
    async def waiting(_request: Exchange) -> Response:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await stage(asking(), waiting)

    (record,) = await rows.records(1)
    assert (record["status"], record["client_gone"], record["source"]) == (499, True, "gateway")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(Rejected("forbidden", ""), 403, "forbidden"), (KeyError("a"), 500, "internal")],
)
async def test_what_nobody_inside_answered_is_recorded_and_goes_on(
    stage: Usage, rows: Rows, error: Exception, status: int, code: str
) -> None:
    async def failing(_request: Exchange) -> Response:
        raise error

    with pytest.raises(type(error)):
        await stage(asking(), failing)

    (record,) = await rows.records(1)
    assert (record["status"], record["error_code"]) == (status, code)
    assert record["first_byte_ms"] == record["total_ms"] == record["own_ms"]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_answer_without_a_body_counts_none(
    stage: Usage, rows: Rows, method: str, status: int
) -> None:
    await stage(asking(method, "plain"), answering(status, b"not sent"))
    await stage(asking(method, "stream"), streaming(b"not sent", status=status))

    assert [record["bytes_out"] for record in await rows.records(2)] == [0, 0]


async def test_unknown_callers_are_counted_and_sampled(worker: Worker, rows: Rows) -> None:
    stage = Usage(Options(unknown_callers_per_s=2), worker.runtime)
    for number in range(5):
        request = exchange(path="/asked-for/x")
        request.at, request.request_id = NOW, f"request-{number}"
        await stage(request, answering(401))
    later = exchange(path="/<script>/x")
    later.at = NOW + 1
    await stage(later, answering(401))

    records = await rows.records(3)
    assert [record["connector"] for record in records] == ["asked-for", "asked-for", ""]
    assert {(record["caller_type"], record["team_id"]) for record in records} == {("none", "")}
    assert worker.runtime.metrics.requests == {("", "", "GET", 401, "gateway"): 6}


async def test_metrics_have_the_route_and_no_more(stage: Usage, worker: Worker) -> None:
    for number in range(3):
        await stage(asking(request_id=f"r{number}"), answering(200))
    await stage(asking(request_id="r4"), streaming(b"a"))

    metrics = worker.runtime.metrics
    assert metrics.requests == {("up", "GET /:rest*", "GET", 200, "gateway"): 3}
    assert sum(metrics.routes["up", "GET /:rest*"].duration()[:-1]) == 3


async def test_access_line_has_no_credential(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "gw_secret"
    request = exchange(path="/up/x?token=hidden", fields=[("X-API-Key", secret)], at=AT)
    with caplog.at_level(logging.INFO, "gateway.access"):
        await Usage(Options(), runtime)(request, answering(200))

    (line,) = caplog.records
    told = {
        name: value for name, value in vars(line).items() if name in {"team", "caller", "status"}
    }
    assert told == {"team": "red", "caller": "abc", "status": 200}
    assert secret not in str(vars(line))
    assert "hidden" not in str(vars(line))


async def test_it_reads_and_fills_what_it_says(runtime: Runtime) -> None:
    await assert_honest(Usage(Options(), runtime), exchange())
