"""What leaves: our fields, what is stripped of the upstream's, refusals, and the envelope."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import orjson
import pytest

from filters.authorize import Authorize
from filters.respond import Options, Respond
from gateway.exchange import Exchange, Filter, Proceed, Response
from gateway.limits.contract import Concurrency, Quota, Rate, Standing
from gateway.model import Connector
from gateway.options import OptionFaults, load
from gateway.pipeline import fold
from gateway.problems import Fault, Rejected
from gateway.runtime import Runtime
from tests.dataplane import assert_honest, caller, connector, endpoint, exchange

URL = "http://127.0.0.1"
JSON = (b"Content-Type", b"application/json")
STANDINGS = (
    Standing(Rate("rate", "k", 100, 60, 100), 40, 36.2, True, 0.0),
    Standing(Quota("daily", "k", 50, "day", "UTC"), 7, 500.0, True, 0.0),
    Standing(Quota("monthly", "k", 5000, "month", "UTC"), 4999, 9e5, True, 0.0),
)


def stage(runtime: Runtime, **options: Any) -> Respond:
    return Respond(load(Options, options), runtime)


def answered(
    status: int = 200,
    *fields: tuple[bytes, bytes],
    body: bytes | AsyncIterator[bytes] = b"",
) -> Proceed:
    async def proceed(request: Exchange) -> Response:
        request.outcome.source = "upstream"
        return Response(status, list(fields), body)

    return proceed


def raising(error: BaseException) -> Proceed:
    async def proceed(_request: Exchange) -> Response:
        raise error

    return proceed


def at(method: str = "GET", **definition: Any) -> Exchange:
    return exchange(method, at=connector(URL, endpoint("GET", "/x"), **definition))


def document(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return orjson.loads(response.body)


def values(response: Response, name: str) -> list[bytes]:
    return [value for n, value in response.headers if n.lower() == name.lower().encode()]


def test_options_are_checked() -> None:
    with pytest.raises(OptionFaults, match="server_timing"):
        load(Options, {"server_timing": "perhaps"})


async def test_every_answer_has_our_fields(runtime: Runtime) -> None:
    response = await stage(runtime)(at(), answered(200, JSON, (b"Via", b"1.1 inner")))

    assert response.headers[:5] == [
        JSON,
        (b"Via", b"1.1 inner"),
        (b"X-Request-Id", b"request-1"),
        (b"Via", b"1.1 service-gateway"),
        (b"X-Content-Type-Options", b"nosniff"),
    ]
    assert values(response, "Content-Security-Policy") == [b"sandbox"]
    assert values(response, "Server-Timing")[0].startswith(b"gw;dur=")


async def test_upstreams_own_time_is_told_and_can_be_kept_back(runtime: Runtime) -> None:
    request = at()
    request.outcome.upstream_s = 0.25
    shown = await stage(runtime)(request, answered())
    hidden = await stage(runtime, server_timing=False)(request, answered())

    assert values(shown, "Server-Timing")[0].endswith(b", upstream;dur=250.000")
    assert values(hidden, "Server-Timing") == []


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "TE", "Trailer"),
        *("Transfer-Encoding", "Upgrade", "Server", "Set-Cookie", "Service-Worker-Allowed"),
        *("Clear-Site-Data", "Strict-Transport-Security", "X-Content-Type-Options"),
        *("X-Request-Id", "Content-Length", "NEL", "Alt-Svc", "Refresh", "X-Accel-Redirect"),
        "WWW-Authenticate",
    ],
)
async def test_upstreams_field_is_not_passed_on(runtime: Runtime, name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        field = (spelling.encode(), b"upstream-says")
        response = await stage(runtime)(at(), answered(200, field, (b"X-Other", b"stays")))

        assert b"upstream-says" not in values(response, name)
        assert values(response, "X-Other") == [b"stays"]


async def test_fields_that_connection_names_are_not_passed_on(runtime: Runtime) -> None:
    fields = [(b"X-A", b"1"), (b"Connection", b"keep-alive, X-A"), (b"x-b", b"2"), (b"X-C", b"3")]
    response = await stage(runtime)(at(), answered(200, *fields, (b"Connection", b" X-B ,close")))

    assert [n for n, _ in response.headers if n.lower().startswith(b"x-") and len(n) == 3] == [
        b"X-C"
    ]


async def test_connection_takes_no_field_away_that_is_for_all(runtime: Runtime) -> None:
    response = await stage(runtime)(
        at(), answered(200, JSON, (b"Connection", b"content-type, date"))
    )

    assert values(response, "Content-Type") == [JSON[1]]


@pytest.mark.parametrize(("status", "kept"), [(426, [b"websocket"]), (200, [])])
async def test_426_keeps_its_upgrade(runtime: Runtime, status: int, kept: list[bytes]) -> None:
    fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    response = await stage(runtime)(at(), answered(status, *fields))

    assert values(response, "Upgrade") == kept


async def test_repeated_fields_and_their_order_are_kept(runtime: Runtime) -> None:
    fields = [(b"b", b"1"), (b"A", b"2"), (b"b", b"3"), (b"X-\xe9", b"\xff"), (b"A", b"2")]
    response = await stage(runtime)(at(), answered(200, *fields))

    assert response.headers[:5] == fields


async def test_connector_may_let_cookies_pass_and_opt_out_of_the_sandbox(runtime: Runtime) -> None:
    request = at(pass_cookies=True, sandbox_responses=False)
    fields = [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")]
    own = [(b"X-Content-Type-Options", b"nosniff"), (b"Content-Security-Policy", b"default-src *")]
    plain = await stage(runtime)(request, answered(200, *fields))
    opinionated = await stage(runtime)(request, answered(200, *own))

    assert values(plain, "Set-Cookie") == [b"a=1", b"b=2"]
    assert values(plain, "Content-Security-Policy") == []
    assert opinionated.headers[:2] == own
    assert values(opinionated, "X-Content-Type-Options") == [b"nosniff"]


async def test_origin_of_the_admin_plane_is_guarded_whatever_a_connector_says(
    runtime: Runtime,
) -> None:
    request = at(pass_cookies=True, sandbox_responses=False)
    request.guards_origin = True
    own = [(b"X-Content-Type-Options", b"nothing"), (b"Set-Cookie", b"a=1")]
    response = await stage(runtime)(request, answered(200, *own))

    assert values(response, "Set-Cookie") == []
    assert values(response, "X-Content-Type-Options") == [b"nosniff"]
    assert values(response, "Content-Security-Policy") == [b"sandbox"]


@pytest.mark.parametrize("legacy", [True, False])
async def test_limits_are_told_and_the_tightest_stands_out(runtime: Runtime, legacy: bool) -> None:
    request = at()
    request.limits = STANDINGS
    theirs = [(b"RateLimit", b"x"), (b"x-ratelimit-remaining", b"x")]
    options = {"legacy_limit_headers": legacy}
    response = await stage(runtime, **options)(request, answered(200, *theirs))

    assert values(response, "RateLimit-Policy") == [
        b'"rate";q=100;w=60, "daily";q=50;w=86400, "monthly";q=5000;w=2592000'
    ]
    assert values(response, "RateLimit") == [b'"daily";r=7;t=500']
    old = [values(response, f"X-RateLimit-{n}") for n in ("Limit", "Remaining", "Reset")]
    assert old == ([[b"50"], [b"7"], [b"500"]] if legacy else [[], [], []])


async def test_places_at_a_time_have_no_window_to_tell_of(runtime: Runtime) -> None:
    request, bare = at(), at()
    places = Standing(Concurrency("concurrent", "k", 2), 0, 0.0, False, 1.0)
    request.limits, bare.limits = (places, *STANDINGS[:1]), (places,)
    response = await stage(runtime)(request, answered(200))
    without = await stage(runtime)(bare, answered(200))

    assert values(response, "RateLimit-Policy") == [b'"rate";q=100;w=60']
    assert values(response, "RateLimit") == [b'"rate";r=40;t=37']
    assert values(without, "RateLimit-Policy") == values(without, "RateLimit") == []


async def test_upstreams_limits_pass_where_we_have_none(runtime: Runtime) -> None:
    response = await stage(runtime)(at(), answered(200, (b"RateLimit", b"theirs")))

    assert values(response, "RateLimit") == [b"theirs"]


async def test_refusal_is_a_problem_document_with_what_it_adds(runtime: Runtime) -> None:
    request = at()
    request.limits = STANDINGS
    faults = [Fault("/a", "is missing")]
    extra = [(b"Allow", b"GET")]
    error = Rejected("rate_limited", "Slow down.", errors=faults, headers=extra, retry_after_s=1.2)
    response = await stage(runtime)(request, raising(error))

    assert response.status == 429
    assert document(response) == {
        "type": "https://service-gateway.readthedocs.io/errors#rate_limited",
        "title": "Too many requests",
        "status": 429,
        "detail": "Slow down.",
        "code": "rate_limited",
        "requestId": "request-1",
        "retryable": True,
        "errors": [{"pointer": "/a", "detail": "is missing"}],
    }
    for name, value in [
        ("Content-Type", b"application/problem+json"), ("Allow", b"GET"), ("Retry-After", b"2"),
        ("X-Request-Id", b"request-1"), ("Via", b"1.1 service-gateway"),
        ("X-Content-Type-Options", b"nosniff"), ("RateLimit", b'"daily";r=7;t=500'),
    ]:  # fmt: skip
        assert values(response, name) == [value]
    assert (request.outcome.source, request.outcome.error_code) == ("gateway", "rate_limited")


async def test_refusal_is_counted_by_the_filter_that_made_it(runtime: Runtime) -> None:
    request = at()
    request.caller = caller(connector_ids=frozenset({"other"}))
    authorize = Authorize(Authorize.options(), runtime)
    await fold([("respond", stage(runtime)), ("authorize", authorize)])(request)
    passed_on = Rejected("not_found", "")
    passed_on.by = "audit:Audit"
    await stage(runtime)(at(), raising(passed_on))

    assert runtime.metrics.rejections == {
        ("authorize", "forbidden"): 1,
        ("audit:Audit", "not_found"): 1,
    }


async def test_filter_that_fails_is_counted_as_the_one_that_failed(runtime: Runtime) -> None:
    failing = cast("Filter", lambda _exchange, _proceed: raising(KeyError())(at()))
    await fold([("respond", stage(runtime)), ("audit:Audit", failing)])(at())

    assert runtime.metrics.rejections == {("audit:Audit", "internal"): 1}


async def test_anything_unexpected_is_500_and_only_the_log_says_what(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    request = at()
    response = await stage(runtime)(request, raising(KeyError("a private thing")))

    assert (response.status, request.outcome.error_code) == (500, "internal")
    assert isinstance(response.body, bytes)
    assert b"private" not in response.body
    logged = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [getattr(r, "request_id", "") for r in logged] == ["request-1"]
    assert "a private thing" in caplog.text


@pytest.mark.parametrize("media_type", [b"application/json", b"Application/LD+JSON; charset=utf-8"])
async def test_json_is_wrapped_where_the_connector_says_so(
    runtime: Runtime, media_type: bytes
) -> None:
    fields = [(b"Content-Type", media_type), (b"ETag", b'"1"'), (b"X-A", b"1")]
    body = b'{"big": 12345678901234567890, "a": [1.10]}'
    response = await stage(runtime)(
        at(response_mode="envelope"), answered(200, *fields, body=pieces([body[:9], body[9:]]))
    )

    assert isinstance(response.body, bytes)
    assert b'"data":' + body in response.body  # the numbers are as the upstream wrote them
    envelope = document(response)
    meta = envelope.pop("meta")
    assert envelope.pop("data")["a"] == [1.1]
    assert envelope == {"success": True}
    assert meta.keys() == {"connector", "upstreamStatus", "latencyMs", "cached", "timestamp",
                           "requestId"}  # fmt: skip
    assert (meta["connector"], meta["upstreamStatus"], meta["cached"]) == ("up", 200, False)
    assert response.headers[:2] == [JSON, (b"X-A", b"1")]


async def test_upstreams_error_is_wrapped_with_the_mapped_message(runtime: Runtime) -> None:
    request = at(response_mode="envelope", error_mapping={"404": "No such song."})
    mapped = await stage(runtime)(request, answered(404, JSON, body=b"{}"))
    plain = await stage(runtime)(request, answered(500, JSON, body=b"{}"))

    assert document(mapped)["success"] is False
    assert document(mapped)["error"] == {
        "code": "upstream_404",
        "message": "No such song.",
    }
    assert document(plain)["error"]["code"] == "upstream_500"


@pytest.mark.parametrize(
    ("method", "status", "fields", "body"),
    [
        ("GET", 200, [(b"Content-Type", b"text/event-stream")], b"data: {}\n\n"),
        ("GET", 200, [(b"Content-Type", b"application/octet-stream")], b"{}"),
        ("GET", 200, [], b"{}"),
        ("GET", 204, [JSON], b""),
        ("GET", 205, [JSON], b""),
        ("GET", 304, [JSON], b""),
        ("HEAD", 200, [JSON], b""),
    ],
)
async def test_all_else_passes_the_envelope_as_it_is(
    runtime: Runtime, method: str, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    request = at(method, response_mode="envelope")
    response = await stage(runtime)(request, answered(status, *fields, body=body))

    assert response.body == body
    assert response.headers[: len(fields)] == list(fields)


async def test_body_that_breaks_in_the_envelope_is_a_refusal_like_all(runtime: Runtime) -> None:
    request = at(response_mode="envelope")
    broken = pieces([b"{", Rejected("upstream_invalid", "Broken off.")])
    response = await stage(runtime)(request, answered(200, JSON, body=broken))

    assert response.status == 502
    assert values(response, "Via") == [b"1.1 service-gateway"]
    assert (request.outcome.source, request.outcome.error_code) == ("gateway", "upstream_invalid")
    assert sum(runtime.metrics.rejections.values()) == 1


async def pieces(these: Sequence[bytes | Exception]) -> AsyncIterator[bytes]:
    for piece in these:
        if isinstance(piece, Exception):
            raise piece
        yield piece


async def test_it_reads_and_fills_what_it_says(runtime: Runtime) -> None:
    at_: Connector = connector(URL)
    await assert_honest(stage(runtime), exchange(at=at_))
