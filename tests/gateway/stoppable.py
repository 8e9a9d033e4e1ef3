"""A database server that goes away and comes back."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from gateway.database import Database
from gateway.ids import uuid7
from gateway.lifecycle.embedded import Postgres


class Stoppable:
    """A PostgreSQL that a test stops and starts again, or has stand still, with a migrated database."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        quick = {"fsync": "off", "full_page_writes": "off"}
        self._server = Postgres(directory, os.environ, quick)
        self.dsn = ""

    async def start(self) -> None:
        """Start, or start again."""
        await self._server.__aenter__()
        self.dsn = self._server.dsn

    async def stop(self) -> None:
        """Stop; every connection is cut."""
        await self._server.__aexit__()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Nothing of it is closed, and nothing answers: all its processes stand still."""
        lock_file = self._directory / "postgresql/data/postmaster.pid"
        server = int(lock_file.read_text().split("\n")[0])
        os.kill(server, signal.SIGSTOP)
        stopped = [server, *_children(server)]
        try:
            for pid in stopped[1:]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(stopped):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def started(below: Path) -> AsyncIterator[Stoppable]:
    """A server of one's own, running and migrated."""
    server = Stoppable(below / uuid7().hex)
    await server.start()
    try:
        database = Database(server.dsn)
        await database.open()
        await database.migrate()
        await database.close()
        yield server
    finally:
        await server.stop()


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found
