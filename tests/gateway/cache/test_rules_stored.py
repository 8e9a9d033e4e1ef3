"""Stored answers: given again, confirmed by the upstream, and told apart by what Vary names."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import pytest

from gateway.cache import rules
from gateway.cache.rules import Stored
from gateway.exchange import Exchange, RawHeaders
from tests.dataplane import connector, endpoint, exchange
from tests.loopback import Fields

NOW = 1_764_000_000.0
CHANGED = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
FRESH = ("Cache-Control", "max-age=60")


def asking(fields: Fields = (), **own: Any) -> Exchange:
    made = exchange(fields=fields, at=connector("http://up", endpoint("GET", "/x", **own)))
    made.at, made.started_s = NOW, time.perf_counter()
    return made


def raw(fields: Fields) -> RawHeaders:
    return [(name.encode(), value.encode()) for name, value in fields]


def got(*fields: tuple[str, str], status: int = 200, by: Exchange | None = None) -> Stored:
    answer = rules.received(by or asking(), status, raw([FRESH, *fields]), NOW)
    answer.body = b"body"
    return answer


def names(headers: RawHeaders) -> set[bytes]:
    return {name for name, _ in headers}


def test_hit_has_its_age_and_an_answer_that_was_just_made_has_none() -> None:
    answer = got()
    hit = answer.answer(asking(), NOW + 7.9, hit=True)
    new = answer.answer(asking(), NOW + 0.1, hit=False)
    old = got(("Age", "30")).answer(asking(), NOW + 1, hit=False)

    assert (hit.status, hit.body, dict(hit.headers)[b"Age"]) == (200, b"body", b"7")
    assert b"Age" not in names(new.headers)
    assert dict(old.headers)[b"Age"] == b"31"


def test_answers_do_not_share_their_fields() -> None:
    answer = got()
    answer.answer(asking(), NOW, hit=True).headers.append((b"X", b"1"))

    assert (b"X", b"1") not in answer.headers


@pytest.mark.parametrize(
    ("stored", "asked", "known"),
    [
        ([("ETag", '"a"')], [("If-None-Match", '"a"')], True),
        ([("ETag", '"a"')], [("If-None-Match", 'W/"a"')], True),
        ([("ETag", 'W/"a"')], [("If-None-Match", '"b", W/"c" , "a"')], True),
        ([("ETag", '"a"')], [("If-None-Match", '"b"'), ("if-none-match", '"a"')], True),
        ([("ETag", '"a,b"')], [("If-None-Match", '"a,b"')], True),
        ([("ETag", '"a"')], [("If-None-Match", "*")], True),
        ([], [("If-None-Match", "*")], True),
        ([("ETag", '"a"')], [("If-None-Match", '"A"')], False),
        ([("ETag", '"a"')], [("If-None-Match", "a")], False),
        ([("ETag", '"a"')], [("If-None-Match", "")], False),
        ([], [("If-None-Match", '""')], False),
        ([("Last-Modified", CHANGED)], [("If-Modified-Since", CHANGED)], True),
        ([("Last-Modified", CHANGED)], [("If-Modified-Since", LATER)], True),
        ([("Last-Modified", LATER)], [("If-Modified-Since", CHANGED)], False),
        ([("Last-Modified", CHANGED)], [("If-Modified-Since", "yesterday")], False),
        ([], [("If-Modified-Since", LATER)], False),
        # the tag counts where there are both (RFC 9110 13.2.2)
        ([("ETag", '"a"'), ("Last-Modified", CHANGED)],
         [("If-None-Match", '"b"'), ("If-Modified-Since", LATER)], False),
        ([("ETag", '"a"')], [], False),
    ],
)  # fmt: skip
def test_caller_that_has_the_answer_gets_304(stored: Fields, asked: Fields, known: bool) -> None:
    answer = got(*stored, ("Content-Type", "text/plain"), ("X-Own", "1"))
    given = answer.answer(asking(asked), NOW, hit=True)

    assert given.status == (304 if known else 200)
    assert given.body == (b"" if known else b"body")
    assert (b"Content-Type" in names(given.headers)) is not known
    assert {b"X-Own", b"Age", b"Date", b"Cache-Control"} <= names(given.headers)


@pytest.mark.parametrize("status", [301, 404, 500])
def test_conditions_are_about_successes(status: int) -> None:
    answer = got(("ETag", '"a"'), status=status)

    assert answer.answer(asking([("If-None-Match", "*")]), NOW, hit=True).status == status


def test_upstream_is_asked_with_our_condition_in_place_of_the_callers() -> None:
    theirs = raw([("if-none-match", '"x"'), ("Accept", "a"), ("If-Modified-Since", LATER)])
    answer = got(("ETag", '"v1"'), ("Last-Modified", CHANGED))
    ours = [(b"If-None-Match", b'"v1"'), (b"If-Modified-Since", CHANGED.encode())]

    assert rules.conditional_on(theirs, None) == ((b"Accept", b"a"),)
    assert rules.conditional_on(theirs, answer) == ((b"Accept", b"a"), *ours)


@pytest.mark.parametrize(
    ("own", "fields", "can"),
    [
        ({}, [("ETag", '"a"')], True),
        ({}, [("Last-Modified", CHANGED)], True),
        ({}, [], False),
        ({"upstream_method": "GET"}, [("ETag", '"a"')], True),
        ({"upstream_method": "POST"}, [("ETag", '"a"')], False),
    ],
)
def test_only_a_get_upstream_can_confirm_an_answer(
    own: dict[str, Any], fields: Fields, can: bool
) -> None:
    assert rules.can_validate(asking(**own), got(*fields)) is can


def test_confirmation_renews_the_fields_and_the_age_and_keeps_the_content() -> None:
    old = got(("Date", formatdate(NOW - 50, usegmt=True)), ("ETag", '"v1"'), ("X-Count", "1"),
              ("X-Stays", "1"), ("Content-Type", "text/plain"))  # fmt: skip
    news = [("Cache-Control", "max-age=5"), ("x-count", "2"), ("X-New", "3"),
            ("Content-Type", "text/html"), ("Content-Length", "0"), ("ETag", '"v1"')]  # fmt: skip
    fresh = rules.freshened(asking(), old, raw(news), NOW)
    kept = dict(fresh.headers)

    assert (fresh.status, fresh.body, fresh.lifetime_s) == (200, b"body", 5)
    assert NOW - fresh.born_at == pytest.approx(0, abs=0.5)
    assert kept[b"Content-Type"] == b"text/plain"
    assert (kept[b"x-count"], kept[b"X-Stays"], kept[b"X-New"]) == (b"2", b"1", b"3")
    assert not {b"X-Count", b"Content-Length"} & names(fresh.headers)


def test_confirmation_can_end_the_keeping() -> None:
    news = raw([("Cache-Control", "no-store")])
    fresh = rules.freshened(asking(), got(("ETag", '"v1"')), news, NOW)

    assert not rules.may_keep(asking(), fresh, news)


@pytest.mark.parametrize(
    ("names_", "fields", "expected"),
    [
        ((), [("Accept", "a")], ()),
        (("accept",), [("accept", "a")], ((b"accept", "a"),)),
        (("accept",), [("Accept", "a ,\tb"), ("ACCEPT", "c")], ((b"accept", "a,b,c"),)),
        (("accept",), [], ((b"accept", None),)),
        (("b", "a", "b"), [("A", "1")], ((b"a", "1"), (b"b", None))),
        (("authorization", "cookie"), [("Authorization", "Bearer gw_1"), ("Cookie", "a=1")],
         ((b"authorization", None), (b"cookie", None))),
    ],
)  # fmt: skip
def test_selection_is_by_what_the_upstream_gets_to_see(
    names_: tuple[str, ...], fields: Fields, expected: rules.Selecting
) -> None:
    assert rules.selecting(asking(fields), names_) == expected


def test_size_counts_body_and_fields() -> None:
    small, large = got(), got(("X-Large", "v" * 1000))
    large.body = bytes(5000)

    assert large.size_bytes - small.size_bytes > 5900
    assert small.size_bytes > 500


@pytest.mark.parametrize(
    ("text", "wants"),
    [("no-cache", True), ("max-age=0", True), ("max-age=00", True), ("max-age=1", False), ("", False)],
)  # fmt: skip
def test_some_requests_want_the_upstream_itself(text: str, wants: bool) -> None:
    asked = rules.directives(raw([("Cache-Control", text)]))

    assert rules.wants_validation(asked) is wants
