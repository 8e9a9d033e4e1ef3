"""Why a request would be answered as it would: the pipeline's own verdicts on a described request.

Nothing is sent, counted or recorded, and no secret is read into the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from marshmallow import ValidationError, fields, validates_schema

import sql
from admin import endpoints, snapshots
from admin.allowances import Allowance
from admin.calls import Call, answer
from admin.described_requests import DescribedRequest, exchange_of, path_field
from admin.explain.verdicts import EXPLANATION, document
from admin.fields import METHODS, Wire, choice, is_id, matches, text
from admin.references import connector
from admin.routes import Operation, Resource, Route
from gateway.exchange import Exchange
from gateway.explain.explanation import ByKey, ByUser
from gateway.identity.jwts import ROLES
from gateway.problems import Rejected
from gateway.transform.routes import Router, parse

_KEY: Final = sql.query("keys.one")
_PUBLISHED: Final = sql.query("connectors.published")

ALLOWED: Final = Allowance("explanations", 300, 4)
MOST_TOLD: Final = 100
"""How many endpoints are told of, those that are nearest first."""


class DescribedCaller(Wire):
    """Who makes the request: a key by its id, or a user with a role in this team."""

    key = text(36, rules=(matches(r"[0-9a-fA-F-]{36}", "Not the id of a key."),))
    user = text(256, least=1)
    role = choice(ROLES, load_default="viewer")

    @validates_schema
    def _one_of_both(self, item: Mapping[str, Any], **_: Any) -> None:
        if ("key" in item) == ("user" in item):
            raise ValidationError("Name a key or a user.")


class ExplainedRequest(DescribedRequest):
    """The request that is to be explained; `connector` is an id or a slug."""

    connector = text(64, rules=(matches(r"[A-Za-z0-9-]+", "Not a slug."),), required=True)
    method = choice((*METHODS, "OPTIONS"), load_default="GET")
    path = path_field(required=True)
    caller = fields.Nested(DescribedCaller, required=True)
    client_address = fields.IP()


_SCHEMA: Final = ExplainedRequest()


async def create(call: Call) -> web.Response:
    """POST: what would become of a request."""
    given = _SCHEMA.load(await call.body())
    row, slug = await _connector(call, given["connector"])
    caller, key = await _caller(call, given["caller"])

    def make(credential: tuple[str, str]) -> Exchange:
        return exchange_of(
            given,
            given["method"],
            f"/{slug}{given['path']}",
            client_address=str(given.get("client_address", call.client_address)),
            request_id=call.request_id,
            more=[_beside(given, credential)],
        )

    async with ALLOWED.take(call):
        told = await call.control.explainer.explain(make, caller)
    routes = [] if row is None else await _routes(call, row, told.exchange, given)
    return answer(document(told, key, routes))


async def _connector(call: Call, reference: str) -> tuple[dict[str, Any] | None, str]:
    """The connector, if there is one, and what callers call it."""
    try:
        row = await connector(call, reference)
    except Rejected:
        return None, reference
    return row, row["slug"]


async def _caller(
    call: Call, given: Mapping[str, Any]
) -> tuple[ByKey | ByUser, Mapping[str, Any] | None]:
    """The caller, and the row of its key. Raises ValidationError."""
    if "user" in given:
        return ByUser(given["user"], call.team, given["role"]), None
    row = await call.row(_KEY, UUID(given["key"])) if is_id(given["key"]) else None
    if row is None:
        raise ValidationError({"caller": {"key": ["The team has no such key."]}})
    return ByKey(row["public_id"]), row


def _beside(given: Mapping[str, Any], credential: tuple[str, str]) -> tuple[str, str]:
    """The credential, in another field where Authorization is for the upstream."""
    if "authorization" not in {name.lower() for name in given["headers"]}:
        return credential
    if "user" in given["caller"]:
        detail = "A user's own token is in this field."
        raise ValidationError({"headers": {"Authorization": [detail]}})
    return "X-API-Key", credential[1].partition(" ")[2]


async def _routes(
    call: Call, row: Mapping[str, Any], exchange: Exchange, given: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every endpoint, and why it is the one or isn't; those that come nearest first."""
    published = await call.row(_PUBLISHED, row["id"])
    frozen = [] if published is None else snapshots.endpoint_rows(published["snapshot"])
    known = {entry["id"] for entry in frozen}
    drafted = [e for e in await endpoints.every(call, row["id"]) if str(e["id"]) not in known]
    told = [
        *(_route(entry, exchange, given) for entry in frozen),
        *((3, entry, "It is not published.") for entry in drafted),
    ]
    told.sort(key=lambda route: route[0])
    return [
        {
            "id": str(entry["id"]),
            "name": entry["name"],
            "method": entry["method"],
            "path": entry["path"],
            "matched": distance == 0,
            "why": why,
        }
        for distance, entry, why in told[:MOST_TOLD]
    ]


def _route(
    entry: dict[str, Any], exchange: Exchange, given: Mapping[str, Any]
) -> tuple[int, dict[str, Any], str]:
    """How far an endpoint is from the request, and why; the data plane's router says so."""
    chosen = exchange.known_endpoint
    if not entry["enabled"]:
        return 3, entry, "It is disabled."
    if chosen is not None and chosen.id == entry["id"]:
        return 0, entry, "It matches, and nothing that matches is more specific."
    if (refusal := _refusal(entry, given)) is not None:
        return refusal[0], entry, refusal[1]
    if chosen is None:
        return 1, entry, "It matches; the request did not get as far."
    return 1, entry, f"It matches, too; {chosen.name} is more specific."


def _refusal(entry: dict[str, Any], given: Mapping[str, Any]) -> tuple[int, str] | None:
    """How far off an endpoint that does not match is, and why; None for one that does."""
    router = Router([(entry["method"], parse(entry["path"]), None)])
    try:
        router.match(given["method"], given["path"])
    except Rejected as rejected:
        if rejected.code == "method_not_allowed":
            return 2, f"The path fits; it takes {entry['method']}."
        if rejected.code == "endpoint_not_found":
            return 4, "It has another path."
        return 4, rejected.detail
    return None


RESOURCE: Final = Resource(
    "explanations",
    "trials",
    (
        Route(
            "POST",
            "/explain",
            "viewer",
            create,
            Operation(
                EXPLANATION,
                body=ExplainedRequest,
                example={"connector": "maps", "path": "/find/berlin", "caller": {"user": "ana"}},
                codes=("not_found",),
            ),
        ),
    ),
)
