"""The rules of RFC 9111: what may be stored, how old it is, and which requests it may answer."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache import rules as caching
from gateway.cache.fields import moment
from gateway.cache.rules import Stored, directives, seconds
from gateway.exchange import Exchange, RawHeaders
from tests.dataplane import connector, endpoint, exchange
from tests.loopback import Fields

NOW = 1_764_000_000.0
SECOND = 0.5
"""How exact ages are here: the time that passes within a test is real."""


def on(date: float) -> str:
    return formatdate(date, usegmt=True)


def asking(
    method: str = "GET",
    fields: Fields = (),
    *,
    own: dict[str, Any] | None = None,
    **connector_: Any,
) -> Exchange:
    at = connector("http://up", endpoint("GET", "/x", **(own or {})), **connector_)
    made = exchange(method, fields=fields, at=at)
    made.at, made.started_s = NOW, time.perf_counter()
    return made


def raw(fields: Fields) -> RawHeaders:
    return [(name.encode(), value.encode()) for name, value in fields]


def got(
    *fields: tuple[str, str], status: int = 200, by: Exchange | None = None, took_s: float = 0
) -> Stored:
    return caching.received(by or asking(), status, raw(fields), NOW - took_s)


def cc(text: str) -> tuple[str, str]:
    return ("Cache-Control", text)


ETAG = ("ETag", '"v1"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" , ,", {}),
        ("no-cache", {"no-cache": ""}),
        ("Max-Age=60, PUBLIC", {"max-age": "60", "public": ""}),
        ('max-age="60"', {"max-age": "60"}),
        ('private="a, b", x="\\"", y=z', {"private": "a, b", "x": '\\"', "y": "z"}),
        ("max-age=1, max-age=2", {"max-age": "1"}),
        ("max-stale", {"max-stale": ""}),
        ("max-age=00060 ,\ts-maxage=0 ", {"max-age": "00060", "s-maxage": "0"}),
    ],
)
def test_cache_control_is_read(text: str, expected: dict[str, str]) -> None:
    assert directives(raw([cc(text)])) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("max-age", "max-age=", "max-age=x", "max-age=-1", "max-age=1.5", "max-age= 60"),
        *("max-age=60; public", "=", "a b", 'private="a', "max-age=\u0661", "s-maxage=", "min-fresh"),
        *("max-stale=x", "public, max-age=60 s", '"public"'),
    ],
)  # fmt: skip
def test_malformed_cache_control_means_that_nothing_is_stored(text: str) -> None:
    field = (b"Cache-Control", text.encode("utf-8"))

    assert directives([(b"Cache-Control", b"public"), field]) == {"no-store": ""}


TOKEN = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}", fullmatch=True)
QUOTED = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'))
VALUE = st.one_of(st.none(), TOKEN, QUOTED.map(lambda text: f'"{text}"'))


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=6), st.sampled_from([",", " ,", ", ", ",,\t"]))
def test_every_well_formed_field_is_read_as_it_is(
    members: list[tuple[str, str | None]], comma: str
) -> None:
    members = [("x" + name, value) for name, value in members]
    text = comma.join(name if value is None else f"{name}={value}" for name, value in members)
    expected: dict[str, str] = {}
    for name, value in members:
        expected.setdefault(name.lower(), (value or "").strip('"'))

    assert directives(raw([cc(text)])) == expected


@given(st.text(st.characters(max_codepoint=255), max_size=80), st.integers(0, 40))
def test_any_field_is_read_in_one_way_or_refused(text: str, repeat: int) -> None:
    found = directives([(b"Cache-Control", (text * repeat).encode("latin-1"))])

    assert all(name == name.lower() and name.isascii() for name in found)
    assert all(found.get(name, "0").isdigit() for name in ("max-age", "s-maxage", "min-fresh"))


@pytest.mark.parametrize("text", ["a" * 16_000, " " * 16_000, "a=" + '"' * 15_000, ", " * 8_000])
def test_long_field_costs_no_more_than_its_length(text: str) -> None:
    begun = time.process_time()
    directives(raw([cc(text)]))

    assert time.process_time() - begun < 0.25


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("000", 0), ("007", 7), ("2147483649", 1 << 31), ("9" * 5000, 1 << 31)],
)
def test_seconds_have_an_end(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777.0),
        ("Sun Nov  6 08:49:37 1994", 784_111_777.0),
        *((text, None) for text in ("0", "-1", "", "soon", "Sun, 99 Nov 1994 08:49:37 GMT")),
        (None, None),
    ],
)
def test_dates_are_read_in_their_three_forms(text: str | None, expected: float | None) -> None:
    assert moment(text) == expected


@given(st.text(max_size=40))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert moment(text) is None or isinstance(moment(text), float)


@pytest.mark.parametrize(
    ("fields", "ttl", "lifetime"),
    [
        ([cc("max-age=60")], None, 60),
        ([cc("max-age=60, s-maxage=10")], 5, 10),
        ([cc("max-age=60"), ("Expires", on(NOW + 5))], None, 60),
        ([("Expires", on(NOW + 90)), ("Date", on(NOW))], 5, 90),
        ([("Expires", on(NOW + 90)), ("Date", on(NOW + 30))], None, 60),
        ([("Expires", on(NOW - 90))], 5, 0),
        ([("Expires", "0")], 5, 0),
        ([("Expires", on(NOW + 90).replace("GMT", "UTC"))], 5, 0),
        ([("Expires", on(NOW + 90)), ("Expires", on(NOW + 90))], 5, 0),
        ([cc("max-age=60"), ("CDN-Cache-Control", "max-age=5")], None, 5),
        ([cc("no-store"), ("CDN-Cache-Control", "max-age=5")], None, 5),
        (
            [cc("max-age=60"), ("Expires", on(NOW + 90)), ("CDN-Cache-Control", "must-revalidate")],
            9,
            9,
        ),
        ([cc("max-age=60"), ("CDN-Cache-Control", "max-age=5,")], None, 60),
        ([], None, None),
        ([], 5, 5),
        ([cc("must-revalidate")], 5, 5),
        ([cc("public")], 5, 5),
        ([cc("public")], None, 0),
        ([cc("no-cache")], 5, 0),
        ([("Last-Modified", on(NOW - 1e6))], None, None),
    ],
)
def test_freshness_is_what_somebody_said_and_never_guessed(
    fields: Fields, ttl: int | None, lifetime: float | None
) -> None:
    assert got(*fields, by=asking(own={"cache_ttl": ttl})).lifetime_s == lifetime


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 302, 400, 404, 500, 503])
def test_endpoints_own_freshness_is_for_answers_that_last(status: int) -> None:
    made = got(status=status, by=asking(own={"cache_ttl": 5}))

    assert (made.lifetime_s == 5) is (status in {200, 203, 204, 300, 301, 308})
    assert got(cc("max-age=1"), status=status).lifetime_s == 1


@pytest.mark.parametrize(
    ("fields", "took_s", "age"),
    [
        ([], 0, 0),
        ([("Age", "30")], 0, 30),
        ([("Age", "30")], 5, 35),
        ([("Date", on(NOW - 20))], 5, 20),
        ([("Date", on(NOW - 20)), ("Age", "30")], 0, 30),
        ([("Date", on(NOW + 500))], 0, 0),
        ([("Age", "nonsense"), ("Date", "nonsense")], 0, 0),
        ([("Age", "-5")], 0, 0),
        ([("Age", "3, 400")], 0, 3),
    ],
)
def test_age_on_arrival_counts_from_the_origin(fields: Fields, took_s: float, age: float) -> None:
    assert NOW - got(*fields, took_s=took_s).born_at == pytest.approx(age, abs=SECOND)


def test_what_belongs_to_one_message_is_not_stored() -> None:
    fields = [("Connection", "X-Hop, close"), ("x-hop", "1"), ("Transfer-Encoding", "chunked"),
              ("Content-Length", "3"), ("Age", "5"), ("Set-Cookie", "a=1"), ("X-Kept", "1"),
              ("Date", "nonsense")]  # fmt: skip

    assert got(*fields).headers == raw([("X-Kept", "1"), ("Date", on(NOW))])


OTHERS = {"cache_ttl": 60}


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([], False),
        ([cc("max-age=60")], True),
        ([cc("max-age=60, no-store")], False),
        ([cc("max-age=60, private")], False),
        ([cc('max-age=60, private="x-name"')], False),
        ([cc("s-maxage=60, private")], False),
        ([cc("max-age=60"), ("Vary", "*")], False),
        ([cc("max-age=60"), ("Vary", "Accept, *")], False),
        ([cc("max-age=60"), ("Content-Type", "text/event-stream")], False),
        ([cc("max-age=60"), ("Set-Cookie", "a=1")], True),
        ([cc("max-age=60"), ("Age", "60")], False),
        ([cc("max-age=60"), ("Age", "60"), ETAG], True),
        ([cc("no-cache")], False),
        ([cc("no-cache"), ETAG], True),
        ([cc("max-age=0"), ("Last-Modified", on(NOW))], True),
        ([ETAG], False),
        ([cc("max-age=60; oops")], False),
        ([cc("max-age=60, must-understand")], True),
    ],
)
def test_what_may_be_kept(fields: Fields, kept: bool) -> None:
    assert caching.may_keep(asking(), got(*fields), raw(fields)) is kept


@pytest.mark.parametrize("status", [206, 304])
def test_parts_and_confirmations_are_not_kept(status: int) -> None:
    assert not caching.may_keep(asking(), got(cc("max-age=60"), status=status), [])


@pytest.mark.parametrize(
    ("told", "cookie", "kept"),
    [
        ("max-age=60", None, True),
        ("max-age=60", "a=1", False),
        ("max-age=60, public", "a=1", True),
        ("s-maxage=60", "a=1", True),
        ("max-age=60, must-revalidate", "a=1", True),
    ],
)
def test_answer_to_a_callers_own_credential_is_kept_when_it_says_so(
    told: str, cookie: str | None, kept: bool
) -> None:
    """RFC 9111 3.5; with `pass_cookies` the caller's cookie is the credential that goes on."""
    fields = [("Cookie", cookie)] if cookie else []
    passing, answer = asking(fields=fields, pass_cookies=True), got(cc(told))

    assert caching.may_keep(passing, answer, raw([cc(told)])) is kept
    assert caching.may_keep(asking(fields=fields), answer, raw([cc(told)]))
    assert not caching.may_keep(passing, answer, raw([cc(told), ("Set-Cookie", "a=1")]))


@pytest.mark.parametrize(
    ("told", "asked", "age", "usable"),
    [
        ("max-age=60", "", 0, True), ("max-age=60", "", 59, True), ("max-age=60", "", 60, False),
        ("max-age=60, no-cache", "", 0, False), ("max-age=60", "no-cache", 0, False),
        ("max-age=60", "max-age=10", 9, True), ("max-age=60", "max-age=10", 12, False),
        ("max-age=60", "min-fresh=20", 30, True), ("max-age=60", "min-fresh=20", 50, False),
        ("max-age=60", "max-stale", 600, True), ("max-age=60", "max-stale=20", 70, True),
        ("max-age=60", "max-stale=20", 90, False),
        ("max-age=60, must-revalidate", "max-stale", 70, False),
        ("max-age=60, proxy-revalidate", "max-stale", 70, False),
        ("s-maxage=60", "max-stale", 70, False), ("max-age=60, must-revalidate", "", 50, True),
        ("max-age=60", "max-stale, max-age=65", 70, False),
    ],
)  # fmt: skip
def test_which_requests_an_answer_may_be_used_for(
    told: str, asked: str, age: float, usable: bool
) -> None:
    answer = got(cc(told))

    assert caching.is_usable(answer, directives(raw([cc(asked)])), NOW + age) is usable


@pytest.mark.parametrize(
    ("method", "own", "fields", "reason"),
    [
        ("GET", {}, [], None),
        ("HEAD", {}, [], None),
        ("GET", {}, [cc("max-age=0, no-cache")], None),
        ("GET", {}, [cc("no-store")], "request"),
        ("GET", {"streaming_enabled": True}, [], "bypass"),
        *(("GET", {}, [(name, "x")], "bypass") for name in
          ("Range", "If-Range", "If-Match", "If-Unmodified-Since", "Upgrade")),
    ],
)  # fmt: skip
def test_what_is_none_of_the_caches_business(
    method: str, own: dict[str, Any], fields: Fields, reason: str | None
) -> None:
    request = asking(method, fields, own=own)

    assert caching.bypasses(request, directives(request.raw_headers)) == reason


def test_requests_with_a_body_and_endpoints_of_head_alone_are_passed() -> None:
    bodied = asking()
    bodied.body = type(bodied.body).of(b"x")
    head = exchange("HEAD", at=connector("http://up", endpoint("HEAD", "/x")))

    assert caching.bypasses(bodied, {}) == caching.bypasses(head, {}) == "bypass"


@pytest.mark.parametrize("kind", ["x-forwarded", "forwarded"])
def test_upstream_that_is_told_who_asks_may_answer_each_differently(kind: str) -> None:
    assert caching.bypasses(asking(forwarded_headers=kind), {}) == "bypass"
    assert caching.bypasses(asking(forwarded_headers="none"), {}) is None
