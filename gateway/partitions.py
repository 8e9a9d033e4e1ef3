"""Partitions by day (UTC) of a table that grows with traffic: made ahead, dropped by retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import sql
from gateway.database import Database

_DROP = sql.query("partitions.drop")
_MAKE = sql.query("partitions.make")

KEEP_EVERY_S: Final = 3_600.0
"""How often `keep` is due; until then, rows of a day without a partition go to the one for others."""
_DAYS_AHEAD: Final = 2


class Partitions:
    """The partitions of one table, of which so many days are kept."""

    def __init__(self, database: Database, table: str, keep_days: int) -> None:
        self._database = database
        self._table = table
        self._keep_days = keep_days

    async def keep(self, now: datetime) -> None:
        """Have those from yesterday to the day after tomorrow, and none past retention."""
        today = now.astimezone(UTC).date()
        for ahead in range(-1, _DAYS_AHEAD + 1):
            await self._database.run(_MAKE, self._table, today + timedelta(days=ahead))
        await self._database.run(_DROP, self._table, today - timedelta(days=self._keep_days))
