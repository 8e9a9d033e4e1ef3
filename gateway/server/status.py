"""The status listener: /metrics, /healthz and /readyz.

Liveness depends on nothing. Readiness is false until the configuration store was reached once, and
again while draining; it stays true when PostgreSQL goes away afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from gateway.metrics import Metrics
from gateway.prometheus import CONTENT_TYPE, expose, registry_of


def application(
    metrics: Metrics,
    readiness: Callable[[], str],
    remarks: Callable[[], Mapping[str, object]] = dict,
) -> web.Application:
    """The application; `readiness` answers why the process is not ready, or nothing.

    `remarks` are told of one that is ready.
    """
    registry = registry_of(metrics.snapshot)

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=expose(registry), headers={"Content-Type": CONTENT_TYPE})

    async def show_health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def show_readiness(_request: web.Request) -> web.Response:
        reason = readiness()
        if reason:
            return web.json_response({"status": "not ready", "reason": reason}, status=503)
        return web.json_response({"status": "ready", **remarks()})

    app = web.Application()
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", show_health)
    app.router.add_get("/readyz", show_readiness)
    return app
