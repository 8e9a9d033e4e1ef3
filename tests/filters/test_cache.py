"""The cache: hits, misses, confirmations, what it never keeps, and whose answers are whose."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from filters.cache import Cache, Options
from gateway.exchange import Body, Exchange, RawHeaders, Response
from gateway.model import Connector, Plan
from gateway.options import OptionFaults, load
from gateway.pipeline import plan
from gateway.problems import Rejected
from gateway.runtime import Runtime
from tests.dataplane import assert_honest, caller, connector, endpoint, exchange, refusal_of
from tests.loopback import Fields

AT = connector("http://up", endpoint("GET"), endpoint("POST"), endpoint("DELETE"))
BEGUN = 1_764_000_000.0
FRESH = ("Cache-Control", "max-age=60")
TAG = ("ETag", '"v1"')


def stage(**options: Any) -> Cache:
    return Cache(load(Options, options), cast("Runtime", None))


def asking(
    method: str = "GET",
    path: str = "/up/x",
    fields: Fields = (),
    at: Connector = AT,
    *,
    after_s: float = 0,
    **who: Any,
) -> Exchange:
    made = exchange(method, path, fields, at=at)
    made.at, made.started_s = BEGUN + after_s, time.perf_counter()
    made.caller = caller(**who)
    return made


class Origin:
    """An upstream that gives its answers in turn, the last one for ever, and notes who asked."""

    def __init__(self, *answers: tuple[int, Fields, bytes]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[bytes, bytes]] = []

    async def __call__(self, request: Exchange) -> Response:
        self.asked.append({name.lower(): value for name, value in request.raw_headers})
        request.outcome.source = "upstream"
        status, fields, body = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return Response(status, raw(fields), body)


def raw(fields: Fields) -> RawHeaders:
    return [(name.encode(), value.encode()) for name, value in fields]


def told(response: Response) -> str:
    [status] = [value for name, value in response.headers if name == b"Cache-Status"]
    return status.decode().removeprefix("service-gateway; ")


def age(response: Response) -> int | None:
    return next((int(value) for name, value in response.headers if name == b"Age"), None)


@pytest.mark.parametrize("options", [{"most_bytes": 0}, {"most_entry_bytes": "much"}, {"ttl": 1}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(OptionFaults):
        stage(**options)


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        (["authenticate", "resolve", "validate"], ["authorize", "transform", "proxy"],
         "pipeline[3] cache needs a permission, which no earlier filter gives"),
        (["authenticate", "resolve", "authorize"], ["transform", "proxy"],
         "pipeline[3] cache needs a validity, which no earlier filter gives"),
        (["authenticate", "resolve", "authorize", "validate", "transform"], ["proxy"],
         "pipeline[5] cache must stand before transform, which gives an outgoing"),
        *(
            (["authenticate", "resolve", "authorize", "validate"], [refusing, "transform", "proxy"],
             f"pipeline[5] {name} must stand before cache, which gives a cache_status")
            for name, refusing in {
                "rate_limit": "rate_limit", "quota": "quota", "concurrency": "concurrency",
                "ip_filter": {"ip_filter": {"deny": ["192.0.2.0/24"]}},
            }.items()
        ),
    ],
)  # fmt: skip
def test_place_where_it_cannot_work_is_refused(
    before: list[Any], after: list[Any], fault: str
) -> None:
    with pytest.raises(OptionFaults) as caught:
        plan([*before, "cache", *after])

    assert [str(spot) for spot in caught.value.spots] == [fault]


async def test_hit_is_for_a_caller_whose_plan_allows_its_size() -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"x" * 100))
    await cache(asking(), origin)
    narrow = Plan("narrow", "narrow", max_response_size=99)
    other = await cache(asking(plan=narrow), origin)

    assert (told(other), len(origin.asked)) == ("fwd=bypass", 2)
    assert told(await cache(asking(), origin)).startswith("hit")


async def test_hit_is_for_a_request_that_would_be_sent() -> None:
    passing = connector(
        "http://up", endpoint("GET"), auth_type="passthrough", auth_config={"header_name": "X-Own"}
    )
    cache, origin = stage(), Origin((200, [("Cache-Control", "public, max-age=60")], b"body"))
    await cache(asking(fields=[("X-Own", "mine")], at=passing), origin)
    bare = await refusal_of(cache, asking(at=passing))
    looped = asking(fields=[("X-Own", "mine"), *[("Via", "1.1 service-gateway")] * 3], at=passing)
    assert told(await cache(asking(fields=[("X-Own", "mine")], at=passing), origin))[:3] == "hit"

    assert bare.code == "validation_failed"
    assert (await refusal_of(cache, looped)).code == "loop_detected"


async def test_answer_is_given_again_until_it_is_stale() -> None:
    cache, origin = stage(), Origin((200, [FRESH, ("X-Own", "1")], b"body"))
    first = await cache(asking(), origin)
    request = asking(after_s=30.5)
    hit = await cache(request, origin)
    stale = await cache(asking(after_s=61), origin)

    assert (told(first), age(first), first.body) == (
        "fwd=miss; fwd-status=200; stored", None, b"body"
    )  # fmt: skip
    assert (hit.status, hit.body, age(hit)) == (200, b"body", 30)
    assert told(hit).startswith("hit; ttl=")
    assert (b"X-Own", b"1") in hit.headers
    assert (request.outcome.cached, request.outcome.source) == (True, "upstream")
    assert told(stale) == "fwd=stale; fwd-status=200; stored"
    assert len(origin.asked) == 2


async def test_endpoint_says_how_long_when_the_upstream_does_not() -> None:
    at = connector("http://up", endpoint("GET", "/x", cache_ttl=10))
    cache, origin = stage(), Origin((200, [], b"body"))
    for after_s in (0, 9, 11):
        await cache(asking(at=at, after_s=after_s), origin)

    assert len(origin.asked) == 2


async def test_head_is_answered_from_what_get_left() -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"body"))
    before = await cache(asking("HEAD"), origin)
    await cache(asking(), origin)
    after = await cache(asking("HEAD"), origin)

    assert told(before) == "fwd=miss"
    assert told(after).startswith("hit")
    assert len(origin.asked) == 2


async def test_caller_that_has_the_answer_is_told_so() -> None:
    cache, origin = stage(), Origin((200, [FRESH, TAG], b"body"))
    first = await cache(asking(fields=[("If-None-Match", '"v1"')]), origin)
    second = await cache(asking(fields=[("If-None-Match", '"v1"')]), origin)
    other = await cache(asking(fields=[("If-None-Match", '"v0"')]), origin)

    assert [r.status for r in (first, second, other)] == [304, 304, 200]
    assert (first.body, second.body, other.body) == (b"", b"", b"body")
    assert b"if-none-match" not in origin.asked[0]
    assert len(origin.asked) == 1


async def test_stale_answer_is_confirmed_by_the_upstream() -> None:
    cache = stage()
    origin = Origin((200, [FRESH, TAG, ("X-N", "1")], b"body"), (304, [FRESH, ("X-N", "2")], b""))
    await cache(asking(), origin)
    request = asking(fields=[("If-None-Match", '"theirs"')], after_s=61)
    confirmed = await cache(request, origin)
    hit = await cache(asking(after_s=100.5), origin)

    assert origin.asked[1][b"if-none-match"] == b'"v1"'
    assert (confirmed.status, confirmed.body) == (200, b"body")
    assert told(confirmed) == "fwd=stale; fwd-status=304; stored"
    assert (b"X-N", b"2") in confirmed.headers
    assert (hit.body, age(hit), len(origin.asked)) == (b"body", 39, 2)
    assert request.raw_headers == ((b"If-None-Match", b'"theirs"'),)
    assert not request.outcome.cached


async def test_new_answer_takes_the_place_of_the_stale_one() -> None:
    cache = stage()
    origin = Origin((200, [FRESH, TAG], b"old"), (200, [FRESH, ("ETag", '"v2"')], b"new"))
    await cache(asking(), origin)
    renewed = await cache(asking(fields=[("If-None-Match", '"v2"')], after_s=61), origin)
    hit = await cache(asking(after_s=62), origin)

    assert (renewed.status, told(renewed)) == (304, "fwd=stale; fwd-status=200; stored")
    assert hit.body == b"new"


async def test_failing_upstream_leaves_what_is_stored_to_be_confirmed_later() -> None:
    cache = stage()
    origin = Origin((200, [FRESH, TAG], b"body"), (503, [], b"down"), (304, [FRESH], b""))
    await cache(asking(), origin)
    failed = await cache(asking(after_s=61), origin)
    later = await cache(asking(after_s=62), origin)

    assert (failed.status, told(failed)) == (503, "fwd=stale; fwd-status=503")
    assert (later.status, later.body) == (200, b"body")


async def test_answer_that_may_not_be_kept_any_more_is_gone() -> None:
    cache = stage()
    no_store = ("Cache-Control", "no-store")
    origin = Origin(
        (200, [FRESH, TAG], b"old"),
        (304, [no_store], b""),
        (200, [FRESH, TAG], b"old"),
        (200, [no_store], b"new"),
    )
    await cache(asking(), origin)
    confirmed = await cache(asking(after_s=61), origin)
    await cache(asking(after_s=62), origin)
    replaced = await cache(asking(after_s=200), origin)
    stale = asking(fields=[("Cache-Control", "only-if-cached, max-stale")], after_s=201)

    assert (confirmed.body, told(confirmed)) == (b"old", "fwd=stale; fwd-status=304")
    assert (replaced.body, told(replaced)) == (b"new", "fwd=stale; fwd-status=200")
    assert (await refusal_of(cache, stale)).code == "not_cached"


async def test_caller_may_want_it_from_the_cache_or_not_at_all() -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"body"))
    only = [("Cache-Control", "only-if-cached")]
    refused = await refusal_of(cache, asking(fields=only))
    await cache(asking(), origin)
    hit = await cache(asking(fields=only), origin)

    assert (refused.code, refused.status) == ("not_cached", 504)
    assert hit.body == b"body"


async def test_caller_may_want_it_from_the_upstream() -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"one"), (200, [FRESH], b"two"))
    await cache(asking(), origin)
    fresh = await cache(asking(fields=[("Cache-Control", "no-cache")]), origin)
    hit = await cache(asking(), origin)

    assert (fresh.body, told(fresh)) == (b"two", "fwd=request; fwd-status=200; stored")
    assert hit.body == b"two"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [([("Cache-Control", "no-store")], "request"), ([("Range", "bytes=0-1")], "bypass")],
)
async def test_what_is_none_of_its_business_passes(fields: Fields, reason: str) -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"body"))
    passed = await cache(asking(fields=fields), origin)
    after = await cache(asking(), origin)

    assert told(passed) == f"fwd={reason}"
    assert told(after) == "fwd=miss; fwd-status=200; stored"


async def test_variants_are_kept_apart() -> None:
    cache = stage()
    vary = ("Vary", "Accept-Language")
    origin = Origin((200, [FRESH, vary], b"hello"), (200, [FRESH, vary], b"tag"))
    for code in ("en", "de"):
        await cache(asking(fields=[("Accept-Language", code)]), origin)
    hits = [
        await cache(asking(fields=[("accept-language", code)]), origin) for code in ("en", "de")
    ]

    assert [hit.body for hit in hits] == [b"hello", b"tag"]
    assert len(origin.asked) == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PURGE"])
async def test_change_makes_what_is_stored_of_its_target_invalid(method: str) -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"body"))
    for path in ("/up/x", "/up/x?a=1"):
        await cache(asking(path=path), origin)
    change = asking()
    change.method = method
    answer = await cache(change, Origin((200, [], b"done")))
    same, other = await cache(asking(), origin), await cache(asking(path="/up/x?a=1"), origin)

    assert answer.headers == []
    assert told(same).startswith("fwd=miss")
    assert told(other).startswith("hit")


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
async def test_methods_that_change_nothing_leave_it(method: str) -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"body"))
    await cache(asking(), origin)
    harmless = asking()
    harmless.method = method
    await cache(harmless, Origin((204, [], b"")))

    assert told(await cache(asking(), origin)).startswith("hit")


async def test_change_that_failed_may_have_been_made() -> None:
    async def failing(_request: Exchange) -> Response:
        raise Rejected("upstream_timeout", "")

    cache, origin = stage(), Origin((200, [FRESH], b"body"))
    await cache(asking(), origin)
    with pytest.raises(Rejected):
        await cache(asking("DELETE"), failing)

    assert told(await cache(asking(), origin)).startswith("fwd=miss")


async def test_team_never_sees_the_entries_of_another_but_its_keys_share_them() -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"red"), (200, [FRESH], b"blue"))
    await cache(asking(), origin)
    blue = await cache(asking(team="blue"), origin)
    red = await cache(asking(id="another key"), origin)

    assert (blue.body, red.body) == (b"blue", b"red")
    assert told(blue).startswith("fwd=miss")


async def test_connector_that_has_changed_begins_with_nothing() -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"old"), (200, [FRESH], b"new"))
    await cache(asking(), origin)

    assert (await cache(asking(at=connector("http://up")), origin)).body == b"new"


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("parts", "fields", "kept"),
    [
        ([b"ab", b"cd"], [FRESH], True),
        ([b"ab", b"cde"], [FRESH], False),
        ([b"ab", b"c"], [FRESH, ("Content-Type", "text/event-stream")], False),
        ([b"ab", b"c"], [], False),
    ],
)
async def test_body_in_pieces_is_kept_when_it_is_small_and_whole_in_any_case(
    parts: Sequence[bytes], fields: Fields, kept: bool
) -> None:
    async def streaming(_request: Exchange) -> Response:
        return Response(200, raw(fields), pieces(*parts))

    cache = stage(most_entry_bytes=4)
    response = await cache(asking(), streaming)
    body = response.body
    if not isinstance(body, bytes):
        body = b"".join([piece async for piece in body])

    assert body == b"".join(parts)
    assert isinstance(response.body, bytes) is kept
    assert told(await cache(asking(), streaming)).startswith("hit" if kept else "fwd=miss")


async def test_request_with_a_body_is_passed() -> None:
    cache, origin = stage(), Origin((200, [FRESH], b"body"))
    for _ in range(2):
        request = asking()
        request.body = Body.of(b"query")
        assert told(await cache(request, origin)) == "fwd=bypass"


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(stage(), asking())
