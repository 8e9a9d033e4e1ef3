"""What each route of the admin API takes and answers, in the order of the route table.

A new route needs a line here: the schema of its answer, of its body, of its query. Its summary is its
handler's docstring; its errors follow from what it takes, `codes` names the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from marshmallow import fields

from admin import (
    audit,
    connectors,
    endpoints,
    health,
    keys,
    me,
    plans,
    publishing,
    secrets,
    session,
    versions,
)
from admin import lists as pages
from admin.explain import explanations
from admin.fields import Wire, matches, text
from admin.importing import drafts
from admin.openapi import offered, shapes
from admin.state import document, exporting
from admin.templates import catalogue
from admin.trials import connections
from admin.usage import records, summary, timeseries

Shape = type[Wire] | dict[str, Any]


class Operation(NamedTuple):
    """A route for who calls it; a dict is JSON Schema as it stands. No answer: 204, or bytes."""

    answer: Shape | None = None
    status: int = 200
    many: bool = False
    body: Shape | fields.Field[Any] | None = None
    body_optional: bool = False
    example: Any = None
    query: type[Wire] | None = None
    etag: bool = False
    if_match: bool = False
    codes: tuple[str, ...] = ()
    about: str = ""
    media_types: tuple[str, ...] = ("application/json",)
    also: tuple[tuple[int, Shape], ...] = ()


def lists(item: Shape, query: type[Wire] | None = None) -> Operation:
    """A page of a list."""
    return Operation(item, many=True, query=query)


def shows(answer: Shape, *, etag: bool = True) -> Operation:
    """One object."""
    return Operation(answer, etag=etag)


def creates(answer: Shape, body: Shape, example: Any) -> Operation:
    """A new object."""
    return Operation(answer, 201, body=body, etag=True, example=example)


def writes(answer: Shape, body: Shape, example: Any) -> Operation:
    """An object that is there already, changed."""
    return Operation(answer, body=body, etag=True, if_match=True, example=example)


def acts(answer: Shape, **more: Any) -> Operation:
    """A verb on an object, which answers it as it is then."""
    return Operation(answer, etag=True, if_match=True, **more)


def deletes() -> Operation:
    """An object's end."""
    return Operation(status=204, if_match=True)


class KeyWithValue(keys.KeySchema):
    """A key with its value, `key`, which is told this once (not in a dry run)."""

    key = fields.String(metadata={"example": "gw_4fQ7…"})


class Place(Wire):
    """A place in a document, and what is to be said of it."""

    pointer = fields.String(required=True)
    detail = fields.String(required=True)


class ConnectorFromTemplate(connectors.ConnectorSchema):
    """A connector, and what kept it from being published."""

    publish_faults = fields.List(fields.Nested(Place), dump_only=True)


class ConnectorFromDocument(connectors.ConnectorSchema):
    """A connector, and what of its document was not taken over."""

    warnings = fields.List(fields.Nested(Place), dump_only=True)


class VersionDetail(versions.VersionSchema):
    """A version, and what it holds."""

    connector = fields.Dict(required=True)
    endpoints = fields.List(fields.Dict(), required=True)


class Against(Wire):
    """What a version is compared with: the number of another, or `draft`."""

    against = text(10, rules=(matches("draft|[1-9][0-9]*", "Neither a number nor draft."),))


_SECRETS: Final = secrets.values()
_CONNECTOR: Final = {"slug": "maps", "upstreamBaseUrl": "https://maps.example.com/v2"}
_ENDPOINT: Final = {"name": "find", "method": "GET", "path": "/find/:place"}
_CHANGES: Final = {"type": "array", "items": {"type": "object"}}
_APPLIED: Final = {
    "type": "object",
    "required": ["revision", "digest", "changes", "left", "keys"],
    "properties": {
        "revision": {"type": "integer", "description": "The one that is in force; 0: none is."},
        "digest": {"type": "string", "description": "SHA-256 of the state as it is now."},
        "changes": {**_CHANGES, "description": "Each object that was not as the document says."},
        "left": {**_CHANGES, "description": "What `prune` would end: it is not in the document."},
        "keys": {**_CHANGES, "description": "New keys with their values, `key`, told this once."},
    },
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /connectors": lists(connectors.ConnectorSchema, connectors.ConnectorQuery),
    "POST /connectors": creates(
        connectors.ConnectorSchema,
        connectors.ConnectorCreate,
        {**_CONNECTOR, "endpoints": [_ENDPOINT]},
    ),
    "GET /connectors/{connector}": shows(connectors.ConnectorSchema),
    "PUT /connectors/{connector}": writes(
        connectors.ConnectorSchema, connectors.ConnectorSchema, _CONNECTOR
    ),
    "PATCH /connectors/{connector}": writes(
        connectors.ConnectorSchema, connectors.ConnectorSchema, {"description": "Maps and places"}
    ),
    "DELETE /connectors/{connector}": deletes(),
    "POST /connectors/{connector}/publish": acts(
        connectors.ConnectorSchema,
        body=publishing.Publication,
        body_optional=True,
        example={"note": "with the new timeout"},
    ),
    "POST /connectors/{connector}/unpublish": acts(connectors.ConnectorSchema),
    "POST /connectors/{connector}/restore": acts(connectors.ConnectorSchema),
    "POST /connectors/test": Operation(
        shapes.TRIAL,
        body=connections.DraftTrial,
        example=_CONNECTOR,
        codes=("not_found", "rate_limited", "too_many_concurrent"),
    ),
    "POST /connectors/{connector}/test": Operation(
        shapes.TRIAL,
        body=connections.TrialRequest,
        body_optional=True,
        example={"endpoint": "find", "path": "/find/berlin"},
        codes=("rate_limited", "too_many_concurrent"),
    ),
    "GET /connectors/{connector}/versions": lists(versions.VersionSchema, versions.VersionQuery),
    "GET /connectors/{connector}/versions/{version}": shows(VersionDetail, etag=False),
    "GET /connectors/{connector}/versions/{version}/diff": Operation(
        shapes.DIFFERENCE, query=Against
    ),
    "POST /connectors/{connector}/rollback": acts(
        connectors.ConnectorSchema, body=versions.Rollback, example={"version": 3}
    ),
    "GET /connectors/{connector}/openapi": Operation(
        shapes.OPENAPI,
        query=offered.DocumentQuery,
        media_types=("application/json", "application/yaml"),
    ),
    "POST /import/openapi": Operation(
        ConnectorFromDocument,
        201,
        body=drafts.Import,
        etag=True,
        example={
            "document": {
                "openapi": "3.1.0",
                "info": {"title": "Maps", "version": "2"},
                "servers": [{"url": "https://maps.example.com/v2"}],
                "paths": {"/find/{place}": {"get": {"operationId": "find"}}},
            }
        },
    ),
    "GET /connectors/{connector}/endpoints": lists(endpoints.EndpointSchema, pages.PageQuery),
    "POST /connectors/{connector}/endpoints": creates(
        endpoints.EndpointSchema, endpoints.EndpointSchema, _ENDPOINT
    ),
    "GET /connectors/{connector}/endpoints/{endpoint}": shows(endpoints.EndpointSchema),
    "PUT /connectors/{connector}/endpoints/{endpoint}": writes(
        endpoints.EndpointSchema, endpoints.EndpointSchema, _ENDPOINT
    ),
    "PATCH /connectors/{connector}/endpoints/{endpoint}": writes(
        endpoints.EndpointSchema, endpoints.EndpointSchema, {"timeout": 5000}
    ),
    "DELETE /connectors/{connector}/endpoints/{endpoint}": deletes(),
    "GET /connectors/{connector}/secrets": Operation(secrets.SecretSchema, many=True),
    "PUT /connectors/{connector}/secrets": Operation(
        secrets.SecretSchema, many=True, body=_SECRETS, if_match=True, example={"token": "s3cret"}
    ),
    "DELETE /connectors/{connector}/secrets/{name}": deletes(),
    "GET /keys": lists(keys.KeySchema, keys.KeyQuery),
    "POST /keys": creates(KeyWithValue, keys.KeySchema, {"name": "app", "connectorId": "maps"}),
    "GET /keys/{key}": shows(keys.KeySchema),
    "PATCH /keys/{key}": writes(keys.KeySchema, keys.KeySchema, {"name": "the app"}),
    "DELETE /keys/{key}": deletes(),
    "POST /keys/{key}/rotate": acts(
        KeyWithValue, body=keys.Rotation, body_optional=True, example={"graceSeconds": 3600}
    ),
    "POST /keys/{key}/end-grace": acts(keys.KeySchema),
    "POST /keys/{key}/revoke": acts(keys.KeySchema),
    "GET /plans": lists(plans.PlanSchema, pages.PageQuery),
    "POST /plans": creates(plans.PlanSchema, plans.PlanSchema, {"name": "gold", "rateLimit": 1000}),
    "GET /plans/{plan}": shows(plans.PlanSchema),
    "PUT /plans/{plan}": writes(plans.PlanSchema, plans.PlanSchema, {"name": "gold"}),
    "PATCH /plans/{plan}": writes(plans.PlanSchema, plans.PlanSchema, {"dailyQuota": None}),
    "DELETE /plans/{plan}": Operation(status=204, if_match=True, query=plans.Removal),
    "GET /connectors/{connector}/template": Operation(shapes.TEMPLATE, codes=("conflict",)),
    "GET /templates": Operation(shapes.TEMPLATE_IN_SHORT, many=True),
    "POST /templates": Operation(
        ConnectorFromTemplate,
        201,
        body=catalogue.Instantiation,
        etag=True,
        example={"templateId": "daydream"},
        about="Several templates at once have each their result, in an answer 207.",
        also=((207, catalogue.Results),),
    ),
    "POST /explain": Operation(
        shapes.EXPLANATION,
        body=explanations.ExplainedRequest,
        example={"connector": "maps", "path": "/find/berlin", "caller": {"user": "ana"}},
        codes=("not_found",),
    ),
    "GET /templates/{template}": shows(shapes.TEMPLATE, etag=False),
    "GET /usage/summary": Operation(summary.Summary, query=summary.Span),
    "GET /usage/timeseries": Operation(timeseries.Series, query=timeseries.SeriesQuery),
    "GET /usage/records": lists(records.RecordSchema, records.RecordQuery),
    "GET /usage/records/{request}": shows(records.RecordSchema, etag=False),
    "GET /audit": lists(audit.EntrySchema, audit.AuditQuery),
    "GET /audit/export": Operation(
        query=audit.ExportQuery, media_types=("application/x-ndjson", "text/csv")
    ),
    "GET /health": lists(health.HealthSchema, health.HealthQuery),
    "GET /health/{connector}": Operation(health.HealthDetail, query=health.HistoryQuery),
    "POST /health/check": Operation(
        health.CheckResult,
        many=True,
        body=health.CheckRequest,
        body_optional=True,
        example={"connector": "maps"},
        codes=("conflict", "not_found", "rate_limited", "too_many_concurrent"),
    ),
    "GET /config/export": Operation(
        {"type": "object", "description": "A document that `POST /config/apply` takes."},
        query=exporting.ExportQuery,
        etag=True,
        media_types=("application/json", "application/yaml"),
    ),
    "POST /config/apply": Operation(
        _APPLIED,
        body=document.Document,
        etag=True,
        if_match=True,
        example={"connectors": [{**_CONNECTOR, "endpoints": [_ENDPOINT]}]},
    ),
    "GET /me": shows(me.Me, etag=False),
    "POST /session": Operation(me.Me, 201, body=session.SignIn, example={"token": "eyJhbGciOi…"}),
    "DELETE /session": Operation(status=204),
}

TAGS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "connectors": (
        "Upstream APIs of a team. Callers get what was published last; edits are a draft until then.",
        ("connectors", "publishing"),
    ),
    "endpoints": ("The routes of a connector, their rules and their mapping.", ("endpoints",)),
    "secrets": ("What a connector shows its upstream: written, never read.", ("secrets",)),
    "versions": ("What each publish froze, how two differ, and the way back.", ("versions",)),
    "trials": (
        "Whether an upstream answers as it should, and why a request is answered as it is.",
        ("connections", "explanations"),
    ),
    "keys": ("The credentials of callers. A value is told once.", ("keys",)),
    "plans": ("Rates and quotas that keys are put on.", ("plans",)),
    "templates": ("Connectors from templates, and back.", ("catalogue", "export")),
    "openapi": (
        "Connectors from OpenAPI documents, and a document of each connector.",
        ("drafts", "offered"),
    ),
    "usage": (
        "What was called: as a whole, over time, and call by call.",
        ("summary", "timeseries", "records"),
    ),
    "health": ("How upstreams do, and how they did.", ("health",)),
    "audit": ("Who changed what, and when.", ("audit",)),
    "state": ("Everything that a team has, as one document.", ("exporting", "applying")),
    "session": ("Who asks, and the session of a browser.", ("me", "session")),
}
"""What operations are grouped by: a sentence on each group, and the modules that serve it."""
