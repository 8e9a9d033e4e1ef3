"""A write: one transaction for a team, its audit rows within, rolled back at the end of a dry run.

The database decides races: a constraint's name says which field is in conflict.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import sql
from admin import audit
from admin.calls import Call
from admin.reads import Reading
from gateway.database import UniqueViolation
from gateway.ids import uuid7
from gateway.problems import Fault, Rejected

if TYPE_CHECKING:
    from gateway.database import Connection

_RECORD: Final = sql.query("audit.record")
_TAKEN: Final = {
    "service_connector_slug_key": Fault("/slug", "Another connector of the team has this slug."),
    "connector_endpoint_name_key": Fault("/name", "Another endpoint has this name."),
    "connector_endpoint_route_key": Fault("/path", "Another endpoint has this method and path."),
    "gateway_plan_name_key": Fault("/name", "Another plan of the team has this name."),
}


class _DryRun(Exception):
    """Everything went well, and nothing of it shall stay."""


class Write(Reading):
    """The transaction of a call that also writes."""

    def __init__(self, call: Call, connection: Connection) -> None:
        super().__init__(call, connection)
        self._entries: list[audit.Entry] = []

    async def run(self, statement: str, *values: Any) -> None:
        """A statement without an answer."""
        await self._connection.execute(statement, self.call.team, *values)

    def log(self, action: str, object_id: Any, difference: Mapping[str, Any]) -> None:
        """Leave an audit row; it is written at the end of the transaction."""
        self._entries.append(audit.Entry(action, str(object_id), difference))

    async def finish(self) -> None:
        """Write the audit rows, in the order of the acts."""
        if not self._entries:
            return
        origin = {
            "actor": self.call.identity.user,
            "request_id": self.call.request_id,
            "client_address": self.call.client_address,
        }
        ids = sorted(uuid7() for _ in self._entries)  # within a millisecond they are in no order
        rows = [
            {
                "id": id_,
                "action": entry.action,
                "object_type": entry.object_type,
                "object_id": entry.object_id,
                "difference": entry.difference,
                **origin,
            }
            for id_, entry in zip(ids, self._entries, strict=True)
        ]
        await self.run(_RECORD, rows)


@asynccontextmanager
async def writing(call: Call) -> AsyncIterator[Write]:
    """The transaction of a call that writes. Raises Rejected `conflict` with the field."""
    dry_run = call.flag("dryRun")
    try:
        async with call.control.database.transaction() as connection:
            write = Write(call, connection)
            yield write
            await write.finish()
            if dry_run:
                raise _DryRun  # noqa: TRY301 - how a transaction is told to undo everything
    except _DryRun:
        pass
    except UniqueViolation as error:
        if (fault := _TAKEN.get(error.constraint_name or "")) is None:
            raise
        raise Rejected("conflict", fault.detail, errors=[fault]) from error
