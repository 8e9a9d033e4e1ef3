"""The usage writer: records wait in memory and go to PostgreSQL in batches, by COPY.

The hot path appends to a list and never waits. While PostgreSQL is away, batches wait up to a
bound; what does not fit is counted as dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import sql
from gateway.clock import utc_now
from gateway.database import Database, DatabaseAway, Row, RowFault, copy_records
from gateway.metrics import Metrics
from gateway.partitions import KEEP_EVERY_S, Partitions
from gateway.tasks import Tasks
from gateway.usage import left
from gateway.usage.record import COLUMNS, UsageRecord

log = logging.getLogger(__name__)

_MAKE_STAGING = sql.query("usage_writer.make_staging")
_MARK_KEYS_USED = sql.query("usage_writer.mark_keys_used")
_MERGE_STAGING = sql.query("usage_writer.merge_staging")
_USED = sql.query("usage_writer.used")

_BATCH: Final = 2_000
_RETRY_S: Final = 0.5


class UsageWriter:
    """Takes records from the filters and writes them in the background."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        *,
        flush_every_s: float,
        most_waiting: int,
        keep_days: int,
        data: Path | None = None,
    ) -> None:
        """`data` is the directory for what is left when the process has to end."""
        self._database = database
        self._data = data
        self._metrics = metrics
        self._flush_every_s = flush_every_s
        self._most_waiting = most_waiting
        self._partitions = Partitions(database, "gateway_usage_record", keep_days)
        self._waiting: deque[UsageRecord] = deque()
        self._tasks = Tasks(expected=(DatabaseAway,), watch=metrics.work_ended)
        self._wake = asyncio.Event()
        metrics.watch_usage_queue(self._waiting.__len__)

    def put(self, record: UsageRecord) -> None:
        """Keep a record; never waits. Past the bound the oldest is dropped and counted."""
        waiting = self._waiting
        waiting.append(record)
        if len(waiting) >= _BATCH:
            self._wake.set()
        if len(waiting) > self._most_waiting:
            waiting.popleft()
            self._metrics.records_dropped(1)

    def start(self) -> None:
        """Begin to write, what was left before first."""
        if self._data is not None:
            self._waiting.extend(left.take(self._data))
        self._tasks.repeat(self._write, 0, "usage writer")
        self._tasks.repeat(
            lambda: self._partitions.keep(utc_now()), KEEP_EVERY_S, "usage partitions"
        )

    async def close(self, patience_s: float) -> None:
        """Write what waits, for so long at most; what is left then is kept for the next process."""
        await self._tasks.stop()
        try:
            async with asyncio.timeout(patience_s):
                while self._waiting:
                    try:
                        await self._flush()
                    except Exception:  # as while running: it may be taken later
                        await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            self._leave()

    def _leave(self) -> None:
        """Keep what waits in the data directory; what can't be kept is counted as dropped."""
        records = list(self._waiting)
        try:
            if self._data is None:
                raise FileNotFoundError("there is no data directory")
            left.keep(self._data, records)
        except OSError as error:
            self._metrics.records_dropped(len(records))
            extra = {"records": len(records), "reason": str(error)}
            log.error("usage records are lost", extra=extra)  # noqa: TRY400 - not a bug
        else:
            extra = {"records": len(records)}
            log.warning("usage records are left for the next start", extra=extra)

    async def used(self, before: datetime) -> list[Row]:
        """What callers used this month and the last, before a moment, by when."""
        return await self._database.rows(_USED, before)

    async def _write(self) -> None:
        """Wait a moment, or until a batch is full, and write what there is."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._flush_every_s):
                await self._wake.wait()
        self._wake.clear()
        try:
            await self._flush()
            while len(self._waiting) >= _BATCH:
                await self._flush()
        except Exception:  # away, read-only, full …: it may be taken later
            self._metrics.dependency_answered("postgresql", is_up=False)
            raise
        self._metrics.dependency_answered("postgresql", is_up=True)

    async def _flush(self) -> None:
        """Write one batch; when that fails it waits again, in its place."""
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
        if not batch:
            return
        begun = time.perf_counter()
        try:
            set_aside = await self._store(batch)
        except BaseException:
            self._waiting.extendleft(reversed(batch))
            raise
        seconds = time.perf_counter() - begun
        self._metrics.batch_written(len(batch) - set_aside, set_aside, seconds)
        await self._mark_keys_used(batch)

    async def _store(self, batch: Sequence[UsageRecord]) -> int:
        """Store a batch; a row that the database can't take is set aside, the others go on.

        Answers how many were set aside.
        """
        rows = [(datetime.fromtimestamp(record.at, UTC), *record[1:]) for record in batch]
        try:
            async with self._database.transaction() as connection:
                await connection.execute(_MAKE_STAGING)
                await copy_records(connection, "usage_staging", COLUMNS, rows)
                await connection.execute(_MERGE_STAGING)
        except RowFault:
            if len(batch) == 1:
                log.exception("a usage record can't be stored", extra={"request_id": batch[0][1]})
                return 1
            half = len(batch) // 2
            return await self._store(batch[:half]) + await self._store(batch[half:])
        return 0

    async def _mark_keys_used(self, batch: Sequence[UsageRecord]) -> None:
        last: dict[str, float] = {}
        for record in batch:
            if record.caller_type == "key":
                last[record.caller_id] = max(record.at, last.get(record.caller_id, 0.0))
        ids = sorted(last)  # one order for all writers, or two of them wait for each other
        try:
            times = [datetime.fromtimestamp(last[id_], UTC) for id_ in ids]
            if ids:
                await self._database.run(_MARK_KEYS_USED, ids, times)
        except Exception as error:  # the next batch marks them again
            log.warning("keys can't be marked as used", extra={"reason": str(error)})
