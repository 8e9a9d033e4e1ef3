"""Twilio's API of 2010-04-01 by its reference: one account, Basic, forms."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import FORM, Operation, Seen, Stop, basic, form, get, reply, send, table

SECRETS = {"username": "SK00000000000000000000000000000001", "password": "secret:of:it"}
VARIABLES = {"accountSid": "ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}
_OTHER = "/2010-04-01/Accounts/ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
_TEXT = {"From": "+15005550006", "To": "+15551234567", "Body": "a&b=c é"}
_CALL = {"From": "+15005550006", "To": "+15551234567", "Url": "https://example.com/?a=b&c=d"}
_FORM = b"From=%2B15005550006&To=%2B15551234567&Body=a%26b%3Dc+%C3%A9"
_RING = b"From=%2B15005550006&To=%2B15551234567&Url=https%3A%2F%2Fexample.com"

CALLS = [
    get("get-account", "/account", b'"friendly_name"'),
    send("send-message", "/messages", _TEXT, '"body":"a&b=c é"'.encode(), 201),
    send("send-message", "/messages", {"Body": "x"}, b'"code":21604', 400),
    get("list-messages", "/messages?To=%2B15551234567", b'"messages":['),
    get("get-message", "/messages/SM1", b'"sid":"SM1"'),
    get("get-message", "/messages/SMnone", b'"code":20404', 404),
    send("make-call", "/calls", _CALL, b'"queued"', 201),
    get("list-calls", "/calls", b'"calls":['),
    get("get-call", "/calls/CA1", b'"sid":"CA1"'),
    # whatever account a caller names, it is the connector's
    form("client-send-message", f"{_OTHER}/Messages.json", _FORM, b'"body":"a&b=c', 201),
    get("client-list-messages", f"{_OTHER}/Messages.json", b'"messages":['),
    get("client-get-message", f"{_OTHER}/Messages/SM1.json", b'"sid":"SM1"'),
    form("client-make-call", f"{_OTHER}/Calls.json", _RING, b'"queued"', 201),
    get("client-list-calls", f"{_OTHER}/Calls.json", b'"calls":['),
    get("client-get-call", f"{_OTHER}/Calls/CA1.json", b'"sid":"CA1"'),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [basic(**SECRETS)]


def _message(seen: Seen) -> web.Response:
    return reply({"sid": "SM1", "status": "queued", "body": seen.form()["Body"]}, 201)


def _fault(status: int, message: str) -> web.Response:
    codes = {400: 21604, 401: 20003, 404: 20404, 415: 20001}
    document = {"code": codes[status], "message": message, "status": status}
    return reply({**document, "more_info": "https://www.twilio.com/docs/errors"}, status)


_KIND = FORM["Content-Type"]
_ACCOUNT = f"/2010-04-01/Accounts/{VARIABLES['accountSid']}"
_RINGING = {"sid": "CA1", "status": "queued"}
_OPERATIONS = [
    Operation("GET", rf"{_ACCOUNT}\.json", {"friendly_name": "Ada's", "status": "active"}),
    Operation("POST", rf"{_ACCOUNT}/Messages\.json", _message, _KIND, ("To", "From", "Body")),
    Operation("GET", rf"{_ACCOUNT}/Messages\.json", {"messages": [], "page": 0}),
    Operation("GET", rf"{_ACCOUNT}/Messages/SM1\.json", {"sid": "SM1", "status": "sent"}),
    Operation("POST", rf"{_ACCOUNT}/Calls\.json", _RINGING, _KIND, ("To", "From"), 201),
    Operation("GET", rf"{_ACCOUNT}/Calls\.json", {"calls": [], "page": 0}),
    Operation("GET", rf"{_ACCOUNT}/Calls/CA1\.json", _RINGING),
]
