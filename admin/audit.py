"""The audit log: what changed, by whom, through which request; written with the change itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from marshmallow import fields

import sql
from admin.calls import Call
from admin.exports import FORMATS, export
from admin.fields import Instant, Wire, choice, is_id, text
from admin.routes import Operation, Resource, Route, lists
from admin.timeline import LATEST, Timeline, TimelineQuery, whenever

_PAGE: Final = sql.query("audit.page")

CHANGED: Final = "changed"
"""What the log says of a secret."""
_EXPORTED_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One act on one object; `action` begins with the object's type (`connector.create`)."""

    action: str
    object_id: str
    difference: Mapping[str, Any]

    @property
    def object_type(self) -> str:
        """What kind of object it is."""
        return self.action.partition(".")[0]


class EntrySchema(Wire):
    """One act. `difference` has each field that changed, before and after; secrets as "changed"."""

    id = fields.String()
    at = Instant()
    actor = fields.String()
    action = fields.String()
    object_type = fields.String()
    object_id = fields.String()
    request_id = fields.String()
    client_address = fields.String()
    difference = fields.Dict()


class AuditQuery(TimelineQuery):
    """What the log can be narrowed to. `q` is an actor, object or request id, or action, whole."""

    q = text(200, least=1)
    actor = text(200, least=1)
    action = text(100, least=1)
    object_type = text(100, least=1)
    object_id = text(200, least=1)


class ExportQuery(Wire):
    """What an export can be narrowed to."""

    since = Instant(data_key="from", load_default=None)
    until = Instant(data_key="to", load_default=None)
    format = choice(FORMATS, load_default=FORMATS[0])
    q = text(200, least=1)
    actor = text(200, least=1)
    action = text(100, least=1)
    object_type = text(100, least=1)
    object_id = text(200, least=1)


_SCHEMA: Final = EntrySchema()
_QUERY: Final = AuditQuery()
_EXPORT: Final = ExportQuery()
_COLUMNS: Final = tuple(str(field.data_key) for field in _SCHEMA.dump_fields.values())


async def index(call: Call) -> web.Response:
    """GET: the team's log, the newest first."""
    page = Timeline.of(call, _QUERY, whenever, is_id)
    rows = await call.rows(_PAGE, *page.values)
    return page.answer(rows, "id", _SCHEMA.dump)


async def export_all(call: Call) -> web.StreamResponse:
    """GET: all of it, or of a time, as a file."""
    given = _EXPORT.load(call.parameters())
    kind = given.pop("format")
    return await export(call, kind, "audit", _COLUMNS, _pages(call, given))


async def _pages(call: Call, given: dict[str, Any]) -> AsyncGenerator[list[dict[str, Any]], None]:
    since, until = whenever({name: given.pop(name) for name in ("since", "until")})
    before = (LATEST, "")
    while rows := await call.rows(_PAGE, since, until, given, *before, _EXPORTED_AT_ONCE):
        yield _SCHEMA.dump(rows, many=True)
        before = (rows[-1]["at"], str(rows[-1]["id"]))


RESOURCE: Final = Resource(
    "audit",
    "audit",
    (
        Route("GET", "/audit", "viewer", index, lists(EntrySchema, AuditQuery)),
        Route(
            "GET",
            "/audit/export",
            "admin",
            export_all,
            Operation(query=ExportQuery, media_types=("application/x-ndjson", "text/csv")),
        ),
    ),
)
