"""The state of a team as a document: read whole, at one moment, and exported.

What was made by hand and what a document made are the same objects; nothing marks them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiohttp import web

import sql
from admin import keys, secrets
from admin.calls import Call, TeamRows, answer
from admin.fields import Wire, choice, text
from admin.reads import reading
from admin.references import flat
from admin.routes import Operation, Resource, Route
from admin.state.document import CONNECTOR, ENDPOINT, PLAN, Connector, Declared, Entry, named
from gateway import yamls

_CONNECTORS: Final = sql.query("state.connectors")
_ENDPOINTS: Final = sql.query("state.endpoints")
_SECRETS: Final = sql.query("state.secrets")
_SLUGS: Final = sql.query("state.slugs")
PLANS: Final = sql.query("state.plans")
_KEYS: Final = sql.query("state.keys")
_APPLIED: Final = sql.query("state.applied")

KEY: Final = keys.KeySchema()

Rows = list[dict[str, Any]]


class ExportQuery(Wire):
    """Which part of the team's state, and how it is written."""

    tag = text(32, least=1, load_default="")
    format = choice(("json", "yaml"), load_default="json")


_QUERY: Final = ExportQuery()


@dataclass(frozen=True, slots=True)
class State:
    """What a team has, and the rows that it was made from, by slug, name, and key's prefix."""

    declared: Declared
    connectors: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, Rows] = field(default_factory=dict)
    plans: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    slugs: dict[str, str] = field(default_factory=dict)
    """Every connector's slug by its id, whatever its tags."""
    digest: str = ""


class Found(NamedTuple):
    """The rows that a state is made of."""

    tag: str
    slugs: dict[str, str]
    connectors: Rows
    endpoints: Rows
    secrets: Rows
    plans: Rows
    keys: Rows


async def read(team: TeamRows, tag: str, others: Collection[str] = ()) -> State:
    """The state of a team, or of its connectors with a tag, and of some others by their slugs."""
    connectors = await team.rows(_CONNECTORS, tag, [*others])
    ids = [row["id"] for row in connectors]
    found = Found(
        tag,
        await slugs_of(team),
        connectors,
        await team.rows(_ENDPOINTS, ids),
        await team.rows(_SECRETS, ids),
        [] if tag else await team.rows(PLANS),
        [] if tag else await team.rows(_KEYS),
    )
    return await asyncio.to_thread(_state, found)  # a large team takes seconds


def _state(found: Found) -> State:
    connectors = {row["slug"]: flat(row) for row in found.connectors}
    endpoints = _by_connector(map(flat, found.endpoints))
    references = _by_connector(found.secrets)
    names = {str(plan["id"]): plan["name"] for plan in found.plans}
    keys = {KEY.dump(row)["keyPrefix"]: row for row in found.keys}
    declared = Declared(
        found.tag,
        plans={plan["name"]: Entry(_plan(plan, found.slugs)) for plan in found.plans},
        connectors={
            slug: _connector(row, endpoints[row["id"]], references[row["id"]])
            for slug, row in connectors.items()
        },
        keys=[Entry(_key(row, names, found.slugs), prefix) for prefix, row in keys.items()],
    )
    return State(
        declared,
        connectors,
        {slug: endpoints[row["id"]] for slug, row in connectors.items()},
        {plan["name"]: plan for plan in found.plans},
        keys,
        found.slugs,
        declared.digest(),
    )


async def slugs_of(team: TeamRows) -> dict[str, str]:
    """The slugs of the team's connectors by their ids, but for archived ones."""
    return {str(row["id"]): row["slug"] for row in await team.rows(_SLUGS)}


def _by_connector(rows: Iterable[dict[str, Any]]) -> defaultdict[Any, Rows]:
    found: defaultdict[Any, Rows] = defaultdict(list)
    for row in rows:
        found[row["connector_id"]].append(row)
    return found


def _connector(row: Mapping[str, Any], own: Rows, kept: Rows) -> Connector:
    references = {secret["name"]: secret["reference"] for secret in kept}
    published: bool | None = row["status"] == "published"
    if published and row["published_version"] != row["version"]:
        published = None
    return Connector(
        CONNECTOR.settings(row),
        {endpoint["name"]: ENDPOINT.settings(endpoint) for endpoint in own},
        {name: references.get(name) for name in secrets.names_of(row, own)},
        published,
    )


def _plan(row: Mapping[str, Any], slugs: Mapping[str, str]) -> dict[str, Any]:
    settings = PLAN.settings(row)
    return {**settings, "allowedConnectors": named(settings["allowedConnectors"], slugs)}


def _key(
    row: Mapping[str, Any], plans: Mapping[str, str], slugs: Mapping[str, str]
) -> dict[str, Any]:
    settings = KEY.settings(row)
    plan_id = settings["planId"]
    return {
        "name": settings["name"],
        "plan": None if plan_id is None else plans[plan_id],
        "connectors": named(settings["connectorIds"], slugs),
        "allowedEndpoints": settings["allowedEndpoints"],
        "allowedIPs": settings["allowedIPs"],
        "expiresAt": settings["expiresAt"],
    }


async def applied(team: TeamRows, tag: str) -> tuple[int, str]:
    """The revision and the digest of the document that was applied last; 0 when none was."""
    row = await team.row(_APPLIED, tag)
    return (0, "") if row is None else (row["revision"], row["digest"])


async def export(call: Call) -> web.Response:
    """GET: the team's connectors, plans and keys as one document that can be applied again."""
    query = _QUERY.load(call.parameters())
    async with reading(call) as team:
        state = await read(team, query["tag"])
        revision, _ = await applied(team, query["tag"])
    told = await asyncio.to_thread(state.declared.told)
    heading = {"format": told.pop("format"), "revision": revision + 1, "digest": state.digest}
    document = {**heading, **told}
    response = answer(document, version=state.digest)
    if query["format"] == "yaml":
        response.content_type = "application/yaml"
        response.text = await asyncio.to_thread(yamls.render, document)
    return response


RESOURCE: Final = Resource(
    "state",
    "state",
    (
        Route(
            "GET",
            "/config/export",
            "viewer",
            export,
            Operation(
                {"type": "object", "description": "A document that `POST /config/apply` takes."},
                query=ExportQuery,
                etag=True,
                media_types=("application/json", "application/yaml"),
            ),
        ),
    ),
)
