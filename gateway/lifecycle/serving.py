"""The life of a serving process: start in order, serve, drain, stop in reverse."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from gateway import pipeline
from gateway.clock import SystemClock
from gateway.console import Screen, complain
from gateway.database import Database, DatabaseAway
from gateway.demo import preparing
from gateway.demo.upstream import DemoUpstream
from gateway.lifecycle import wiring
from gateway.lifecycle.embedded import Postgres
from gateway.lifecycle.wiring import Worker
from gateway.logs import Lines
from gateway.pipeline import Stage
from gateway.planes import DATA_PLANE
from gateway.server import listeners, status
from gateway.server.connection import Bounds
from gateway.server.server import Server
from gateway.settings import Settings
from gateway.snapshot import Snapshots
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.5
MakeAdmin = Callable[[Worker], web.Application]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be served, checked before anything starts."""

    settings: Settings
    stages: Sequence[Stage]
    data: Path
    environ: Mapping[str, str]
    demo: bool


async def serve(plan: Plan, make_admin: MakeAdmin, screen: Screen, lines: Lines) -> int:
    """Run until SIGTERM or SIGINT, then drain; answers the exit status."""
    settings = plan.settings
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    demo: DemoUpstream | None = None
    async with AsyncExitStack() as stack:
        if plan.demo:
            plan, demo = await _with_demo(plan, stack)
        settings = plan.settings
        sockets = {name: stack.enter_context(s) for name, s in _bind(settings).items()}
        with screen.step("starting PostgreSQL"):
            dsn = settings.database.dsn or await _embedded(plan, stack)
            is_current = await _is_migrated(dsn, plan)
        worker = await stack.enter_async_context(
            wiring.worker(settings, dsn, plan.data, plan.environ, is_current=is_current)
        )
        worker.runtime.metrics.watch_log(lambda: lines.dropped)
        server = await stack.enter_async_context(_serving(plan, worker, make_admin, sockets))
        # What is here now lives as long as the process; a request leaves no cycles behind.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        log.info("serving", extra={n: listeners.address(s) for n, s in sockets.items()})
        authority = listeners.address(sockets["server"])
        screen.tell(f"Service Gateway is up at http://{authority}")
        if demo is not None:
            await _show_demo(plan, demo, worker, authority)
            server.is_preparing = False
        await told_to_stop.wait()
        log.info("draining")
        await server.drain(settings.server.drain_s, settings.server.drain_delay_s)
    log.info("stopped")
    return 0


async def _with_demo(plan: Plan, stack: AsyncExitStack) -> tuple[Plan, DemoUpstream]:
    demo = await stack.enter_async_context(preparing.upstream())
    settings = preparing.settings_for(plan.settings, demo)
    environ = preparing.environment_for(plan.environ)
    return dataclasses.replace(plan, settings=settings, environ=environ), demo


async def _show_demo(plan: Plan, demo: DemoUpstream, worker: Worker, authority: str) -> None:
    key = await preparing.prepare(demo, worker.runtime.tokens, authority, plan.data)
    complain(
        f"the demo upstream is http://127.0.0.1:{demo.port}; call it through the gateway:\n"
        f"  curl http://{authority}{plan.settings.server.base_path}{DATA_PLANE}/demo/json "
        f"-H 'Authorization: Bearer {key}'"
    )


def _bind(settings: Settings) -> dict[str, socket.socket]:
    bound = {
        "server": listeners.bind(settings.server.listen, "server.listen"),
        "status": listeners.bind(settings.status.listen, "status.listen"),
    }
    if settings.admin.listen is not None:
        bound["admin"] = listeners.bind(settings.admin.listen, "admin.listen")
    return bound


async def _embedded(plan: Plan, stack: AsyncExitStack) -> str:
    postgres = await stack.enter_async_context(Postgres(plan.data, plan.environ))
    tasks = Tasks()
    stack.push_async_callback(tasks.stop)
    tasks.repeat(partial(_keep_alive, postgres), _LOOK_EVERY_S, "embedded PostgreSQL")
    return postgres.dsn


async def _keep_alive(postgres: Postgres) -> None:
    """Start the embedded PostgreSQL again when it dies: nobody else will."""
    if postgres.has_died:
        log.error("the embedded PostgreSQL has died, or its owner; starting it again")
        await postgres.__aexit__()
        await postgres.__aenter__()


async def _is_migrated(dsn: str, plan: Plan) -> bool:
    """Migrate; False when that has to wait for PostgreSQL, and there is a snapshot to serve from."""
    try:
        await _migrate(dsn)
    except DatabaseAway as away:
        vault = wiring.vault_of(plan.settings, plan.data, plan.environ)
        age_s = plan.settings.database.snapshot_age_s
        if Snapshots(plan.data, vault, SystemClock(), age_s).read() is None:
            raise
        log.error("serving from the snapshot", extra={"reason": str(away)})  # noqa: TRY400 - no bug
        return False
    return True


async def _migrate(dsn: str) -> None:
    database = Database(dsn)
    await database.open()
    try:
        for name in await database.migrate():
            log.info("migrated", extra={"migration": name})
    except DatabaseAway as away:
        parts = urlsplit(dsn)
        place = parts.netloc.rpartition("@")[2] or parse_qs(parts.query).get("host", ["?"])[0]
        raise DatabaseAway(
            f"PostgreSQL at {place} does not answer ({away}): start it, or correct database.dsn"
        ) from away
    finally:
        await database.close()


@asynccontextmanager
async def _serving(
    plan: Plan, worker: Worker, make_admin: MakeAdmin, sockets: Mapping[str, socket.socket]
) -> AsyncIterator[_Servers]:
    """Listeners open; closed again when the block is left."""
    settings = plan.settings
    proceed = pipeline.build(plan.stages, worker.runtime)
    admin = web.AppRunner(make_admin(worker), access_log=None)
    await admin.setup()
    make = partial(
        Server,
        metrics=worker.runtime.metrics,
        base_path=settings.server.base_path,
        most_in_flight=settings.server.most_in_flight,
        bounds=Bounds(
            settings.server.most_target_bytes,
            settings.server.most_field_bytes,
            settings.server.most_fields,
        ),
        recheck_s=settings.server.recheck_s,
        guards_origin=settings.admin.guards_origin,
        trusted_proxies=settings.server.proxies,
    )
    apart = "admin" in sockets
    planes = {"server": make(proceed, None if apart else admin.server)}
    if apart:
        planes["admin"] = make(None, admin.server)
    servers = _Servers(list(planes.values()), is_preparing=plan.demo)
    readiness = partial(_not_ready, worker, servers)
    checks = web.AppRunner(
        status.application(worker.runtime.metrics, readiness, partial(_remarks, worker)),
        access_log=None,
    )
    await checks.setup()
    try:
        await web.SockSite(checks, sockets["status"]).start()
        for name, server in planes.items():
            await servers.listen(server, sockets[name])
        yield servers
    finally:
        await servers.drain(0)
        await admin.cleanup()
        await checks.cleanup()


def _not_ready(worker: Worker, servers: _Servers) -> str:
    if servers.draining:
        return "draining"
    if servers.is_preparing:
        return "the demo is being prepared"
    return "" if worker.runtime.directory.ready else "PostgreSQL was not reached yet"


def _remarks(worker: Worker) -> Mapping[str, object]:
    if (at := worker.runtime.directory.snapshot_at) is None:
        return {}
    told = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return {"configuration": "snapshot", "snapshotAt": told}


class _Servers:
    """The servers of one process and their listeners."""

    def __init__(self, servers: list[Server], *, is_preparing: bool) -> None:
        self._servers = servers
        self.is_preparing = is_preparing
        self._listening: list[asyncio.AbstractServer] = []
        self.draining = False

    async def listen(self, server: Server, bound: socket.socket) -> None:
        """Begin to take connections from a bound socket."""
        loop = asyncio.get_running_loop()
        make: Any = loop.create_server
        if bound.family == socket.AF_UNIX:
            make = loop.create_unix_server
        self._listening.append(await make(server, sock=bound, backlog=listeners.BACKLOG))

    async def drain(self, seconds: float, delay_s: float = 0) -> None:
        """Be not ready, after a delay take no more connections, and let what is in flight finish."""
        if self.draining:
            return
        self.draining = True
        for server in self._servers:
            server.leave()
        await asyncio.sleep(delay_s)
        for listening in self._listening:
            listening.close()
        await asyncio.gather(*(server.drain(seconds) for server in self._servers))
