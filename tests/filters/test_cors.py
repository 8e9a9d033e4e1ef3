"""CORS: preflights, which origins may read answers, and what of the upstream's is replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from filters.cors import Cors, Options
from gateway.exchange import Exchange, RawHeaders, Response
from gateway.options import OptionFaults, load
from gateway.pipeline import plan
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.settings import DEFAULT_PIPELINE
from tests.dataplane import Gateway, answering, assert_honest, exchange, unreachable
from tests.loopback import Call, Fields, Upstream

APP = "https://app.example.com"
Start = Callable[..., Awaitable[Gateway]]


def stage(*origins: str, **options: Any) -> Cors:
    return Cors(load(Options, {"allow_origins": list(origins), **options}), cast("Runtime", None))


def fields(headers: RawHeaders) -> dict[str, str]:
    found = {name.decode().lower(): value.decode() for name, value in headers}
    assert len(found) == len(headers), headers
    return {name.removeprefix("access-control-"): value for name, value in found.items()}


def asking(origin: str | None, method: str = "GET", *more: tuple[str, str]) -> Exchange:
    return exchange(method, fields=[*([("Origin", origin)] if origin is not None else []), *more])


def preflight(origin: str = APP) -> Exchange:
    return asking(origin, "OPTIONS", ("Access-Control-Request-Method", "PUT"))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "allow_origins names no origin"),
        ({"allow_origins": ["*"], "allow_credentials": True},
         "allow_origins may not have * together with allow_credentials"),
        ({"allow_origins": [APP], "allow_headers": ["*"], "allow_credentials": True},
         "allow_headers may not have *"),
        *(({"allow_origins": [APP, text]}, "allow_origins[1]: neither an origin") for text in
          ("null", "", "app.example.com", f"{APP}/", f"{APP}/x", "https://", "https://*", "https://a b",
           "https://a.*.com", "https://*a.com", "https://é.com", "https://u@a.com", f"{APP}\n")),
        ({"allow_origins": [APP], "allow_methods": ["GET, PUT"]}, "allow_methods[0]: not a name"),
        ({"allow_origins": [APP], "expose_headers": ["X\r\nY"]}, "expose_headers[0]: not a name"),
        ({"allow_origins": [APP], "max_age_s": -1}, "max_age_s"),
    ],
)  # fmt: skip
def test_options_are_checked_at_start(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(OptionFaults) as caught:
        load(Options, options)

    assert fault in str(caught.value)


def test_place_behind_authenticate_is_refused() -> None:
    cors = {"cors": {"allow_origins": ["*"]}}
    assert plan(["usage", cors, *DEFAULT_PIPELINE[1:]])[1].name == "cors"

    with pytest.raises(OptionFaults) as caught:
        plan([*DEFAULT_PIPELINE[:3], cors, *DEFAULT_PIPELINE[3:]])
    assert str(caught.value) == (
        "pipeline[3] cors must stand before authenticate, which gives a caller"
    )


async def test_preflight_is_answered_here() -> None:
    response = await stage(APP, max_age_s=5)(preflight(), unreachable)

    assert (response.status, response.body) == (204, b"")
    assert fields(response.headers) == {
        "x-request-id": "request-1",
        "vary": "Origin",
        "allow-origin": APP,
        "allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "allow-headers": "Authorization, Content-Type, Idempotency-Key, X-API-Key, X-Request-Id, "
        "X-Team-Id",
        "max-age": "5",
    }


async def test_preflight_says_what_is_configured() -> None:
    options = {"allow_methods": ["GET"], "allow_headers": [], "allow_credentials": True}
    response = await stage(APP, **options)(preflight(), unreachable)

    assert fields(response.headers) == {
        "x-request-id": "request-1",
        "vary": "Origin",
        "allow-origin": APP,
        "allow-credentials": "true",
        "allow-methods": "GET",
        "max-age": "600",
    }


async def test_preflight_of_another_origin_gets_no_permission() -> None:
    response = await stage(APP)(preflight("https://evil.example"), unreachable)

    assert (response.status, fields(response.headers)) == (
        204,
        {"vary": "Origin", "x-request-id": "request-1"},
    )


@pytest.mark.parametrize(
    "request_",
    [
        asking(APP, "OPTIONS"),
        asking(None, "OPTIONS", ("Access-Control-Request-Method", "PUT")),
        asking(APP, "GET", ("Access-Control-Request-Method", "PUT")),
    ],
)
async def test_what_is_no_preflight_goes_on(request_: Exchange) -> None:
    assert (await stage(APP)(request_, answering())).body == b"inner"


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        (APP, APP, True),
        ("HTTPS://App.Example.COM", APP, True),
        (APP, "https://app.example.com:8443", False),
        (APP, "http://app.example.com", False),
        (APP, "https://app.example.com.evil.example", False),
        (APP, "https://appXexample.com", False),
        (APP, "null", False),
        (APP, "", False),
        (APP, f"{APP}\n", False),
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b-c.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://.example.com", False),
        ("https://*.example.com", "https://evilexample.com", False),
        ("https://*.example.com", "https://evil.example/.example.com", False),
        ("https://*.example.com", "https://a.example.com.evil.example", False),
        ("https://*.example.com", "https://a.example.com:1", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("http://[::1]:3000", "http://[::1]:3000", True),
    ],
)
async def test_origins_are_compared_whole(allowed: str, origin: str, may: bool) -> None:
    response = await stage("https://other.example", allowed)(asking(origin), answering())
    told = fields(response.headers)

    assert told.pop("vary") == "Origin"
    exposed = "RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
    assert told == ({"allow-origin": origin, "expose-headers": exposed} if may else {})


async def test_answers_differ_by_origin_even_for_those_who_have_none() -> None:
    inner = answering(fields=[("Vary", "Accept")])
    response = await stage(APP)(asking(None), inner)

    assert response.headers == [(b"Vary", b"Accept"), (b"Vary", b"Origin")]


async def test_any_origin_is_told_the_same() -> None:
    for origin in (APP, None):
        response = await stage("*", APP, expose_headers=[])(asking(origin), answering())
        assert fields(response.headers) == {"allow-origin": "*"}


async def test_what_the_upstream_says_of_cors_is_replaced() -> None:
    theirs: Fields = [
        ("Access-Control-Allow-Origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("ACCESS-CONTROL-EXPOSE-HEADERS", "*"),
        ("Access-Control-Allow-Methods", "*"),
        ("Access-Control-Allow-Headers", "*"),
        ("Access-Control-Max-Age", "1"),
        ("Access-Control-Allow-Private-Network", "true"),
        ("X-Own", "1"),
    ]
    cors = stage(APP, expose_headers=[])
    mine = await cors(asking(APP), answering(fields=theirs))
    foreign = await cors(asking("https://evil.example"), answering(fields=theirs))

    assert fields(mine.headers) == {"x-own": "1", "vary": "Origin", "allow-origin": APP}
    assert fields(foreign.headers) == {"x-own": "1", "vary": "Origin"}


async def test_refusal_from_inside_can_be_read_too() -> None:
    async def refusing(_request: Exchange) -> Response:
        raise Rejected("rate_limited", "Slow.", retry_after_s=3)

    with pytest.raises(Rejected) as caught:
        await stage(APP)(asking(APP), refusing)

    told = fields(caught.value.headers)
    assert (told["allow-origin"], told["retry-after"]) == (APP, "3")


@pytest.mark.parametrize("place", [1, 2])
async def test_browser_may_read_answers_errors_and_all(
    gateway: Start, upstream: Upstream, place: int
) -> None:
    cors = {"cors": {"allow_origins": [APP], "allow_credentials": True}}
    running = await gateway([*DEFAULT_PIPELINE[:place], cors, *DEFAULT_PIPELINE[place:]])
    key = await running.rows.key()
    await running.rows.connector(upstream.url)

    async def script(call: Call) -> None:
        await call.answer(200, b"ok", [("Access-Control-Allow-Origin", "https://upstream.example")])

    upstream.script = script
    ask = [("Origin", APP), ("Access-Control-Request-Method", "GET")]
    allowed = await running.call("OPTIONS", fields=ask)
    good = await running.call(key=key, fields=[("Origin", APP)])
    bad = await running.call(fields=[("Origin", APP)])
    lost = await running.call(path="/up/a//b", key=key, fields=[("Origin", APP)])

    assert [a.status for a in (allowed, good, bad, lost)] == [204, 200, 401, 400]
    for answer in (allowed, good, bad, lost):
        assert answer.field("access-control-allow-origin") == APP
        assert answer.field("access-control-allow-credentials") == "true"
        assert answer.field("vary") == "Origin"


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(stage(APP), asking(APP))
