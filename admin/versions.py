"""Versions of a connector: what each publish froze, how two differ, and the way back to one.

History is never rewritten: a rollback makes the working copy what it was and publishes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields

import sql
from admin import connectors, endpoints, publishing, secrets, snapshots
from admin.calls import Call, TeamRows, answer, stale
from admin.differences import changed, is_same
from admin.fields import MOST_COUNT, Instant, Wire, count, matches, text
from admin.references import connector, editable_connector, unknown
from admin.routes import Operation, Resource, Route, acts, lists, shows
from admin.shapes import ANYTHING, COUNT, TEXT, record, several
from admin.snapshots import Copy
from admin.writes import Write, writing

_NEWEST: Final = sql.query("versions.newest")
_ONE: Final = sql.query("versions.one")
_UPDATE: Final = sql.query("connectors.update")
_REMOVE: Final = sql.query("endpoints.remove")
_PUT_BACK: Final = sql.query("endpoints.put_back")

DRAFT: Final = "draft"
"""What the working copy is called where a version could be named."""
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,9}").fullmatch


class VersionSchema(Wire):
    """What is told of a version. `restored` is the version that it brought back, if it did."""

    version = fields.Integer()
    published_at = Instant()
    published_by = fields.String()
    is_current = fields.Boolean()
    note = fields.String()
    summary = fields.String()
    restored = fields.Integer(allow_none=True)


class VersionDetail(VersionSchema):
    """A version, and what it holds."""

    connector = fields.Dict(required=True)
    endpoints = fields.List(fields.Dict(), required=True)


class DiffQuery(Wire):
    """What a version is compared with."""

    against = text(
        10,
        rules=(matches("draft|[1-9][0-9]{0,9}", "Not the number of a version, nor draft."),),
        load_default=DRAFT,
    )


class VersionQuery(Wire):
    """Which page of the list."""

    limit = count(1, 100, strict=False, load_default=20)
    cursor = count(1, MOST_COUNT, strict=False, load_default=MOST_COUNT)


class Rollback(Wire):
    """Which version callers are to get again."""

    version = count(1, MOST_COUNT, required=True)
    note = text(publishing.MOST_NOTE, load_default="")


DIFFERENCE: Final = record(
    "What is not the same: each place with its value before and after.",
    version=COUNT,
    against={"type": ["integer", "string"]},
    items=several(
        record(
            op={"type": "string", "enum": ["add", "remove", "replace"]},
            pointer=TEXT,
            before=ANYTHING,
            after=ANYTHING,
        )
    ),
)
_SCHEMA: Final = VersionSchema()
_QUERY: Final = VersionQuery()
_DIFF: Final = DiffQuery()
_ROLLBACK: Final = Rollback()


async def index(call: Call) -> web.Response:
    """GET: the versions of a connector, the newest first."""
    row = await connector(call, call.part("connector"))
    page = _QUERY.load(call.parameters())
    rows = await call.rows(_NEWEST, row["id"], page["cursor"], page["limit"] + 1)
    shown = rows[: page["limit"]]
    cursor = str(shown[-1]["version"]) if len(rows) > len(shown) else None
    return answer({"items": [_told(row, found) for found in shown], "nextCursor": cursor})


async def show(call: Call) -> web.Response:
    """GET: one version, whole."""
    row = await connector(call, call.part("connector"))
    found = await _version(call, row, call.part("version"))
    copy = snapshots.thawed(found["snapshot"])
    document = {**_told(row, found), "connector": copy.connector, "endpoints": copy.endpoints}
    return answer(document)


async def diff(call: Call) -> web.Response:
    """GET: what differs from this version in another, or in the draft."""
    row = await connector(call, call.part("connector"))
    found = await _version(call, row, call.part("version"))
    against = _DIFF.load(call.parameters())["against"]
    if against == DRAFT:
        other = snapshots.copy_of(row, await endpoints.every(call, row["id"]))
    else:
        other = snapshots.thawed((await _version(call, row, against))["snapshot"])
    places = snapshots.differences(snapshots.thawed(found["snapshot"]), other)
    named = against if against == DRAFT else int(against)
    document = {"version": found["version"], "against": named}
    return answer({**document, "items": [place.told() for place in places]})


async def rollback(call: Call) -> web.Response:
    """POST: callers get what they got with this version, as a new one; the draft is that, too.

    The slug and the secrets in force stay as they are: they are in no version. Those that were staged for
    the draft are gone with it.
    """
    given = _ROLLBACK.load(await call.body())
    async with writing(call) as write:
        row = await editable_connector(write, call.part("connector"))
        call.expect(row["version"])
        found = await write.row(_ONE, row["id"], given["version"])
        if found is None:
            raise ValidationError({"version": ["The connector has no such version, or no more."]})
        await secrets.discard(write, row)
        row = await _restore(write, row, found["snapshot"])
        snapshot, faults = await publishing.checked(write, row)
        if faults:
            raise publishing.refused(faults)
        if row["version"] != row["published_version"] or given["version"] != row["version"]:
            row = await publishing.release(
                write, row, snapshot, note=given["note"], restored=given["version"]
            )
    return connectors.shown(row)


async def _restore(
    write: Write, row: Mapping[str, Any], snapshot: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the working copy what a snapshot holds; answers the connector's row."""
    was = {**snapshots.connector_row(snapshot), "slug": row["slug"]}
    await connectors.check_move(write, row, was)
    await restore_endpoints(write, row, snapshots.endpoint_rows(snapshot))
    settings = connectors.SCHEMA.settings
    if difference := changed(settings(row), settings(was)):
        kept = {"id": row["id"], "version": row["version"], **connectors.stored(was)}
        if await write.row(_UPDATE, kept) is None:
            raise stale()
        write.log("connector.update", row["id"], difference)
    return await connector(write, str(row["id"]))


async def restore_endpoints(
    write: Write, row: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]
) -> bool:
    """Make a connector's endpoints these rows, each with its `id` as text; False when they are.

    Those that changed are made anew, as their names and routes may have changed places.
    """
    there = await endpoints.every(write, row["id"])
    now, then = _by_id(snapshots.copy_of(row, there)), _by_id(snapshots.copy_of(row, wanted))
    same = {id_ for id_, entry in then.items() if is_same(entry, now.get(id_))}
    gone = [id_ for id_ in now if id_ not in same]
    if not gone and len(same) == len(wanted):
        return False
    removed = await write.rows(_REMOVE, row["id"], gone)
    made = {str(entry["id"]): entry["created_at"] for entry in removed}
    # An endpoint's version never exceeds its connector's, so that no old ETag comes true again.
    back = [
        {
            "id": entry["id"],
            "version": row["version"] + 1,
            "created_at": made.get(entry["id"]),
            **endpoints.stored(entry),
        }
        for entry in wanted
        if entry["id"] not in same
    ]
    await write.run(_PUT_BACK, row["id"], back)
    for id_ in dict.fromkeys((*now, *then)):
        if id_ not in same:
            verb = "create" if id_ not in now else "update" if id_ in then else "delete"
            difference = changed(now.get(id_, {}), then.get(id_, {}))
            difference.pop("id", None)
            write.log(f"endpoint.{verb}", id_, difference)
    return True


def _by_id(copy: Copy) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in copy.endpoints}


async def _version(team: TeamRows, row: Mapping[str, Any], number: str) -> dict[str, Any]:
    """A version of a connector. Raises Rejected `not_found`."""
    found = None
    if _NUMBER(number) and int(number) <= MOST_COUNT:
        found = await team.row(_ONE, row["id"], int(number))
    if found is None:
        raise unknown("version")
    return found


def _told(row: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    current = found["version"] == row["published_version"]
    document: dict[str, Any] = _SCHEMA.dump({**found, "is_current": current})
    return document


RESOURCE: Final = Resource(
    "versions",
    "versions",
    (
        Route(
            "GET",
            "/connectors/{connector}/versions",
            "viewer",
            index,
            lists(VersionSchema, VersionQuery),
        ),
        Route(
            "GET",
            "/connectors/{connector}/versions/{version}",
            "viewer",
            show,
            shows(VersionDetail, etag=False),
        ),
        Route(
            "GET",
            "/connectors/{connector}/versions/{version}/diff",
            "viewer",
            diff,
            Operation(DIFFERENCE, query=DiffQuery),
        ),
        Route(
            "POST",
            "/connectors/{connector}/rollback",
            "editor",
            rollback,
            acts(connectors.ConnectorSchema, body=Rollback, example={"version": 3}),
        ),
    ),
)
