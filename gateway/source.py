"""Rows of the configuration: PostgreSQL's, or the snapshot's from a start without PostgreSQL until it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import sql
from gateway.clock import Clock
from gateway.database import Database
from gateway.snapshot import CONNECTOR, KEY, PLAN, Held, Rows, Snapshots

if TYPE_CHECKING:
    from gateway.database import Connection

_STATEMENTS: Final = {
    CONNECTOR: sql.query("directory.connector"),
    KEY: sql.query("directory.key"),
    PLAN: sql.query("directory.default_plan"),
}
_MOST_KEPT: Final = 2_000
"""How many rows of a kind are kept in a snapshot: those that were used last."""


class Source:
    """Looks rows up, and keeps those that are used in a snapshot."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        snapshots: Snapshots | None = None,
        held: Held | None = None,
    ) -> None:
        """`held` is what to use until the database has answered."""
        self._database = database
        self._clock = clock
        self._snapshots = snapshots
        self._held = held

    @property
    def snapshot_at(self) -> float | None:
        """From when the snapshot is that rows come from, in Unix seconds; None when they don't."""
        return None if self._held is None else self._held.at

    def leave_snapshot(self) -> bool:
        """Use the snapshot no more; False when it wasn't used."""
        held, self._held = self._held, None
        return held is not None

    def must_leave(self) -> bool:
        """True when the snapshot in use has become too old."""
        held, snapshots = self._held, self._snapshots
        return held is not None and snapshots is not None and snapshots.is_old(held.at)

    async def row(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """The row of a key (by public id), a connector (`slug team`) or a team's plan. Raises DatabaseAway."""
        if self._held is not None:
            return self._held.row(kind, name)
        row = await self._database.look_up(_STATEMENTS[kind], *_parameters(kind, name))
        return None if row is None else dict(row)

    def changed(self, announcement: str) -> None:
        """What the snapshot says of this is not true any more."""
        if self._snapshots is not None:
            self._snapshots.note(announcement)

    async def keep(self, names: Mapping[str, Iterable[str]]) -> None:
        """Write a snapshot of these rows, by kind, as they are at one moment. Raises DatabaseAway."""
        if self._snapshots is None or self._held is not None:
            return
        at = self._clock.now()
        rows: Rows = {}
        async with self._database.snapshot() as connection:
            for kind, wanted in names.items():
                last = list(wanted)[-_MOST_KEPT:]
                rows[kind] = {name: await _row(connection, kind, name) for name in last}
        self._snapshots.keep(at, rows)


async def _row(connection: Connection, kind: str, name: str) -> Mapping[str, Any] | None:
    row = await connection.fetchrow(_STATEMENTS[kind], *_parameters(kind, name))
    return None if row is None else dict(row)


def _parameters(kind: str, name: str) -> tuple[str, ...]:
    if kind != CONNECTOR:
        return (name,)
    slug, _, team = name.partition(" ")
    return team, slug
