"""Gateway keys: made, narrowed, rotated, revoked. A value is in one answer and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from marshmallow import ValidationError, fields, validates_schema

import sql
from admin import audit, plans
from admin.calls import Call, TeamRows, answer, nothing, stale
from admin.differences import changed
from admin.fields import Instant, Wire, choice, count, is_id, text, texts
from admin.lists import Page, PageQuery
from admin.references import canonical, connector_ids, object_id, unknown
from admin.routes import Resource, Route, acts, creates, deletes, lists, shows, writes
from admin.writes import Write, writing
from gateway.clock import utc_now
from gateway.identity import keys
from gateway.ids import uuid7
from gateway.networks import parse_network
from gateway.problems import Fault, Rejected

_LISTS: Final = {"newest": sql.query("keys.newest"), "name": sql.query("keys.by_name")}
_ONE: Final = sql.query("keys.one")
_LOCK: Final = sql.query("keys.lock")
_INSERT: Final = sql.query("keys.insert")
_UPDATE: Final = sql.query("keys.update")
_ROTATE: Final = sql.query("keys.rotate")
_END_GRACE: Final = sql.query("keys.end_grace")
_REVOKE: Final = sql.query("keys.revoke")
_KEEP_PLAN: Final = sql.query("plans.keep")
_ENDPOINTS: Final = sql.query("endpoints.named")

STATUSES: Final = ("active", "rotating", "expired", "revoked")
LONGEST_GRACE_S: Final = 604_800
_PUBLIC_ID: Final = re.compile(rf"(?:{keys.PREFIX})?([0-9A-Za-z]{{8}})").match
"""A key's prefix, or a whole key that somebody has found, as what is looked for."""
_EVERY_FIELD: Final = frozenset({"connectorIds", "planId", "allowedEndpoints", "expiresAt"})


class Network(fields.String):
    """An IPv4 or IPv6 network, or an address for the network of it alone."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        given = super()._deserialize(value, attr, data, **kwargs)
        network = None
        with suppress(ValueError):
            network = parse_network(given)
        if network is None or "%" in given:
            raise ValidationError("Not a network, such as 192.0.2.0/24 or 2001:db8::/32.")
        return str(network)


class KeySchema(Wire):
    """A key. `connectorId` is one way to say `connectorIds`; empty lists mean no restriction."""

    id = fields.String(dump_only=True)
    key_prefix = fields.Function(
        lambda row: keys.PREFIX + row["public_id"], dump_only=True, metadata={"type": "string"}
    )
    name = text(128, least=1, required=True)
    status = fields.String(dump_only=True, metadata={"enum": STATUSES})
    connector_id = text(64, least=1, load_default=None, load_only=True)
    connector_ids = texts(text(64, least=1), 100)
    plan_id = text(64, load_default=None)
    allowed_endpoints = texts(text(64, least=1), 100)
    allowed_ips = texts(Network(), 100, data_key="allowedIPs")
    expires_at = Instant(load_default=None)
    grace_until = Instant(attribute="previous_until", dump_only=True, allow_none=True)
    revoked_at = Instant(dump_only=True, allow_none=True)
    last_used_at = Instant(dump_only=True, allow_none=True)
    version = fields.Integer(dump_only=True)
    created_by = fields.String(dump_only=True)
    created_at = Instant(dump_only=True)
    updated_at = Instant(dump_only=True)

    @validates_schema
    def _names_connectors_once(self, item: Mapping[str, Any], **_: Any) -> None:
        if item["connector_id"] is not None and item["connector_ids"]:
            detail = "Give connectorId or connectorIds, not both."
            raise ValidationError({"connectorId": [detail]})

    def merged(self, current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
        """`connectorId` replaces the connectors that the key had."""
        replaced = {"connectorIds"} if "connectorId" in patch else set()
        return super().merged({k: v for k, v in current.items() if k not in replaced}, patch)


class KeyWithValue(KeySchema):
    """A key with its value, `key`, which is told this once (not in a dry run)."""

    key = fields.String(metadata={"example": "gw_4fQ7…"})


class KeyQuery(PageQuery):
    """What the list can be narrowed to."""

    status = choice(STATUSES)
    connector_id = text(64)
    plan_id = text(64)


class Rotation(Wire):
    """For how long the old value still works."""

    grace_seconds = count(0, LONGEST_GRACE_S, "seconds", load_default=0)


_SCHEMA: Final = KeySchema()
_QUERY: Final = KeyQuery()
_ROTATION: Final = Rotation()


async def index(call: Call) -> web.Response:
    """GET: the team's keys."""
    page = Page.of(call, _QUERY)
    filters = {**page.filters}
    if (named := filters.get("connector_id")) is not None:
        (filters["connector_id"],) = await connector_ids(call, [("/connectorId", named)])
    if (named := filters.get("plan_id")) is not None and not is_id(named):
        raise ValidationError({"planId": ["Not an id."]})
    if (looked_for := _PUBLIC_ID(filters.get("q", ""))) is not None:
        filters["public_id"] = looked_for.group(1)
    rows = await call.rows(_LISTS[page.sort], filters, *page.values)
    return page.answer(rows, _SCHEMA.dump)


async def create(call: Call) -> web.Response:
    """POST: a new key; its value is in the answer."""
    item = _SCHEMA.load(await call.body())
    async with writing(call) as write:
        row, value = await make(write, item)
    return _answer(call, row, value, status=201, location=f"keys/{row['id']}")


async def make(write: Write, item: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A new key; answers its row and its value, which is kept nowhere."""
    await plans.ensure_first(write)
    item = await _resolved(write, item, _EVERY_FIELD)
    made = keys.make()
    user = write.call.identity.user
    new = {"id": uuid7(), "public_id": made.public_id, "created_by": user, **item}
    await write.run(_INSERT, new, made.digest)
    row = await _key(write, new["id"])
    write.log("key.create", row["id"], changed({}, _SCHEMA.settings(row)))
    return row, made.value


async def show(call: Call) -> web.Response:
    """GET: one key, without its value."""
    return _answer(call, await _key(call, _id(call)))


async def patch(call: Call) -> web.Response:
    """PATCH: another name, plan or restriction."""
    given = await call.body()
    async with writing(call) as write:
        row = await _usable(write)
        before = _SCHEMA.settings(row)
        item = _SCHEMA.load(_SCHEMA.merged(before, given))
        row = await change(write, row, item, given.keys())
    return _answer(call, row)


async def change(
    write: Write, row: dict[str, Any], item: dict[str, Any], given: Collection[str]
) -> dict[str, Any]:
    """New values for a key, if they are any; only what is `given` is checked. Answers its row."""
    item = await _resolved(write, item, given)
    if difference := changed(_SCHEMA.settings(row), _SCHEMA.settings(item)):
        kept = {**item, "id": row["id"], "version": row["version"]}
        if await write.row(_UPDATE, kept) is None:
            raise stale()
        write.log("key.update", row["id"], difference)
        row = await _key(write, row["id"])
    return row


async def rotate(call: Call) -> web.Response:
    """POST: a new value, in the answer; the old one works for the grace that is asked for."""
    grace_s = _ROTATION.load(await call.body(optional=True))["grace_seconds"]
    async with writing(call) as write:
        row = await _usable(write)
        if row["status"] == "expired":
            raise Rejected("conflict", "The key has expired: give it another expiresAt first.")
        made = keys.make(row["public_id"])
        rotated = await write.row(_ROTATE, row["id"], row["version"], made.digest, grace_s)
        if rotated is None:
            raise stale()
        write.log("key.rotate", row["id"], {"key": audit.CHANGED, "graceSeconds": [None, grace_s]})
        row = await _key(write, row["id"])
    return _answer(call, row, made.value)


async def end_grace(call: Call) -> web.Response:
    """POST: the end of the value before the last rotation, at once; where it has ended, nothing."""
    async with writing(call) as write:
        row = await _usable(write)
        if row["previous_until"] is not None:
            if await write.row(_END_GRACE, row["id"], row["version"]) is None:
                raise stale()
            until = _SCHEMA.dump(row)["graceUntil"]
            write.log("key.end_grace", row["id"], {"graceUntil": [until, None]})
            row = await _key(write, row["id"])
    return _answer(call, row)


async def revoke(call: Call) -> web.Response:
    """POST: the key's end, at once and for good."""
    return _answer(call, await _revoked(call))


async def delete(call: Call) -> web.Response:
    """DELETE: revoke; the row stays, for the records that name it."""
    await _revoked(call)
    return nothing()


async def _revoked(call: Call) -> dict[str, Any]:
    async with writing(call) as write:
        row = await _locked(write)
        if row["status"] != "revoked":
            row = await end(write, row)
    return row


async def end(write: Write, row: Mapping[str, Any]) -> dict[str, Any]:
    """Revoke a key that isn't yet; answers its row."""
    if await write.row(_REVOKE, row["id"], row["version"]) is None:
        raise stale()
    write.log("key.revoke", row["id"], {"status": [row["status"], "revoked"]})
    return await _key(write, row["id"])


async def _resolved(write: Write, item: dict[str, Any], given: Collection[str]) -> dict[str, Any]:
    """The key with ids for what it names; only what is given is looked up. Raises Rejected."""
    single = item.pop("connector_id")
    named = [("/connectorId", single)] if single is not None else []
    named += [(f"/connectorIds/{i}", name) for i, name in enumerate(item["connector_ids"])]
    restricted = {"connectorId", "connectorIds"} & set(given)
    ids = await connector_ids(write, named) if restricted else [UUID(name) for _, name in named]
    if "planId" in given and item["plan_id"] is not None:
        await _check_plan(write, item["plan_id"])
    names = [canonical(name) for name in item["allowed_endpoints"]]
    if restricted or "allowedEndpoints" in given:
        await _check_endpoints(write, ids, names)
    if "expiresAt" in given and item["expires_at"] is not None and item["expires_at"] <= utc_now():
        raise ValidationError({"expiresAt": ["Not in the future."]})
    return {**item, "connector_ids": ids, "allowed_endpoints": names}


async def _check_plan(write: Write, plan_id: str) -> None:
    if not is_id(plan_id) or await write.row(_KEEP_PLAN, UUID(plan_id)) is None:
        raise ValidationError({"planId": ["The team has no such plan."]})


async def _check_endpoints(write: Write, ids: list[UUID], names: list[str]) -> None:
    if not names:
        return
    by_id = [UUID(name) for name in names if is_id(name)]
    found = {row["name"] for row in await write.rows(_ENDPOINTS, ids, names, by_id)}
    faults = [
        Fault(f"/allowedEndpoints/{index}", "The key's connectors have no such endpoint.")
        for index, name in enumerate(names)
        if name not in found
    ]
    if faults:
        raise Rejected("validation_failed", faults[0].detail, errors=faults)


def _id(call: Call) -> UUID:
    return object_id(call.part("key"), "key")


async def _locked(write: Write) -> dict[str, Any]:
    key_id = _id(write.call)
    if await write.row(_LOCK, key_id) is None:
        raise unknown("key")
    row = await _key(write, key_id)
    write.call.expect(row["version"])
    return row


async def _usable(write: Write) -> dict[str, Any]:
    row = await _locked(write)
    if row["status"] == "revoked":
        raise Rejected("conflict", "The key is revoked, which is for good: make another one.")
    return row


async def _key(team: TeamRows, key_id: UUID) -> dict[str, Any]:
    row = await team.row(_ONE, key_id)
    if row is None:
        raise unknown("key")
    return row


def _answer(
    call: Call, row: Mapping[str, Any], value: str = "", *, status: int = 200, location: str = ""
) -> web.Response:
    """A key; with its value when it is new and will be there after this request."""
    document = _SCHEMA.dump(row)
    if value and not call.flag("dryRun"):
        document["key"] = value
    return answer(document, status=status, version=row["version"], location=location)


RESOURCE: Final = Resource(
    "keys",
    "keys",
    (
        Route("GET", "/keys", "viewer", index, lists(KeySchema, KeyQuery)),
        Route(
            "POST",
            "/keys",
            "admin",
            create,
            creates(KeyWithValue, KeySchema, {"name": "app", "connectorId": "maps"}),
        ),
        Route("GET", "/keys/{key}", "viewer", show, shows(KeySchema)),
        Route(
            "PATCH",
            "/keys/{key}",
            "admin",
            patch,
            writes(KeySchema, KeySchema, {"name": "the app"}),
        ),
        Route("DELETE", "/keys/{key}", "admin", delete, deletes()),
        Route(
            "POST",
            "/keys/{key}/rotate",
            "admin",
            rotate,
            acts(KeyWithValue, body=Rotation, body_optional=True, example={"graceSeconds": 3600}),
        ),
        Route("POST", "/keys/{key}/end-grace", "admin", end_grace, acts(KeySchema)),
        Route("POST", "/keys/{key}/revoke", "admin", revoke, acts(KeySchema)),
    ),
)
