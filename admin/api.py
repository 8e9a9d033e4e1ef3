"""The admin API: every route, who may use it, and the application that serves them.

Paths are below `/api/v1/gw/admin`. The middlewares frame every answer and authenticate every
request, known path or not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from aiohttp import web

from admin import (
    connectors,
    endpoints,
    keys,
    me,
    plans,
    publishing,
    secrets,
    templates,
    usage,
)
from admin.access import ANYONE, authenticated
from admin.calls import AdminHandler, Call
from admin.control import CONTROL, Control
from admin.problems import framed
from gateway.problems import Fault, Rejected

BASE: Final = "/api/v1/gw/admin"
MOST_BYTES: Final = 2 << 20


class Route(NamedTuple):
    """One endpoint of the API: the role it needs, and its query flags besides `dryRun`."""

    method: str
    path: str
    role: str
    handler: AdminHandler
    flags: frozenset[str] = frozenset()


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
    Route("GET", "/connectors/{connector}/endpoints", "viewer", endpoints.index),
    Route("POST", "/connectors/{connector}/endpoints", "editor", endpoints.create),
    Route("GET", "/connectors/{connector}/endpoints/{endpoint}", "viewer", endpoints.show),
    Route("PUT", "/connectors/{connector}/endpoints/{endpoint}", "editor", endpoints.replace),
    Route("PATCH", "/connectors/{connector}/endpoints/{endpoint}", "editor", endpoints.patch),
    Route("DELETE", "/connectors/{connector}/endpoints/{endpoint}", "editor", endpoints.delete),
    Route("GET", "/connectors/{connector}/secrets", "viewer", secrets.index),
    Route("PUT", "/connectors/{connector}/secrets", "admin", secrets.put),
    Route("DELETE", "/connectors/{connector}/secrets/{name}", "admin", secrets.delete),
    Route("GET", "/keys", "viewer", keys.index),
    Route("POST", "/keys", "admin", keys.create),
    Route("GET", "/keys/{key}", "viewer", keys.show),
    Route("PATCH", "/keys/{key}", "admin", keys.patch),
    Route("DELETE", "/keys/{key}", "admin", keys.delete),
    Route("POST", "/keys/{key}/rotate", "admin", keys.rotate),
    Route("POST", "/keys/{key}/revoke", "admin", keys.revoke),
    Route("GET", "/plans", "viewer", plans.index),
    Route("POST", "/plans", "editor", plans.create),
    Route("GET", "/plans/{plan}", "viewer", plans.show),
    Route("PUT", "/plans/{plan}", "editor", plans.replace),
    Route("PATCH", "/plans/{plan}", "editor", plans.patch),
    Route("DELETE", "/plans/{plan}", "editor", plans.delete),
    Route("GET", "/templates", "viewer", templates.index),
    Route("POST", "/templates", "editor", templates.create),
    Route("GET", "/templates/{template}", "viewer", templates.show),
    Route("GET", "/usage/summary", "viewer", usage.summary),
    Route("GET", "/me", ANYONE, me.show),
)


def application(control: Control) -> web.Application:
    """The admin API on absolute paths, for a runner of its own or the gateway's."""
    app = web.Application(middlewares=[framed, authenticated], client_max_size=MOST_BYTES)
    app[CONTROL] = control
    for route in ROUTES:
        served = _served(route)
        app.router.add_route(route.method, BASE + route.path, served)
        if route.method == "GET":
            app.router.add_route("HEAD", BASE + route.path, served)
    return app


def _served(route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A route for aiohttp: the role is checked before the handler sees anything."""

    async def serve(request: web.Request) -> web.Response:
        call = Call.of(request, route.role)
        if route.method != "GET":
            _check_flags(call, route.flags | {"dryRun"})
        return await route.handler(call)

    return serve


def _check_flags(call: Call, known: frozenset[str]) -> None:
    """A misspelt `?dryRun` must not be a write."""
    errors = [Fault(f"/{name}", "Unknown parameter.") for name in call.parameters().keys() - known]
    if errors:
        raise Rejected("validation_failed", "The query has an unknown parameter.", errors=errors)
    for name in known:
        call.flag(name)
