"""Resend's API by its reference; a request without a User-Agent is refused."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import JSON, Call, Operation, Seen, Stop, get, reply, send, table

SECRETS = {"token": "re_upstream"}
_ID = "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"
_MAIL = {"from": "a@example.com", "to": ["b@example.com"], "subject": "s", "text": "t"}
_ONCE = {**JSON, "Idempotency-Key": "welcome/1"}
_BODY = b'{"from":"a@example.com","to":"b@example.com","subject":"s"}'
_LATER = {"scheduled_at": "2030-01-31T12:00:00Z"}

CALLS = [
    send("send-email", "/emails", _MAIL, _ID.encode()),
    Call("send-email", "POST", "/emails", _ONCE, _BODY, 200, b'"once":"welcome/1"'),
    send("send-email", "/emails", {"to": "x"}, b"missing_required_field", 422),
    send("send-batch", "/emails/batch", [_MAIL, _MAIL], b'"data":[{"id"'),
    get("list-emails", "/emails?limit=10", b'"object":"list"'),
    get("get-email", f"/emails/{_ID}", b'"last_event":"delivered"'),
    get("get-email", "/emails/none", b"not_found", 404),
    send("update-email", f"/emails/{_ID}", _LATER, b'"object":"email"', 200, "PATCH"),
    Call("cancel-email", "POST", f"/emails/{_ID}/cancel", holds=b'"object":"email"'),
    get("list-domains", "/domains", b"example.com"),
    get("get-domain", "/domains/d91cd9bd", b'"records":['),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(_answer)


def _answer(seen: Seen) -> web.Response:
    return _TABLE(seen) if len(seen.all("User-Agent")) == 1 else _fault(403, "no User-Agent")


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [f"Bearer {SECRETS['token']}"]


def _send(seen: Seen) -> web.Response:
    return reply({"id": _ID, "once": "".join(seen.all("Idempotency-Key"))})


def _fault(status: int, message: str) -> web.Response:
    names = {400: "missing_required_field", 401: "restricted_api_key", 404: "not_found"}
    told = 422 if status == 400 else status
    name = names.get(status, "validation_error")
    return reply({"statusCode": told, "name": name, "message": message}, told)


_KIND = "application/json"
_EMAIL = {"object": "email", "id": _ID}
_OPERATIONS = [
    Operation("POST", "/emails", _send, _KIND, ("from", "to", "subject")),
    Operation("POST", "/emails/batch", {"data": [{"id": _ID}, {"id": _ID}]}, _KIND),
    Operation("GET", "/emails", {"object": "list", "has_more": False, "data": [_EMAIL]}),
    Operation("GET", f"/emails/{_ID}", {**_EMAIL, "last_event": "delivered"}),
    Operation("PATCH", f"/emails/{_ID}", _EMAIL, _KIND, ("scheduled_at",)),
    Operation("POST", f"/emails/{_ID}/cancel", _EMAIL),
    Operation("GET", "/domains", {"data": [{"id": "d91cd9bd", "name": "example.com"}]}),
    Operation("GET", "/domains/d91cd9bd", {"id": "d91cd9bd", "records": []}),
]
_TABLE = table(_OPERATIONS, _allows, _fault)
