"""The admin API: every route, who may use it, and the application that serves them.

Paths are below `/api/v1/gw/admin`. The middlewares frame every answer and authenticate every
request, known path or not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from aiohttp import web

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
from admin.access import ANYONE, EVERYONE, OPEN, authenticated
from admin.calls import AdminHandler, Call
from admin.control import CONTROL, Control
from admin.explain import explanations
from admin.importing import drafts
from admin.openapi import document, offered, page
from admin.problems import framed
from admin.state import applying, exporting
from admin.templates import catalogue, export
from admin.trials import connections
from admin.usage import records, summary, timeseries
from gateway.problems import Fault, Rejected

BASE: Final = "/api/v1/gw/admin"
MOST_BYTES: Final = 2 << 20


class Route(NamedTuple):
    """One endpoint of the API: the role it needs, and its query flags besides `dryRun`.

    `most_bytes` is the size of the largest body that it takes, `values` are the other parameters
    of a write.
    """

    method: str
    path: str
    role: str
    handler: AdminHandler
    flags: frozenset[str] = frozenset()
    most_bytes: int = MOST_BYTES
    values: frozenset[str] = frozenset()


ROUTES: Final = (
    Route("GET", "/connectors", "viewer", connectors.index),
    Route("POST", "/connectors", "editor", connectors.create),
    Route("GET", "/connectors/{connector}", "viewer", connectors.show),
    Route("PUT", "/connectors/{connector}", "editor", connectors.replace),
    Route("PATCH", "/connectors/{connector}", "editor", connectors.patch),
    Route("DELETE", "/connectors/{connector}", "editor", connectors.delete, frozenset({"purge"})),
    Route("POST", "/connectors/{connector}/publish", "editor", publishing.publish),
    Route("POST", "/connectors/{connector}/unpublish", "editor", publishing.unpublish),
    Route("POST", "/connectors/{connector}/restore", "editor", publishing.restore),
    Route("POST", "/connectors/test", "editor", connections.draft),
    Route("POST", "/connectors/{connector}/test", "editor", connections.saved),
    Route("GET", "/connectors/{connector}/versions", "viewer", versions.index),
    Route("GET", "/connectors/{connector}/versions/{version}", "viewer", versions.show),
    Route("GET", "/connectors/{connector}/versions/{version}/diff", "viewer", versions.diff),
    Route("POST", "/connectors/{connector}/rollback", "editor", versions.rollback),
    Route("GET", "/connectors/{connector}/openapi", "viewer", offered.show),
    Route("GET", "/connectors/{connector}/endpoints", "viewer", endpoints.index),
    Route("POST", "/connectors/{connector}/endpoints", "editor", endpoints.create),
    Route("GET", "/connectors/{connector}/endpoints/{endpoint}", "viewer", endpoints.show),
    Route("PUT", "/connectors/{connector}/endpoints/{endpoint}", "editor", endpoints.replace),
    Route("PATCH", "/connectors/{connector}/endpoints/{endpoint}", "editor", endpoints.patch),
    Route("DELETE", "/connectors/{connector}/endpoints/{endpoint}", "editor", endpoints.delete),
    Route("GET", "/connectors/{connector}/template", "viewer", export.show),
    Route("GET", "/connectors/{connector}/secrets", "viewer", secrets.index),
    Route("PUT", "/connectors/{connector}/secrets", "admin", secrets.put),
    Route("DELETE", "/connectors/{connector}/secrets/{name}", "admin", secrets.delete),
    Route("POST", "/import/openapi", "editor", drafts.create, most_bytes=drafts.MOST_BYTES),
    Route("GET", "/keys", "viewer", keys.index),
    Route("POST", "/keys", "admin", keys.create),
    Route("GET", "/keys/{key}", "viewer", keys.show),
    Route("PATCH", "/keys/{key}", "admin", keys.patch),
    Route("DELETE", "/keys/{key}", "admin", keys.delete),
    Route("POST", "/keys/{key}/rotate", "admin", keys.rotate),
    Route("POST", "/keys/{key}/end-grace", "admin", keys.end_grace),
    Route("POST", "/keys/{key}/revoke", "admin", keys.revoke),
    Route("GET", "/plans", "viewer", plans.index),
    Route("POST", "/plans", "editor", plans.create),
    Route("GET", "/plans/{plan}", "viewer", plans.show),
    Route("PUT", "/plans/{plan}", "editor", plans.replace),
    Route("PATCH", "/plans/{plan}", "editor", plans.patch),
    Route("DELETE", "/plans/{plan}", "editor", plans.delete, values=frozenset({"replacement"})),
    Route("GET", "/templates", "viewer", catalogue.index),
    Route("POST", "/templates", "editor", catalogue.create),
    Route("GET", "/templates/{template}", "viewer", catalogue.show),
    Route("POST", "/explain", "viewer", explanations.create),
    Route("GET", "/usage/summary", "viewer", summary.summary),
    Route("GET", "/usage/timeseries", "viewer", timeseries.show),
    Route("GET", "/usage/records", "viewer", records.index),
    Route("GET", "/usage/records/{request}", "viewer", records.show),
    Route("GET", "/audit", "viewer", audit.index),
    Route("GET", "/audit/export", "admin", audit.export_all),
    Route("GET", "/health", "viewer", health.index),
    Route("GET", "/health/{connector}", "viewer", health.show),
    Route("POST", "/health/check", "editor", health.check),
    Route("GET", "/config/export", "viewer", exporting.export),
    Route("POST", "/config/apply", "editor", applying.apply, frozenset({"prune", "force"})),
    Route("GET", "/me", ANYONE, me.show),
    Route("POST", "/session", EVERYONE, session.create),
    Route("DELETE", "/session", ANYONE, session.delete),
)


def application(control: Control) -> web.Application:
    """The admin API on absolute paths, for a runner of its own or the gateway's."""
    app = web.Application(middlewares=[framed, authenticated], client_max_size=MOST_BYTES)
    app[CONTROL] = control
    app[me.FEATURES] = tuple(sorted({route.path.split("/")[1] for route in ROUTES}))
    app[document.ROUTES] = ROUTES
    served_to_all: set[Any] = set(page.PAGES.values())
    for path, shown in page.PAGES.items():
        app.router.add_get(BASE + path, shown)
    for route in ROUTES:
        served = _served(route)
        if route.role == EVERYONE:
            served_to_all.add(served)
        app.router.add_route(route.method, BASE + route.path, served)
        if route.method == "GET":
            app.router.add_route("HEAD", BASE + route.path, served)
    app[OPEN] = frozenset(served_to_all)
    return app


def _served(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A route for aiohttp: the role is checked before the handler sees anything."""

    async def serve(request: web.Request) -> web.StreamResponse:
        if route.most_bytes != MOST_BYTES:
            request = request.clone(client_max_size=route.most_bytes)
        call = Call.of(request, route.role)
        if route.method != "GET":
            _check_query(call, route.flags | {"dryRun"}, route.values)
        return await route.handler(call)

    return serve


def _check_query(call: Call, flags: frozenset[str], values: frozenset[str]) -> None:
    """A misspelt `?dryRun` must not be a write."""
    unknown = sorted(call.parameters().keys() - flags - values)
    errors = [Fault(f"/{name}", "Unknown parameter.") for name in unknown]
    if errors:
        raise Rejected("validation_failed", "The query has an unknown parameter.", errors=errors)
    for name in flags:
        call.flag(name)
