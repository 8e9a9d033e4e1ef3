"""Connectors: what may be said about one, and the handlers for the working copy and its end.

What callers get changes by the verbs of `admin/publishing.py` alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields, post_load, pre_load, validate

import sql
from admin import body_schemas, endpoints, hosts, plans, secrets
from admin.auth_config import SCHEMAS, AuthConfig
from admin.calls import Call, answer, nothing, stale
from admin.differences import changed
from admin.fields import (
    MOST_MS,
    Instant,
    Switch,
    Wire,
    choice,
    count,
    is_id,
    matches,
    says,
    text,
    texts,
)
from admin.lists import Page, PageQuery
from admin.references import connector, editable_connector, flat, locked_connector
from admin.routes import Resource, Route, creates, deletes, lists, shows, writes
from admin.targets import check_targets, origins, targets
from admin.writes import Write, writing
from gateway.http import forwarded
from gateway.ids import uuid7
from gateway.model import ConnectorDefinition
from gateway.problems import Rejected
from gateway.upstream.connections import host_fits

_LISTS: Final = {"newest": sql.query("connectors.newest"), "name": sql.query("connectors.by_name")}
_INSERT: Final = sql.query("connectors.insert")
_UPDATE: Final = sql.query("connectors.update")
_WITHDRAW: Final = sql.query("connectors.withdraw")
_PURGE: Final = sql.query("connectors.purge")

RESERVED: Final = frozenset(
    ["admin", "api", "docs", "health", "me", "metrics", "openapi", "session", "ui"]
)
STATUSES: Final = ("draft", "published", "archived")
HEALTHS: Final = ("healthy", "degraded", "unhealthy", "unknown")
"""What health checks have found; unknown for what is not checked."""
BALANCINGS: Final = ("round-robin", "least-request")
MOST_SLOTS: Final = 10_000
_DEFINED: Final = tuple(field.name for field in dataclasses.fields(ConnectorDefinition))
_COLUMNS: Final = ("slug", "display_name", "tags")
_DEFAULT: Final = ConnectorDefinition(upstream_base_url="")
EXAMPLE: Final = {"slug": "maps", "upstreamBaseUrl": "https://maps.example.com/v2"}


def _free_slug(slug: str) -> None:
    if slug in RESERVED or is_id(slug):
        raise ValidationError("This word is taken by the gateway itself.")


@says(format="uri", pattern="^https?://")
def _web_page(url: str) -> None:
    if not url.startswith(("https://", "http://")) or not url.isprintable() or " " in url:
        raise ValidationError("Not an http or https URL, such as https://example.com/docs.")


_PATH: Final = matches(r'/[!-"$-~]*', "Not a path such as /health: a slash and printable ASCII.")
_SLUG: Final = matches(
    r"[a-z0-9][a-z0-9-]{0,62}[a-z0-9]", "Not a slug: 2 to 64 of a-z 0-9 -, no hyphen at an end."
)


def slug_field(**options: Any) -> fields.String:
    """The name of a connector in callers' URLs."""
    return text(64, rules=(_SLUG, _free_slug), **options)


def base_url_field(**options: Any) -> fields.String:
    """The URL that upstream paths are put behind."""
    return text(2048, least=1, rules=(hosts.check_base_url,), **options)


class ConnectorSchema(Wire):
    """One upstream API, without its endpoints and secrets."""

    id = fields.String(dump_only=True)
    slug = slug_field(required=True)
    status = fields.String(dump_only=True, metadata={"enum": STATUSES})
    display_name = text(128, least=1)
    description = text(1024, load_default=_DEFAULT.description)
    category = text(64, load_default=_DEFAULT.category)
    tags = texts(text(32, least=1), 20)
    documentation_url = text(512, rules=(_web_page,), load_default=_DEFAULT.documentation_url)
    upstream_base_url = base_url_field(required=True)
    allowed_hosts = texts(text(253, least=1, rules=(hosts.check_allowed_host,)), 32)
    auth_type = choice(tuple(SCHEMAS), load_default=_DEFAULT.auth_type)
    auth_config = AuthConfig(load_default=dict)
    default_timeout = count(1, MOST_MS, "milliseconds", load_default=_DEFAULT.default_timeout)
    connect_timeout = count(1, MOST_MS, "milliseconds", load_default=_DEFAULT.connect_timeout)
    idle_timeout = count(1, MOST_MS, "milliseconds", load_default=_DEFAULT.idle_timeout)
    health_check_path = text(512, rules=(_PATH,), load_default=_DEFAULT.health_check_path)
    response_mode = choice(("raw", "envelope"), load_default=_DEFAULT.response_mode)
    streaming_enabled = Switch(load_default=_DEFAULT.streaming_enabled)
    error_mapping = endpoints.error_mapping()
    pass_cookies = Switch(load_default=_DEFAULT.pass_cookies)
    forwarded_headers = choice(forwarded.KINDS, load_default=_DEFAULT.forwarded_headers)
    sandbox_responses = Switch(load_default=_DEFAULT.sandbox_responses)
    targets = targets()
    load_balancing = choice(BALANCINGS, load_default=_DEFAULT.load_balancing)
    max_connections = count(1, MOST_SLOTS, load_default=_DEFAULT.max_connections)
    max_waiting = count(0, MOST_SLOTS, load_default=_DEFAULT.max_waiting)
    schemas = body_schemas.definitions()
    health = fields.String(dump_only=True, metadata={"enum": HEALTHS})
    endpoint_count = fields.Integer(dump_only=True)
    version = fields.Integer(dump_only=True)
    published_version = fields.Integer(dump_only=True, allow_none=True)
    has_unpublished_changes = fields.Function(
        lambda row: row["published_version"] not in {None, row["version"]},
        dump_only=True,
        metadata={"type": "boolean"},
    )
    created_by = fields.String(dump_only=True)
    created_at = Instant(dump_only=True)
    updated_at = Instant(dump_only=True)
    published_at = Instant(dump_only=True, allow_none=True)

    @pre_load
    def _with_auth_config(self, given: Any, **_: Any) -> Any:
        """A type without a configuration has the type's defaults."""
        return {"authConfig": {}, **given} if isinstance(given, dict) else given

    @post_load
    def _completed(self, item: dict[str, Any], **_: Any) -> dict[str, Any]:
        """What is left out follows from what is there."""
        host = hosts.host(item["upstream_base_url"])
        allowed = item["allowed_hosts"] or [host]
        if not any(host_fits(host, entry) for entry in allowed):
            detail = f"The host of the base URL, {host}, is not among them."
            raise ValidationError({"allowedHosts": [detail]})
        check_targets(item, allowed)
        return {"display_name": item["slug"], **item, "allowed_hosts": allowed}

    def merged(self, current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
        """What follows from a field does not outlive it."""
        left = {"displayName"} if current["displayName"] == current["slug"] else set()
        if patch.get("authType", current["authType"]) != current["authType"]:
            left.add("authConfig")
        if current["allowedHosts"] == [hosts.host(current["upstreamBaseUrl"])]:
            left.add("allowedHosts")
        return super().merged({k: v for k, v in current.items() if k not in left}, patch)


class ConnectorCreate(ConnectorSchema):
    """A connector with what belongs to it, made at once or not at all."""

    endpoints = fields.List(
        fields.Nested(endpoints.EndpointSchema),
        validate=validate.Length(max=endpoints.MOST_ENDPOINTS),
        load_default=list,
        load_only=True,
    )
    secrets = secrets.values(load_default=dict, load_only=True)


class ConnectorQuery(PageQuery):
    """What the list can be narrowed to."""

    status = choice(STATUSES)
    health = choice(HEALTHS)
    tag = text(32)


SCHEMA: Final = ConnectorSchema()
CREATE: Final = ConnectorCreate()
_QUERY: Final = ConnectorQuery()


def stored(item: Mapping[str, Any]) -> dict[str, Any]:
    """A connector as its columns, what is none of them in `definition`.

    A row that an older version wrote may lack what it did not know.
    """
    columns = {name: item[name] for name in _COLUMNS}
    return {**columns, "definition": {name: item[name] for name in _DEFINED if name in item}}


async def make(write: Write, item: Mapping[str, Any]) -> dict[str, Any]:
    """A new draft with its endpoints and secrets; answers its row."""
    await plans.ensure_first(write)
    new = {"id": uuid7(), "created_by": write.call.identity.user, **stored(item)}
    await write.run(_INSERT, new)
    row = await connector(write, str(new["id"]))
    write.log("connector.create", row["id"], changed({}, SCHEMA.settings(row)))
    if item["endpoints"]:
        await endpoints.add(write, row, item["endpoints"], prefix="/endpoints")
    if item["secrets"]:
        known = secrets.names_of(row, item["endpoints"])
        await secrets.store(write, row, known, item["secrets"], "/secrets")
    return await connector(write, str(row["id"]))


async def index(call: Call) -> web.Response:
    """GET: the team's connectors."""
    page = Page.of(call, _QUERY)
    rows = await call.rows(_LISTS[page.sort], page.filters, *page.values)
    return page.answer(rows, lambda row: SCHEMA.dump(flat(row)))


async def create(call: Call) -> web.Response:
    """POST: a draft, perhaps with endpoints and secrets."""
    item = await asyncio.to_thread(CREATE.load, await call.body())
    if item["secrets"]:
        call.require("admin", "Setting secrets")
    async with writing(call) as write:
        row = await make(write, item)
    return shown(row, status=201, location=f"connectors/{row['id']}")


async def show(call: Call) -> web.Response:
    """GET: one connector."""
    return shown(await connector(call, call.part("connector")))


async def replace(call: Call) -> web.Response:
    """PUT: all that may be said about a connector, anew."""
    return await _change(call, await call.body(), merge=False)


async def patch(call: Call) -> web.Response:
    """PATCH: some of a connector; null clears a field."""
    return await _change(call, await call.body(), merge=True)


async def _change(call: Call, given: dict[str, Any], *, merge: bool) -> web.Response:
    async with writing(call) as write:
        row = await editable_connector(write, call.part("connector"))
        call.expect(row["version"])
        before = SCHEMA.settings(row)
        wanted = SCHEMA.merged(before, given) if merge else given
        item = await asyncio.to_thread(SCHEMA.load, wanted)
        row = await change(write, row, item)
    return shown(row)


async def change(write: Write, row: dict[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """New values for the working copy of a locked connector, if they are any; answers its row."""
    if row["status"] == "published" and item["slug"] != row["slug"]:
        raise Rejected("conflict", "A published connector keeps its slug: unpublish it first.")
    before, after = SCHEMA.settings(row), SCHEMA.settings(item)
    if difference := await asyncio.to_thread(changed, before, after):
        await check_move(write, row, item)
        if "schemas" in difference:
            own = await endpoints.every(write, row["id"])
            await asyncio.to_thread(
                body_schemas.check_edit, own, row.get("schemas", {}), item["schemas"]
            )
        kept = {"id": row["id"], "version": row["version"], **stored(item)}
        if await write.row(_UPDATE, kept) is None:
            raise stale()
        write.log("connector.update", row["id"], difference)
        row = await connector(write, str(row["id"]))
    return row


async def check_move(write: Write, row: Mapping[str, Any], item: Mapping[str, Any]) -> None:
    """Who may not set secrets may not send those that are set to somebody else either."""
    if origins(item) - origins(row) and await secrets.are_set(write, row["id"]):
        write.call.require("admin", "Sending the connector's secrets elsewhere")


async def delete(call: Call) -> web.Response:
    """DELETE: archive; with `?purge=true` remove an archived one for good."""
    purge = call.flag("purge")
    if purge:
        call.require("admin", "Purging")
    async with writing(call) as write:
        row = await locked_connector(write, call.part("connector"))
        call.expect(row["version"])
        if purge:
            await _purge(write, row)
        elif row["status"] != "archived":
            await withdraw(write, row, "archived", "connector.archive")
    return nothing()


async def _purge(write: Write, row: Mapping[str, Any]) -> None:
    if row["status"] != "archived":
        raise Rejected("conflict", "Only an archived connector can be purged: DELETE it first.")
    if await write.row(_PURGE, row["id"], row["version"]) is None:
        raise stale()
    write.log("connector.purge", row["id"], changed(SCHEMA.settings(row), {}))


async def withdraw(write: Write, row: Mapping[str, Any], status: str, action: str) -> None:
    """Take a connector from callers, with a new status."""
    if await write.row(_WITHDRAW, row["id"], row["version"], status) is None:
        raise stale()
    difference: dict[str, Any] = {"status": [row["status"], status]}
    if (version := row["published_version"]) is not None:
        difference["publishedVersion"] = [version, None]
    write.log(action, row["id"], difference)


def shown(
    row: Mapping[str, Any], *, status: int = 200, location: str = "", **more: Any
) -> web.Response:
    """The answer that is a connector."""
    document = {**SCHEMA.dump(row), **more}
    return answer(document, status=status, version=row["version"], location=location)


RESOURCE: Final = Resource(
    "connectors",
    "connectors",
    (
        Route("GET", "/connectors", "viewer", index, lists(ConnectorSchema, ConnectorQuery)),
        Route(
            "POST",
            "/connectors",
            "editor",
            create,
            creates(
                ConnectorSchema, ConnectorCreate, {**EXAMPLE, "endpoints": [endpoints.EXAMPLE]}
            ),
        ),
        Route("GET", "/connectors/{connector}", "viewer", show, shows(ConnectorSchema)),
        Route(
            "PUT",
            "/connectors/{connector}",
            "editor",
            replace,
            writes(ConnectorSchema, ConnectorSchema, EXAMPLE),
        ),
        Route(
            "PATCH",
            "/connectors/{connector}",
            "editor",
            patch,
            writes(ConnectorSchema, ConnectorSchema, {"description": "Maps and places"}),
        ),
        Route(
            "DELETE",
            "/connectors/{connector}",
            "editor",
            delete,
            deletes(flags={"purge": "Remove an archived connector for good."}),
        ),
    ),
)
