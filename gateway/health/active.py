"""Active health: who checks which connector when, what follows from it, and what processes know of it.

The database hands out what is due, so that every check is done by one process, and what one that died
had to do is done by another. All processes read how connectors are. While PostgreSQL is away nothing is
checked and what was known holds for a while; then nothing is known, and no target is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import sql
from gateway.clock import Clock, utc_now
from gateway.database import Database, DatabaseAway, Row, RowFault
from gateway.health.checks import UNHEALTHY, Checks, Found, judged, together
from gateway.partitions import KEEP_EVERY_S, Partitions
from gateway.secrets.vault import Vault
from gateway.settings import HealthSettings
from gateway.tasks import Tasks
from gateway.turns import Turns
from gateway.upstream.connections import Upstreams

if TYPE_CHECKING:
    from gateway.database import Connection

log = logging.getLogger(__name__)

_CLAIM = sql.query("health.claim")
_CHECKABLE = sql.query("health.checkable")
_CLOCK = sql.query("health.clock")
_FORGET_QUARTERS = sql.query("health.forget_quarters")
_FORGET_TARGETS = sql.query("health.forget_targets")
_LOCK = sql.query("health.lock")
_RECORD = sql.query("health.record")
_SAVE = sql.query("health.save")
_SAVE_TARGETS = sql.query("health.save_targets")
_STANDINGS = sql.query("health.standings")

UNKNOWN: Final = "unknown"
_MOST_INTERVALS: Final = 4.0
"""How many intervals there are at most between the checks of a connector that stays unhealthy."""
_VALID_INTERVALS: Final = 2
"""So many intervals after a check was due and not done nothing is known of a connector any more."""
_WHOLE_EVERY_S: Final = 60.0
"""How often everything is read anew: so that is forgotten what is checked no more."""
_OVERLAP: Final = timedelta(seconds=10)
"""How long a transaction may have taken whose changes are not missed."""
_HELD_S: Final = 120.0
"""How long what was read holds while PostgreSQL is away."""
_MOST_ROWS: Final = 1_000
_MOST_STORED: Final = 200
_MOST_FOUND: Final = 10_000
_FEW: Final = 8
"""How many targets are checked at once for those who ask: they don't hold up the others."""
_PATIENCE_S: Final = 2.0


class Known(NamedTuple):
    """What checks have found of a team's connector: its number of targets, and which are unhealthy."""

    team: str
    slug: str
    targets: int
    unhealthy: frozenset[str]


class Health:
    """Checks connectors that are due, and knows how all of them are."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        upstreams: Upstreams,
        settings: HealthSettings,
        clock: Clock,
        *,
        look_every_s: float = 1.0,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._look_every_s = look_every_s
        self._partitions = Partitions(database, "gateway_health_check", settings.keep_days)
        most = settings.most_at_once
        self._targets, self._few = Turns(most), Turns(min(_FEW, most))
        self._checks = Checks(vault, upstreams, settings, self._targets)
        self._asked = Checks(vault, upstreams, settings, self._few)
        self._turns = Turns(most)
        self._tasks = Tasks(expected=(DatabaseAway,))
        self._running: set[asyncio.Task[None]] = set()
        self._found: list[list[Found]] = []
        self._known: dict[str, Known] = {}
        self._read_at = clock.monotonic()
        self._seen: datetime | None = None

    def start(self) -> None:
        """Begin to check, to write and to read."""
        for turn, name, every_s in (
            (self._claim, "claim", self._look_every_s),
            (self._write, "write", self._look_every_s),
            (self._read_changes, "read", self._look_every_s),
            (self._read, "read all", _WHOLE_EVERY_S),
            (self._keep_partitions, "partitions", KEEP_EVERY_S),
        ):
            self._tasks.repeat(turn, every_s, f"health: {name}")

    async def close(self) -> None:
        """Stop, and write what was found until now."""
        await self._tasks.stop()
        with suppress(Exception):  # PostgreSQL is away: it is found anew by whoever is next
            async with asyncio.timeout(_PATIENCE_S):
                await self._write()

    def unhealthy(self, connector_id: str) -> Collection[str]:
        """The labels of the connector's targets that checks have found unhealthy."""
        known = self._known.get(connector_id)
        if known is None or not known.unhealthy:
            return ()
        return known.unhealthy if self._clock.monotonic() - self._read_at < _HELD_S else ()

    def shares(self) -> Mapping[str, float]:
        """The share of healthy targets of each connector that is checked, by slug; the least of several."""
        if self._clock.monotonic() - self._read_at >= _HELD_S:
            return {}
        shares: dict[str, float] = {}
        for _, slug, targets, unhealthy in self._known.values():
            share = 1 - len(unhealthy) / targets
            shares[slug] = min(share, shares.get(slug, share))
        return shares

    async def check_now(
        self, team: str, ids: Sequence[UUID], most: int, *, keep: bool = True
    ) -> list[list[Found]]:
        """Check some of a team's connectors (all when no ids are given), but no more than so many.

        What is found is written when it is to be kept. Raises DatabaseAway.
        """
        rows = await self._database.rows(_CHECKABLE, team, list(ids), most)
        found = await asyncio.gather(*(self._asked.check(dict(row)) for row in rows))
        kept = [each for each in found if each]
        if keep and kept:
            await self._store(kept)
        return kept

    async def _claim(self) -> None:
        """Begin the checks that are due, as many as there are slots for, until none is left."""
        while rows := await self._due():
            for row in rows:
                self._turns.take(row["team_id"])
                task = self._tasks.start(self._check(dict(row)), "health check")
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            await self._until_ended((len(rows) + 1) // 2)

    async def _due(self) -> list[Row]:
        """Connectors whose checks are due, and begin now."""
        turns = self._turns
        if not turns.free:
            return []
        return await self._database.rows(
            _CLAIM,
            turns.free,
            self._settings.interval_s,
            _MOST_INTERVALS,
            turns.share,
            [*turns.held],
            [*turns.held.values()],
        )

    async def _until_ended(self, count: int) -> None:
        """Wait until so many checks have ended, but no longer than until the next look."""
        left = len(self._running) - count
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_every_s):
                while len(self._running) > left:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    async def _check(self, row: Mapping[str, Any]) -> None:
        try:
            if found := await self._checks.check(row):
                self._found.append(found)
                del self._found[:-_MOST_FOUND]
        finally:
            self._turns.leave(row["team_id"])

    async def _write(self) -> None:
        """Write what was found; when that fails it waits, and the oldest goes when it is too much."""
        while batch := self._found[:_MOST_STORED]:
            self._found = self._found[len(batch) :]
            try:
                await self._store(batch)
            except RowFault:
                log.exception("health checks can't be stored", extra={"checks": len(batch)})
            except BaseException:
                self._found = [*batch, *self._found][-_MOST_FOUND:]
                raise

    async def _store(self, batch: Sequence[Sequence[Found]]) -> None:
        checks = [found._asdict() for each in batch for found in each]
        ids = sorted({UUID(check["connector_id"]) for check in checks})
        valid_s = _VALID_INTERVALS * self._settings.interval_s + self._settings.timeout_s
        async with self._database.transaction() as connection:
            before = {str(row["connector_id"]): row for row in await connection.fetch(_LOCK, ids)}
            rounds = [each for each in batch if each[0].connector_id in before]
            if rounds:
                await self._save(connection, before, rounds, valid_s)
                kept = [check for check in checks if check["connector_id"] in before]
                await connection.execute(_RECORD, kept)

    async def _save(
        self,
        connection: Connection,
        before: Mapping[str, Any],
        rounds: Iterable[Sequence[Found]],
        valid_s: float,
    ) -> None:
        """Work out how connectors are from now on, and keep it."""
        targets: dict[str, dict[str, tuple[str, int]]] = {
            id_: dict(map(_told, row["targets"].items())) if row["is_valid"] else {}
            for id_, row in before.items()
        }
        last: dict[str, Sequence[Found]] = {}
        for found in rounds:
            known = targets[found[0].connector_id]
            targets[found[0].connector_id] = {
                each.target: judged(
                    known.get(each.target, (UNKNOWN, 0)),
                    each.status,
                    self._settings.healthy_after,
                    self._settings.unhealthy_after,
                )
                for each in found
            }
            last[found[0].connector_id] = found
        told = [_target(each, targets[id_][each.target]) for id_ in last for each in last[id_]]
        await connection.execute(_FORGET_TARGETS, told)
        await connection.execute(_SAVE_TARGETS, told)
        connectors = [_connector(before[id_], last[id_], targets[id_]) for id_ in last]
        await connection.execute(_SAVE, connectors, valid_s)

    async def _read_changes(self) -> None:
        """Read what has changed since the last time."""
        if self._seen is None:
            return
        seen = await self._now()
        if changed := await self._rows(self._seen - _OVERLAP):
            self._learn(self._known | changed)
        self._seen, self._read_at = seen, self._clock.monotonic()

    async def _read(self) -> None:
        """Read everything."""
        seen = await self._now()
        self._learn(await self._rows(datetime.fromtimestamp(0, UTC)))
        self._seen, self._read_at = seen, self._clock.monotonic()

    def _learn(self, known: dict[str, Known]) -> None:
        self._known = known
        teams = {each.team for each in known.values()}
        for turns in (self._turns, self._targets, self._few):
            turns.teams = teams

    async def _rows(self, since: datetime) -> dict[str, Known]:
        found: dict[str, Known] = {}
        last = UUID(int=0)
        while rows := await self._database.rows(_STANDINGS, since, last, _MOST_ROWS):
            for row in rows:
                unhealthy = frozenset(row["unhealthy"])
                known = Known(row["team_id"], row["slug"], row["targets"], unhealthy)
                found[str(row["connector_id"])] = known
            last = rows[-1]["connector_id"]
        return found

    async def _now(self) -> datetime:
        row = await self._database.row(_CLOCK)
        assert row is not None, "a query of no table has one row"
        now: datetime = row["now"]
        return now

    async def _keep_partitions(self) -> None:
        await self._partitions.keep(utc_now())
        await self._database.run(_FORGET_QUARTERS)


def _told(target: tuple[str, Any]) -> tuple[str, tuple[str, int]]:
    label, (status, contrary) = target
    return label, (status, contrary)


def _target(found: Found, now: tuple[str, int]) -> dict[str, Any]:
    """The row of a target after a check."""
    row = found._asdict()
    return {**row, "checked_at": row["at"], "status": now[0], "contrary": now[1]}


def _connector(
    before: Mapping[str, Any], found: Sequence[Found], now: Mapping[str, tuple[str, int]]
) -> dict[str, Any]:
    """The row of a connector after a check. Latency is that of its slowest target."""
    was = {label: told[0] == UNHEALTHY for label, told in before["targets"].items()}
    latencies = [each.latency_ms for each in found if each.latency_ms is not None]
    is_same = was == {label: told[0] == UNHEALTHY for label, told in now.items()}
    return {
        "connector_id": found[0].connector_id,
        "status": together([status for status, _ in now.values()]),
        "checked_at": found[0].at,
        "latency_ms": max(latencies, default=None),
        "is_changed": not (is_same and before["is_valid"]),
    }
