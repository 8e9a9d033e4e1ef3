"""The admin API: its resources, and the application that serves their routes.

Paths are below `/api/v1/gw/admin`. The middlewares frame every answer and authenticate every
request, known path or not.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final

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
from admin.access import EVERYONE, OPEN, authenticated
from admin.calls import Call, unless_known
from admin.control import CONTROL, Control
from admin.explain import explanations
from admin.fields import Wire, unknown
from admin.importing import drafts
from admin.openapi import document, offered, page
from admin.problems import framed
from admin.routes import MOST_BYTES, Route
from admin.state import applying, exporting
from admin.templates import catalogue, export
from admin.trials import connections
from admin.usage import records, summary, timeseries
from gateway.planes import ADMIN_PLANE
from gateway.problems import Fault, Rejected

RESOURCES: Final = (
    connectors.RESOURCE,
    publishing.RESOURCE,
    connections.RESOURCE,
    versions.RESOURCE,
    offered.RESOURCE,
    endpoints.RESOURCE,
    export.RESOURCE,
    secrets.RESOURCE,
    drafts.RESOURCE,
    keys.RESOURCE,
    plans.RESOURCE,
    catalogue.RESOURCE,
    explanations.RESOURCE,
    summary.RESOURCE,
    timeseries.RESOURCE,
    records.RESOURCE,
    audit.RESOURCE,
    health.RESOURCE,
    exporting.RESOURCE,
    applying.RESOURCE,
    me.RESOURCE,
    session.RESOURCE,
)
ROUTES: Final = tuple(route for resource in RESOURCES for route in resource.routes)
description: Final[Callable[[], bytes]] = functools.cache(lambda: document.written(RESOURCES))
"""Gives the API's OpenAPI document."""


def application(control: Control) -> web.Application:
    """The admin API on absolute paths, for a runner of its own or the gateway's."""
    app = web.Application(middlewares=[framed, authenticated], client_max_size=MOST_BYTES)
    app[CONTROL] = control
    app[me.FEATURES] = tuple(sorted({route.path.split("/")[1] for route in ROUTES}))
    app[document.DESCRIPTION] = description
    served_to_all: set[Any] = set(page.PAGES.values())
    for path, shown in page.PAGES.items():
        app.router.add_get(ADMIN_PLANE + path, shown)
    for route in ROUTES:
        served = _served(route)
        if route.role == EVERYONE:
            served_to_all.add(served)
        app.router.add_route(route.method, ADMIN_PLANE + route.path, served)
        if route.method == "GET":
            app.router.add_route("HEAD", ADMIN_PLANE + route.path, served)
    app[OPEN] = frozenset(served_to_all)
    return app


def _served(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A route for aiohttp: the role is checked before the handler sees anything."""
    operation = route.operation
    flags = {"dryRun", *operation.flags}
    values = _names(operation.query)

    async def serve(request: web.Request) -> web.StreamResponse:
        if operation.most_bytes != MOST_BYTES:
            request = request.clone(client_max_size=operation.most_bytes)
        call = Call.of(request, route.role)
        if route.method != "GET":
            _check_query(call, flags, values)
            return await route.handler(call)
        return unless_known(call, await route.handler(call))

    return serve


def _names(query: type[Wire] | None) -> set[str]:
    """What the parameters of a query are called."""
    return set() if query is None else {str(f.data_key) for f in query().load_fields.values()}


def _check_query(call: Call, flags: set[str], values: set[str]) -> None:
    """A misspelt `?dryRun` must not be a write."""
    known = flags | values
    errors = [
        Fault(f"/{name}", unknown("parameter", name, known))
        for name in sorted(call.parameters().keys() - known)
    ]
    if errors:
        raise Rejected("validation_failed", "The query has an unknown parameter.", errors=errors)
    for name in flags:
        call.flag(name)
