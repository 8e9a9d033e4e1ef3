"""Usage records: what became of each request, the newest first. They hold no body and no header."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields

import sql
from admin.calls import Call, answer
from admin.fields import Instant, Switch, Wire, choice, count, is_id, matches, text
from admin.references import unknown
from admin.routes import Resource, Route, lists, shows
from admin.timeline import Timeline, TimelineQuery
from admin.usage.summary import span
from gateway.ids import is_request_id

_PAGE: Final = sql.query("usage.records")
_ONE: Final = sql.query("usage.record")

STATUS_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
SOURCES: Final = ("gateway", "upstream")
_MOST_MS: Final = 86_400_000
_ID_PART: Final = matches(r"[A-Za-z0-9._-]{1,128}", "Not the beginning of a request id.")


class Traffic(Wire):
    """Which requests are asked for: every field narrows.

    A connector is an id or a slug; one that is gone still has its records.
    """

    connector_id = text(64, least=1)
    endpoint = text(128, least=1)
    key_id = text(64, least=1)
    status = count(100, 599, strict=False)
    status_class = choice(STATUS_CLASSES)
    source = choice(SOURCES)
    error_code = text(64, least=1)


class RecordQuery(TimelineQuery, Traffic):
    """What the list can be narrowed to; `requestId` is the beginning of one."""

    method = text(32, least=1)
    request_id = text(128, rules=(_ID_PART,))
    min_ms = count(0, _MOST_MS, "milliseconds", strict=False)


class RecordSchema(Wire):
    """One request. `callerId` is a key's id or a user's name; times in milliseconds."""

    at = Instant()
    request_id = fields.String()
    trace_id = fields.String()
    connector_id = fields.String(allow_none=True)
    connector = fields.String()
    endpoint = fields.String()
    method = fields.String()
    caller_type = fields.String()
    caller_id = fields.String()
    status = fields.Integer()
    source = fields.String()
    error_code = fields.String()
    total_ms = fields.Float()
    upstream_ms = fields.Float()
    first_byte_ms = fields.Float()
    own_ms = fields.Float()
    bytes_in = fields.Integer()
    bytes_out = fields.Integer()
    attempts = fields.Integer()
    cached = Switch()
    replayed = Switch()
    client_gone = Switch()
    target = fields.String()
    client_address = fields.String()


_SCHEMA: Final = RecordSchema()
_QUERY: Final = RecordQuery()


async def index(call: Call) -> web.Response:
    """GET: the requests of a time, the newest first."""
    page = Timeline.of(call, _QUERY, span, is_request_id)
    since, until, filters, *rest = page.values
    rows = await call.rows(_PAGE, since, until, narrowed(filters), *rest)
    return page.answer(rows, "request_id", _SCHEMA.dump)


async def show(call: Call) -> web.Response:
    """GET: one request; where a caller has used an id again, the last."""
    row = await call.row(_ONE, call.part("request"))
    if row is None:
        raise unknown("record")
    return answer(_SCHEMA.dump(row))


def narrowed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The filters of a query as its statement takes them. Raises ValidationError."""
    filters = dict(given)
    if (connector := filters.get("connector_id")) is not None and not is_id(connector):
        filters["connector"] = filters.pop("connector_id")
    if (key := filters.get("key_id")) is not None:
        if not is_id(key):
            raise ValidationError({"keyId": ["Not an id."]})
        filters["key_id"] = key.lower()
    if (status_class := filters.pop("status_class", None)) is not None:
        filters["least_status"] = int(status_class[0]) * 100
    return filters


RESOURCE: Final = Resource(
    "records",
    "usage",
    (
        Route("GET", "/usage/records", "viewer", index, lists(RecordSchema, RecordQuery)),
        Route(
            "GET",
            "/usage/records/{request}",
            "viewer",
            show,
            shows(RecordSchema, etag=False),
        ),
    ),
)
