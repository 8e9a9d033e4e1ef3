"""Endpoints of a connector's working copy: what may be said about one, and its handlers.

Whatever compiles when callers use an endpoint is compiled when it is saved. Every change makes a
new version of the connector; callers get it with the next publish.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from marshmallow import ValidationError, fields, post_load, validate

import sql
from admin import body_schemas
from admin.auth_config import header_name, header_value
from admin.calls import Call, TeamRows, answer, nothing, stale
from admin.differences import changed
from admin.fields import (
    METHODS,
    MOST_BYTES,
    MOST_COUNT,
    MOST_MS,
    Instant,
    Switch,
    Wire,
    choice,
    count,
    is_id,
    matches,
    pairs,
    sentence,
    text,
    texts,
)
from admin.lists import Page, PageQuery
from admin.references import connector, editable_connector, flat, object_id, unknown
from admin.routes import Resource, Route, creates, deletes, lists, shows, writes
from admin.writes import Write, writing
from gateway.ids import uuid7
from gateway.model import ConnectorDefinition, EndpointDefinition
from gateway.problems import Fault, Rejected
from gateway.transform.bodies import KINDS
from gateway.transform.compiling import definition_of
from gateway.transform.field_map import compile_field_map
from gateway.transform.request import MappingFault, compile_mapping
from gateway.transform.routes import PatternFault, parse
from gateway.transform.rules import RuleFault, compile_pattern, compile_words

_LISTS: Final = {"newest": sql.query("endpoints.newest"), "name": sql.query("endpoints.by_name")}
_ALL: Final = sql.query("endpoints.all")
_ONE: Final = sql.query("endpoints.one")
_INSERT: Final = sql.query("endpoints.insert")
_UPDATE: Final = sql.query("endpoints.update")
_DELETE: Final = sql.query("endpoints.delete")
_TOUCH: Final = sql.query("connectors.touch")

MOST_ENDPOINTS: Final = 500
EXAMPLE: Final = {"name": "find", "method": "GET", "path": "/find/:place"}
_ALL_OF: Final = "/connectors/{connector}/endpoints"
_ONE_OF: Final = "/connectors/{connector}/endpoints/{endpoint}"
_DEFINED: Final = tuple(field.name for field in dataclasses.fields(EndpointDefinition))
_COLUMNS: Final = ("name", "method", "path", "enabled")
_ANYWHERE: Final = ConnectorDefinition(upstream_base_url="https://upstream.invalid")
_COMPILED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "body_schema": body_schemas.check_alone,
    "body_pattern": compile_pattern,
    "body_blacklist": compile_words,
    "field_map": compile_field_map,
}
_TRANSFORM: Final = matches(
    "passthrough|static|template|form|extract:.+", f"Not one of {', '.join(KINDS)}."
)


def error_mapping() -> fields.Field[Any]:
    """Upstream statuses and what callers are told of them."""
    status = text(3, rules=(matches(r"[45][0-9]{2}", "Not a status from 400 to 599."),))
    return pairs(status, text(512, least=1))


def _not_an_id(name: str) -> None:
    if is_id(name) or not name.isprintable():
        raise ValidationError("A name is printable and no id.")


def _headers() -> fields.Field[Any]:
    return pairs(text(128, rules=(header_name,)), text(4096, rules=(header_value,)))


def _query_params() -> fields.Field[Any]:
    return pairs(text(128, least=1), text(4096))


class EndpointSchema(Wire):
    """One route of a connector."""

    id = fields.String(dump_only=True)
    name = text(64, least=1, rules=(_not_an_id,), required=True)
    description = text(1024, load_default="")
    method = choice(METHODS, hint="For several, make an endpoint for each.", required=True)
    path = text(512, least=1, required=True)
    enabled = Switch(load_default=True)
    upstream_method = choice(METHODS, load_default=None)
    upstream_path = text(1024, least=1, load_default=None)
    upstream_content_type = text(128, least=1, rules=(header_value,), load_default=None)
    upstream_query_params = _query_params()
    default_query_params = _query_params()
    set_headers = _headers()
    add_headers = _headers()
    remove_headers = texts(text(128, rules=(header_name,)), 50)
    body_transform = text(256, rules=(_TRANSFORM,), load_default="passthrough")
    upstream_static_body = text(65_536, load_default=None)
    response_mode = choice(("raw", "envelope"), load_default=None)
    streaming_enabled = Switch(load_default=None)
    rate_limit = count(0, MOST_COUNT, load_default=None)
    timeout = count(1, MOST_MS, "milliseconds", load_default=None)
    idle_timeout = count(1, MOST_MS, "milliseconds", load_default=None)
    encoded_slashes = choice(
        ("refuse", "allow"),
        load_default="refuse",
        metadata={"description": "Whether `:name*` may have `%2F`, which some upstreams decode."},
    )
    max_request_size = count(0, MOST_BYTES, "bytes", load_default=None)
    max_response_size = count(0, MOST_BYTES, "bytes", load_default=None)
    required_headers = texts(text(128, rules=(header_name,)), 50)
    media_types = texts(
        text(
            128,
            rules=(matches(r"[A-Za-z0-9_!#$&^.+-]+/[A-Za-z0-9_!#$&^.+-]+", "Not a media type."),),
        ),
        20,
    )
    body_schema = fields.Raw(
        load_default=None,
        metadata={
            "type": ["object", "boolean"],
            "description": "JSON Schema 2020-12. `#/$defs/NAME` is the connector's, if not its own.",
        },
    )
    body_pattern = text(1024, least=1, load_default=None)
    body_blacklist = texts(text(128, least=1), 200)
    cache_ttl = count(0, MOST_COUNT, "seconds", load_default=None)
    retries = count(0, 5, load_default=0)
    field_map = pairs(text(256, least=1), text(256, least=1))
    error_mapping = error_mapping()
    examples = fields.List(fields.Dict(), validate=validate.Length(max=5), load_default=list)
    version = fields.Integer(dump_only=True)
    created_at = Instant(dump_only=True)
    updated_at = Instant(dump_only=True)

    @post_load
    def _compiled(self, item: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Refuse what would not compile for callers."""
        if faults := {**_route_faults(item), **_rule_faults(item)}:
            raise ValidationError(faults)
        return item


def _route_faults(item: Mapping[str, Any]) -> dict[str, list[str]]:
    try:
        parse(item["path"])
        compile_mapping(_ANYWHERE, definition_of(EndpointDefinition, item), item, {})
    except PatternFault as fault:
        return {"path": [sentence(fault)]}
    except MappingFault as fault:
        return {str(SCHEMA.fields[fault.field].data_key): [sentence(fault)]}
    return {}


def _rule_faults(item: Mapping[str, Any]) -> dict[str, list[str]]:
    faults = {}
    for name, compiled in _COMPILED.items():
        try:
            if item[name] not in (None, []):
                compiled(item[name])
        except RuleFault as fault:
            faults[str(SCHEMA.fields[name].data_key)] = [sentence(fault)]
    return faults


SCHEMA: Final = EndpointSchema()
_QUERY: Final = PageQuery()


async def every(team: TeamRows, connector_id: UUID) -> list[dict[str, Any]]:
    """All endpoints of a connector, the definition's fields among their own."""
    return [flat(row) for row in await team.rows(_ALL, connector_id)]


def definitions(rows: Iterable[Mapping[str, Any]]) -> list[EndpointDefinition]:
    """The definitions of endpoints."""
    return [definition_of(EndpointDefinition, row) for row in rows]


def stored(item: Mapping[str, Any]) -> dict[str, Any]:
    """An endpoint as its columns, what is none of them in `definition`.

    A row that an older version wrote may lack what it did not know.
    """
    columns = {name: item[name] for name in _COLUMNS}
    return {**columns, "definition": {name: item[name] for name in _DEFINED if name in item}}


async def add(
    write: Write,
    found: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    there: Sequence[Mapping[str, Any]] = (),
    prefix: str = "",
) -> list[UUID]:
    """Add checked endpoints of a connector beside those that are there.

    `prefix` leads the pointers of faults.
    """
    connector_id = found["id"]
    check_routes(items, there, prefix)
    await asyncio.to_thread(body_schemas.check, items, there, found, prefix)
    ids = sorted(uuid7() for _ in items)  # within a millisecond they are in no order
    rows = [{"id": id_, **stored(item)} for id_, item in zip(ids, items, strict=True)]
    await write.run(_INSERT, connector_id, rows)
    for row, difference in zip(rows, await asyncio.to_thread(_news, rows), strict=True):
        write.log("endpoint.create", row["id"], difference)
    return ids


def _news(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the audit log says of new endpoints; of many it takes a while."""
    return [changed({}, SCHEMA.settings(flat(row))) for row in rows]


def check_routes(
    items: Sequence[Mapping[str, Any]], there: Iterable[Mapping[str, Any]], prefix: str = ""
) -> None:
    """Raises Rejected `conflict` for a name or a route that another endpoint has.

    Two patterns of one shape match the same paths, whatever their parameters are called.
    """
    there = [*there]
    names = {row["name"] for row in there}
    routes = {_route(row): row for row in there}
    faults = []
    for index, item in enumerate(items):
        pointer = prefix and f"{prefix}/{index}"
        if item["name"] in names:
            faults.append(Fault(f"{pointer}/name", "Another endpoint has this name."))
        if (other := routes.get(_route(item))) is not None:
            detail = f"{other['name']} ({other['method']} {other['path']}) matches the same paths."
            faults.append(Fault(f"{pointer}/path", detail))
        names.add(item["name"])
        routes[_route(item)] = item
    if faults:
        raise Rejected("conflict", faults[0].detail, errors=faults)


def _route(item: Mapping[str, Any]) -> tuple[Any, ...]:
    return item["method"], parse(item["path"]).shape


async def index(call: Call) -> web.Response:
    """GET: the endpoints of a connector."""
    found = await connector(call, call.part("connector"))
    page = Page.of(call, _QUERY)
    filters = {**page.filters, "connector_id": found["id"]}
    rows = await call.rows(_LISTS[page.sort], filters, *page.values)
    return page.answer(rows, lambda row: SCHEMA.dump(flat(row)))


async def create(call: Call) -> web.Response:
    """POST: one more endpoint."""
    item = await asyncio.to_thread(SCHEMA.load, await call.body())
    async with writing(call) as write:
        found = await editable_connector(write, call.part("connector"))
        there = await every(write, found["id"])
        if len(there) >= MOST_ENDPOINTS:
            raise Rejected("conflict", f"A connector has at most {MOST_ENDPOINTS} endpoints.")
        (made,) = await add(write, found, [item], there)
        await write.run(_TOUCH, found["id"])
        row = await _endpoint(write, found["id"], made)
    return _answer(row, status=201, location=f"endpoints/{made}")


async def show(call: Call) -> web.Response:
    """GET: one endpoint."""
    found = await connector(call, call.part("connector"))
    return _answer(await _endpoint(call, found["id"], _id(call)))


async def replace(call: Call) -> web.Response:
    """PUT: all that may be said about an endpoint, anew."""
    return await _change(call, await call.body(), merge=False)


async def patch(call: Call) -> web.Response:
    """PATCH: some of an endpoint; null clears a field."""
    return await _change(call, await call.body(), merge=True)


async def _change(call: Call, given: dict[str, Any], *, merge: bool) -> web.Response:
    async with writing(call) as write:
        found = await editable_connector(write, call.part("connector"))
        row = await _endpoint(write, found["id"], _id(call))
        call.expect(row["version"])
        before = SCHEMA.settings(row)
        wanted = SCHEMA.merged(before, given) if merge else given
        item = await asyncio.to_thread(SCHEMA.load, wanted)
        if difference := changed(before, SCHEMA.settings(item)):
            others = [
                other for other in await every(write, found["id"]) if other["id"] != row["id"]
            ]
            check_routes([item], others)
            await asyncio.to_thread(body_schemas.check, [item], others, found)
            kept = {"id": row["id"], "version": row["version"], **stored(item)}
            if await write.row(_UPDATE, kept) is None:
                raise stale()
            await write.run(_TOUCH, found["id"])
            write.log("endpoint.update", row["id"], difference)
            row = await _endpoint(write, found["id"], row["id"])
    return _answer(row)


async def delete(call: Call) -> web.Response:
    """DELETE: out of the working copy."""
    async with writing(call) as write:
        found = await editable_connector(write, call.part("connector"))
        row = await _endpoint(write, found["id"], _id(call))
        call.expect(row["version"])
        if await write.row(_DELETE, row["id"], row["version"]) is None:
            raise stale()
        await write.run(_TOUCH, found["id"])
        write.log("endpoint.delete", row["id"], changed(SCHEMA.settings(row), {}))
    return nothing()


def _id(call: Call) -> UUID:
    return object_id(call.part("endpoint"), "endpoint")


async def _endpoint(team: TeamRows, connector_id: UUID, endpoint_id: UUID) -> dict[str, Any]:
    row = await team.row(_ONE, connector_id, endpoint_id)
    if row is None:
        raise unknown("endpoint")
    return flat(row)


def _answer(row: Mapping[str, Any], *, status: int = 200, location: str = "") -> web.Response:
    version = row["version"]
    return answer(SCHEMA.dump(row), status=status, version=version, location=location)


RESOURCE: Final = Resource(
    "endpoints",
    "endpoints",
    (
        Route("GET", _ALL_OF, "viewer", index, lists(EndpointSchema, PageQuery)),
        Route("POST", _ALL_OF, "editor", create, creates(EndpointSchema, EndpointSchema, EXAMPLE)),
        Route("GET", _ONE_OF, "viewer", show, shows(EndpointSchema)),
        Route("PUT", _ONE_OF, "editor", replace, writes(EndpointSchema, EndpointSchema, EXAMPLE)),
        Route(
            "PATCH",
            _ONE_OF,
            "editor",
            patch,
            writes(EndpointSchema, EndpointSchema, {"timeout": 5000}),
        ),
        Route("DELETE", _ONE_OF, "editor", delete, deletes()),
    ),
)
