"""The frame of every answer: request ids, headers, and whatever goes wrong as problem+json."""

from __future__ import annotations

import io
import logging

import pytest
from aiohttp import web
from marshmallow import ValidationError

from admin.problems import faults, rejection
from admin.routes import MOST_BYTES
from gateway.problems import Fault, Rejected
from tests.admin.client import BASE, UUID7, Fetch, User, read


async def test_answers_are_framed(admin: User) -> None:
    answer = await admin.get("/plans")

    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert UUID7.fullmatch(answer.headers["X-Request-Id"])


async def test_callers_request_id_is_kept_when_it_is_one(admin: User) -> None:
    for path in ("/plans", "/nothing"):
        kept = await admin.get(path, X_Request_Id="order-66.b_1")
        made = await admin.get(path, X_Request_Id="spaces are none")
        assert kept.headers["X-Request-Id"] == "order-66.b_1"
        assert UUID7.fullmatch(made.headers["X-Request-Id"])


async def test_problem_has_every_member(cut_off: User) -> None:
    answer = await cut_off.get("/nothing", X_Request_Id="r1")

    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json == {
        "type": "https://service-gateway.readthedocs.io/errors#not_found",
        "title": "There is no such object",
        "status": 404,
        "detail": "The admin API has nothing at this path.",
        "code": "not_found",
        "requestId": "r1",
        "retryable": False,
    }


async def test_wrong_method_tells_the_right_ones(cut_off: User) -> None:
    answer = await cut_off.call("DELETE", "/plans")

    assert (answer.status, answer.json["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_unknown_path_tells_nothing_without_a_token(cut_off: User) -> None:
    assert (await cut_off.http.get(BASE + "/nothing")).status == 401


async def test_body_over_the_limit_is_refused(cut_off: User) -> None:
    content = io.BytesIO(b'{"name": "%s"}' % (b"x" * MOST_BYTES))
    headers = {
        "Authorization": f"Bearer {cut_off.token}",
        "Content-Type": "application/json",
    }
    answer = await read(await cut_off.http.post(BASE + "/plans", data=content, headers=headers))

    assert (answer.status, answer.json["code"]) == (413, "payload_too_large")


async def test_validation_fault_has_its_pointer(admin: User) -> None:
    answer = await admin.post(
        "/connectors",
        {
            "slug": "maps",
            "upstreamBaseUrl": "https://maps.example.com",
            "nonsense": 1,
            "endpoints": [{"name": "a", "method": "GET", "path": "/a//b", "a/b~": 1}],
        },
    )

    assert (answer.status, answer.json["code"]) == (422, "validation_failed")
    assert sorted(answer.pointers) == ["/endpoints/0/a~1b~0", "/nonsense"]


async def test_lost_database_is_said_so(cut_off: User) -> None:
    answer = await cut_off.get("/plans")

    assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json["retryable"] is True


async def test_fault_of_ours_is_logged_by_its_request_id_without_the_body(
    admin: User, fetch: Fetch, caplog: pytest.LogCaptureFixture
) -> None:
    await fetch("DROP TABLE audit_log")
    answer = await admin.post("/plans", {"name": "very-private"}, X_Request_Id="r-500")

    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert "audit_log" not in answer.text
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.__dict__["request_id"] == "r-500"
    assert "very-private" not in caplog.text


def test_nested_messages_become_pointers() -> None:
    messages = {"endpoints": {0: {"path": ["bad"]}}, "_schema": ["whole"], "a/b": {"~": ["odd"]}}

    assert list(faults(messages)) == [
        Fault("/endpoints/0/path", "bad"),
        Fault("", "whole"),
        Fault("/a~1b/~0", "odd"),
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Rejected("conflict", "x"), "conflict"),
        (ValidationError("x"), "validation_failed"),
        (web.HTTPNotFound(), "not_found"),
        (web.HTTPMethodNotAllowed("GET", ["POST"]), "method_not_allowed"),
        (web.HTTPRequestEntityTooLarge(1, 2), "payload_too_large"),
        (web.HTTPExpectationFailed(), "bad_request"),
        (web.HTTPServiceUnavailable(), "internal"),
        (web.RequestPayloadError(), "bad_request"),
        (ConnectionResetError(), "bad_request"),
        (KeyError("x"), "internal"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_every_exception_has_its_code(error: Exception, code: str) -> None:
    assert rejection(error).code == code
