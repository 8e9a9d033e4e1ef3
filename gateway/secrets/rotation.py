"""Rotating the master key: all that is sealed gets sealed anew with the first one, while we serve.

That is connectors' secrets, and the tokens of those who are signed in. A batch is a transaction, so
an interrupted rotation goes on where it stopped. Rows that somebody else holds are passed over and
come again in the next round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import sql
from gateway.database import Database, Row
from gateway.secrets.vault import Sealed, Vault, VaultFault

_LEFT = sql.query("rotation.left")
_SECRETS: Final = (sql.query("rotation.secrets"), sql.query("rotation.reseal_secrets"))
_STAGED: Final = (sql.query("rotation.staged"), sql.query("rotation.reseal_staged"))
_SESSIONS: Final = (sql.query("rotation.sessions"), sql.query("rotation.reseal_sessions"))

_MOST_ROWS: Final = 200
_WAIT_S: Final = 0.2
_MOST_WAITS: Final = 100


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rotation came to: how many were sealed anew, how many others held, what doesn't open."""

    key_id: str
    resealed: int
    held: int = 0
    faults: tuple[str, ...] = ()


async def rotate(
    database: Database,
    vault: Vault,
    told: Callable[[int, int], None],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Outcome:
    """Seal with the vault's first master key what another one has sealed.

    `told` hears after each batch how many are done and how many there are. Raises DatabaseAway.
    """
    run = _Run(database, vault, told)
    for _ in range(_MOST_WAITS):
        before = run.resealed
        faults = await run.round()
        held = await run.left() - len(faults)
        if held <= 0:
            break
        if run.resealed == before:
            await sleep(_WAIT_S)
    return Outcome(vault.sealing, run.resealed, max(held, 0), tuple(faults))


class _Run:
    """One rotation: how far it has come."""

    def __init__(self, database: Database, vault: Vault, told: Callable[[int, int], None]) -> None:
        self.resealed = 0
        self._database = database
        self._vault = vault
        self._told = told

    async def left(self) -> int:
        """How many values another master key sealed."""
        row = await self._database.row(_LEFT, self._vault.sealing)
        return 0 if row is None else int(row["left_over"])

    async def round(self) -> list[str]:
        """Go once through all rows; answers why some can't be sealed anew."""
        left, faults = await self.left(), list[str]()
        total = self.resealed + left
        for batch, reseal in (_STAGED, _SECRETS, _SESSIONS):
            last: tuple[UUID, str] = (UUID(int=0), "")
            while True:
                async with self._database.transaction() as connection:
                    rows = await connection.fetch(batch, self._vault.sealing, *last, _MOST_ROWS)
                    if not rows:
                        break
                    made = self._sealed_anew(rows, faults)
                    if made:
                        await connection.execute(reseal, *map(list, zip(*made, strict=True)))
                self.resealed += len(made)
                self._told(self.resealed, total)
                last = rows[-1]["id"], rows[-1]["name"]
        return faults

    def _sealed_anew(self, rows: Iterable[Row], faults: list[str]) -> list[tuple[Any, ...]]:
        """For each row that opens: its id, its name, and the new key and sealing."""
        made = []
        for row in rows:
            team, connector, name = row["team_id"], row["connector"], row["name"]
            old = Sealed(row["key_id"], row["sealed"])
            try:
                value = self._vault.open(old, team=team, connector=connector, name=name)
            except VaultFault as fault:
                faults.append(str(fault))
                continue
            new = self._vault.seal(value, team=team, connector=connector, name=name)
            made.append((row["id"], name, new.key_id, new.content))
        return made
