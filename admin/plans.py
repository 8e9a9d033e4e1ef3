"""Plans: rates and quotas that keys are put on. Whoever asks for a team's plans finds one named default."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from marshmallow import EXCLUDE, ValidationError, fields, post_load

import sql
from admin.calls import Call, TeamRows, answer, nothing, stale
from admin.differences import changed
from admin.fields import MOST_BYTES, MOST_COUNT, Instant, Wire, count, is_id, matches, text, texts
from admin.lists import Page, PageQuery
from admin.references import connector_ids, object_id, unknown
from admin.routes import Resource, Route, creates, deletes, lists, shows, writes
from admin.writes import Write, writing
from gateway import zones
from gateway.database import ForeignKeyViolation
from gateway.ids import uuid7
from gateway.model import Plan
from gateway.problems import Fault, Rejected

_LISTS: Final = {"newest": sql.query("plans.newest"), "name": sql.query("plans.by_name")}
_ONE: Final = sql.query("plans.one")
_FIRST: Final = sql.query("plans.first")
_LOCK: Final = sql.query("plans.lock")
_INSERT: Final = sql.query("plans.insert")
_INSERT_FIRST: Final = sql.query("plans.insert_first")
_UPDATE: Final = sql.query("plans.update")
_DELETE: Final = sql.query("plans.delete")
_LEAVE: Final = sql.query("keys.leave_plan")
_MOVE: Final = sql.query("keys.move_plan")

FIRST: Final = "default"
CONNECTORS: Final = "allowedConnectors"
_DEFAULT: Final = Plan(id="", name="")
_MOST_QUOTA: Final = 1 << 53
_MOST_WINDOW_S: Final = 31 * 86_400


def _known_zone(name: str) -> None:
    if not zones.is_known(name):
        raise ValidationError("Not a time zone of the IANA database, such as Europe/Berlin.")


class PlanSchema(Wire):
    """A plan. Null where it may stand means no limit; zero means that nothing is allowed."""

    id = fields.String(dump_only=True)
    name = text(
        64,
        rules=(matches(r"[a-z0-9][a-z0-9_-]*", "Not a plan's name: a-z 0-9 _ -"),),
        required=True,
    )
    display_name = text(128, least=1)
    rate_limit = count(0, MOST_COUNT, load_default=_DEFAULT.rate_limit)
    rate_window = count(
        1, _MOST_WINDOW_S, "seconds", attribute="rate_window_s", load_default=_DEFAULT.rate_window_s
    )
    burst_limit = count(1, MOST_COUNT, load_default=_DEFAULT.burst_limit)
    daily_quota = count(0, _MOST_QUOTA, load_default=_DEFAULT.daily_quota, allow_none=True)
    monthly_quota = count(0, _MOST_QUOTA, load_default=_DEFAULT.monthly_quota, allow_none=True)
    max_concurrent = count(0, MOST_COUNT, load_default=_DEFAULT.max_concurrent)
    max_request_size = count(0, MOST_BYTES, "bytes", load_default=_DEFAULT.max_request_size)
    max_response_size = count(0, MOST_BYTES, "bytes", load_default=_DEFAULT.max_response_size)
    allowed_connectors = texts(text(64, least=1), 1000)
    time_zone = text(64, least=1, rules=(_known_zone,), load_default=_DEFAULT.time_zone)
    key_count = fields.Integer(dump_only=True)
    version = fields.Integer(dump_only=True)
    created_at = Instant(dump_only=True)
    updated_at = Instant(dump_only=True)

    @post_load
    def _named(self, item: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"display_name": item["name"], **item}


class Removal(Wire):
    """What may be said of a plan's end: the plan that its keys are put on."""

    replacement = text(64)


_SCHEMA: Final = PlanSchema()
_QUERY: Final = PageQuery()
_REMOVAL: Final = Removal(unknown=EXCLUDE)


async def ensure_first(write: Write) -> None:
    """See to it that the team has its default plan."""
    numbers = dataclasses.asdict(write.call.control.default_plan)
    kept = {name: value for name, value in numbers.items() if name != "allowed_connectors"}
    first = await write.row(_INSERT_FIRST, {**kept, "id": uuid7(), "display_name": "Default"})
    if first is not None:
        row = await _plan(write, first["id"])
        write.log("plan.create", row["id"], changed({}, _SCHEMA.settings(row)))


async def index(call: Call) -> web.Response:
    """GET: the team's plans."""
    page = Page.of(call, _QUERY)
    if await call.row(_FIRST) is None:
        async with writing(call) as write:
            await ensure_first(write)
    rows = await call.rows(_LISTS[page.sort], page.filters, *page.values)
    return page.answer(rows, _SCHEMA.dump)


async def create(call: Call) -> web.Response:
    """POST: one more plan."""
    item = _SCHEMA.load(await call.body())
    async with writing(call) as write:
        row = await make(write, item)
    return _answer(row, status=201, location=f"plans/{row['id']}")


async def make(write: Write, item: Mapping[str, Any]) -> dict[str, Any]:
    """A new plan; answers its row."""
    await ensure_first(write)
    new = {"id": uuid7(), **await _resolved(write, item)}
    await write.run(_INSERT, new)
    row = await _plan(write, new["id"])
    write.log("plan.create", row["id"], changed({}, _SCHEMA.settings(row)))
    return row


async def show(call: Call) -> web.Response:
    """GET: one plan."""
    return _answer(await _plan(call, _id(call)))


async def replace(call: Call) -> web.Response:
    """PUT: all of a plan, anew."""
    return await _change(call, await call.body(), merge=False)


async def patch(call: Call) -> web.Response:
    """PATCH: some of a plan; null clears a field."""
    return await _change(call, await call.body(), merge=True)


async def _change(call: Call, given: dict[str, Any], *, merge: bool) -> web.Response:
    async with writing(call) as write:
        row = await locked(write, _id(call))
        call.expect(row["version"])
        before = _SCHEMA.settings(row)
        item = _SCHEMA.load(_SCHEMA.merged(before, given) if merge else given)
        row = await change(write, row, item, connectors_given=not merge or CONNECTORS in given)
    return _answer(row)


async def change(
    write: Write, row: dict[str, Any], item: Mapping[str, Any], *, connectors_given: bool
) -> dict[str, Any]:
    """New values for a plan, if they are any; answers its row.

    The connectors that it names are looked up when they are given anew, else they are its ids.
    """
    if row["name"] == FIRST != item["name"]:
        fault = Fault("/name", "The default plan keeps its name.")
        raise Rejected("conflict", fault.detail, errors=[fault])
    if connectors_given:
        item = await _resolved(write, item)
    if difference := changed(_SCHEMA.settings(row), _SCHEMA.settings(item)):
        kept = {**item, "id": row["id"], "version": row["version"]}
        if await write.row(_UPDATE, kept) is None:
            raise stale()
        write.log("plan.update", row["id"], difference)
        row = await _plan(write, row["id"])
    return row


async def delete(call: Call) -> web.Response:
    """DELETE: its keys go to the plan `replacement`; without one it is refused while there are any.

    The default plan stays.
    """
    named = _REMOVAL.load(call.parameters()).get("replacement")
    if named is not None:
        call.require("admin", "Moving keys to another plan")
    async with writing(call) as write:
        replacement = await _replacement(write, _id(call), named)
        row = await locked(write, _id(call))
        call.expect(row["version"])
        await remove(write, row, replacement)
    return nothing()


async def _replacement(write: Write, plan_id: UUID, named: str | None) -> UUID | None:
    """The plan that takes over, locked; it and the one that goes in one order, whoever deletes.

    Raises ValidationError.
    """
    if named is None:
        return None
    if not is_id(named):
        raise ValidationError({"replacement": ["The team has no such plan."]})
    replacement = UUID(named)
    if replacement == plan_id:
        raise ValidationError({"replacement": ["This is the plan itself."]})
    found = {each: await write.row(_LOCK, each) for each in sorted((plan_id, replacement))}
    if found[plan_id] is None:
        raise unknown("plan")
    if found[replacement] is None:
        raise ValidationError({"replacement": ["The team has no such plan."]})
    return replacement


async def remove(write: Write, row: Mapping[str, Any], replacement: UUID | None = None) -> None:
    """The end of a locked plan, whose keys go to the replacement. Raises Rejected `conflict`."""
    if row["name"] == FIRST:
        raise Rejected("conflict", "The default plan cannot be deleted.")
    difference: dict[str, Any] = changed(_SCHEMA.settings(row), {})
    if replacement is not None:
        await write.run(_MOVE, row["id"], replacement)
        difference["replacement"] = [None, str(replacement)]
    await write.run(_LEAVE, row["id"])
    try:
        gone = await write.row(_DELETE, row["id"], row["version"])
    except ForeignKeyViolation as error:
        keys = "1 key is" if row["key_count"] == 1 else f"{row['key_count']} keys are"
        detail = f"{keys} on this plan: name the one that takes over, ?replacement=<plan id>."
        raise Rejected("conflict", detail) from error
    if gone is None:
        raise stale()
    write.log("plan.delete", row["id"], difference)


async def _resolved(write: Write, item: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with the ids of the connectors that it names."""
    named = [(f"/allowedConnectors/{i}", name) for i, name in enumerate(item["allowed_connectors"])]
    return {**item, "allowed_connectors": await connector_ids(write, named)}


def _id(call: Call) -> UUID:
    return object_id(call.part("plan"), "plan")


async def locked(write: Write, plan_id: UUID) -> dict[str, Any]:
    """A plan that nobody else changes or puts a key on until this write is over. Raises Rejected."""
    if await write.row(_LOCK, plan_id) is None:
        raise unknown("plan")
    return await _plan(write, plan_id)


async def _plan(team: TeamRows, plan_id: UUID) -> dict[str, Any]:
    row = await team.row(_ONE, plan_id)
    if row is None:
        raise unknown("plan")
    return row


def _answer(row: Mapping[str, Any], *, status: int = 200, location: str = "") -> web.Response:
    version = row["version"]
    return answer(_SCHEMA.dump(row), status=status, version=version, location=location)


RESOURCE: Final = Resource(
    "plans",
    "plans",
    (
        Route("GET", "/plans", "viewer", index, lists(PlanSchema, PageQuery)),
        Route(
            "POST",
            "/plans",
            "editor",
            create,
            creates(PlanSchema, PlanSchema, {"name": "gold", "rateLimit": 1000}),
        ),
        Route("GET", "/plans/{plan}", "viewer", show, shows(PlanSchema)),
        Route(
            "PUT",
            "/plans/{plan}",
            "editor",
            replace,
            writes(PlanSchema, PlanSchema, {"name": "gold"}),
        ),
        Route(
            "PATCH",
            "/plans/{plan}",
            "editor",
            patch,
            writes(PlanSchema, PlanSchema, {"dailyQuota": None}),
        ),
        Route("DELETE", "/plans/{plan}", "editor", delete, deletes(query=Removal)),
    ),
)
