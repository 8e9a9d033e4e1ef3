"""The table of errors: it is the contract's, it holds every code that is used, and it renders."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from gateway.problems import (
    DOCUMENTATION,
    KINDS,
    Fault,
    Rejected,
    answer_to,
    document,
    quoted,
    render,
)

ROOT = Path(__file__).parents[2]

CONTRACT = {
    "unauthenticated": 401, "forbidden": 403, "connector_not_found": 404,
    "endpoint_not_found": 404, "method_not_allowed": 405, "validation_failed": 422,
    "bad_request": 400, "payload_too_large": 413, "rate_limited": 429, "quota_exceeded": 429,
    "too_many_concurrent": 429, "secret_missing": 503, "upstream_blocked": 502,
    "upstream_unavailable": 502, "upstream_invalid": 502, "upstream_timeout": 504,
    "circuit_open": 503, "store_unavailable": 503, "draining": 503, "internal": 500,
}  # fmt: skip


def test_codes_of_the_contract_have_its_statuses() -> None:
    assert {code: KINDS[code].status for code in CONTRACT} == CONTRACT


def test_every_code_that_the_sources_use_is_in_the_table() -> None:
    sources = [
        path for name in ("gateway", "filters", "admin") for path in (ROOT / name).rglob("*.py")
    ]
    used = {
        code
        for path in sources
        for code in re.findall(r"\bRejected\(\s*\"(\w+)\"", path.read_text("utf-8"))
    }

    assert len(used) > 15
    assert used - KINDS.keys() == set()


def test_code_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        Rejected("teapot", "No.")


@pytest.mark.parametrize("code", KINDS)
def test_document_has_the_members_of_the_contract(code: str) -> None:
    rejected = Rejected(code, "Said so.")
    shown = document(rejected, "an-id")

    assert shown == {
        "type": f"{DOCUMENTATION}{code}",
        "title": KINDS[code].title,
        "status": KINDS[code].status,
        "detail": "Said so.",
        "code": code,
        "requestId": "an-id",
        "retryable": KINDS[code].retryable,
    }
    assert rejected.status == KINDS[code].status
    assert 400 <= rejected.status < 600
    assert orjson.loads(render(rejected, "an-id")) == shown


def test_types_lead_to_a_place_each_in_the_documentation() -> None:
    types = [document(Rejected(code, ""), "")["type"] for code in KINDS]

    assert all(re.fullmatch(r"https://[\w./-]+#[a-z_]+", kind) for kind in types)
    assert len(set(types)) == len(KINDS)


def test_errors_say_where_and_why() -> None:
    rejected = Rejected("validation_failed", "No.", errors=[Fault("/a/0", "why"), Fault("", "é")])

    assert document(rejected, "i")["errors"] == [
        {"pointer": "/a/0", "detail": "why"},
        {"pointer": "", "detail": "é"},
    ]


@pytest.mark.parametrize(
    ("seconds", "field"),
    [(0, b"1"), (0.001, b"1"), (1, b"1"), (1.001, b"2"), (59.5, b"60"), (86_400, b"86400"), (-3, b"1")],
)  # fmt: skip
def test_retry_after_is_whole_seconds_and_never_too_soon(seconds: float, field: bytes) -> None:
    assert Rejected("rate_limited", "", retry_after_s=seconds).headers == [(b"Retry-After", field)]


@pytest.mark.parametrize("code", [code for code, kind in KINDS.items() if kind.status == 503])
def test_every_503_says_when_to_come_back(code: str) -> None:
    [(name, value)] = Rejected(code, "").headers

    assert name == b"Retry-After"
    assert int(value) > 0
    assert Rejected(code, "", retry_after_s=77).headers == [(b"Retry-After", b"77")]


def test_headers_are_added_and_those_given_stay_untouched() -> None:
    given = [(b"Allow", b"GET")]
    rejected = Rejected("method_not_allowed", "", headers=given)
    rejected.headers.append((b"A", b"b"))

    assert given == [(b"Allow", b"GET")]
    assert Rejected("forbidden", "").headers == []


def test_error_that_is_no_refusal_is_answered_as_a_fault_that_tells_nothing() -> None:
    refused = Rejected("forbidden", "No.")

    assert answer_to(refused) is refused
    assert answer_to(KeyError("a private thing")).code == "internal"
    assert "private" not in answer_to(KeyError("a private thing")).detail


def test_texts_in_messages_are_quoted_as_json_does() -> None:
    assert quoted('é "x"\n') == '"é \\"x\\"\\n"'
    assert quoted("\ud800") == r'"\ud800"'


@pytest.mark.parametrize("detail", ["Said.", 'It says "requestId":"" here.', "é" * 300, "\ud7ff"])
@pytest.mark.parametrize("request_id", ["one", "two", 'a"b'])
def test_document_that_is_ready_made_says_what_a_new_one_says(detail: str, request_id: str) -> None:
    rejected = Rejected("overloaded", detail)

    assert orjson.loads(render(rejected, request_id)) == document(rejected, request_id)
