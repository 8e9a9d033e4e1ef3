"""A database server that goes away and comes back."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.lifecycle.embedded import Postgres


class Stoppable:
    """A PostgreSQL that a test stops and starts again, with a migrated database."""

    def __init__(self, directory: Path) -> None:
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
