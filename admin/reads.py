"""Reading more than once: a team's rows as they are at one moment, in a transaction that changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from admin.calls import Call

if TYPE_CHECKING:
    from gateway.database import Connection


class Reading:
    """The transaction of a call. Statements get the team as $1."""

    def __init__(self, call: Call, connection: Connection) -> None:
        self.call = call
        self._connection = connection

    async def row(self, statement: str, *values: Any) -> dict[str, Any] | None:
        """The first row of a statement."""
        row = await self._connection.fetchrow(statement, self.call.team, *values)
        return None if row is None else dict(row)

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """All rows of a statement."""
        return list(map(dict, await self._connection.fetch(statement, self.call.team, *values)))


@asynccontextmanager
async def reading(call: Call) -> AsyncIterator[Reading]:
    """A transaction of a call that only reads; a statement that writes fails in it."""
    async with call.control.database.snapshot() as connection:
        yield Reading(call, connection)
