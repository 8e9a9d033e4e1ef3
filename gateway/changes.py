"""What has changed in the configuration: announced on a channel, and asked for every few seconds.

The channel tells within milliseconds. Each poll tells what has become visible since the one before, so
that a change is in force within seconds also while there is no channel, or one that nobody noticed is dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import sql
from gateway.clock import Clock
from gateway.database import Channel, Database, DatabaseAway
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

_CHANGED = sql.query("changes.since")
_FORGET = sql.query("changes.forget")
_PING = sql.query("changes.ping")

CHANNEL: Final = "channel"
POLL: Final = "poll"
WAYS: Final = (CHANNEL, POLL)
_PING_EVERY_S: Final = 3.0
_PING_WITHIN_S: Final = 2.0
_RECONNECT_S: Final = 0.2
_POLL_EVERY_S: Final = 3.0
_POLL_WITHIN_S: Final = 2.0
_POLL_HOLDS_S: Final = 10.0
_REMEMBERED_S: Final = 1_800.0
"""How far back a poll can tell what has changed: half the time that changes are kept."""
_FORGET_EVERY_S: Final = 600.0
_MOST: Final = 10_000


class Changes:
    """Calls `changed` with each announcement, and `make_stale` when there is no telling what has changed."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        changed: Callable[[str], None],
        make_stale: Callable[[], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._changed = changed
        self._make_stale = make_stale
        self._tasks = Tasks(expected=(DatabaseAway,))
        self._channel: Channel | None = None
        self._pong = asyncio.Event()
        self._heard_of: dict[int, None] = {}
        """Transactions whose announcements were heard, and which polls may tell of; the last one last."""
        self._polling = asyncio.Lock()
        self._seen: str | None = None
        self._polled_at = clock.monotonic()
        self._told = CHANNEL

    @property
    def known(self) -> bool:
        """True once the database has answered."""
        return self._seen is not None

    @property
    def way(self) -> str:
        """How changes come here now: CHANNEL, POLL, or empty while they don't."""
        if self._channel is not None:
            return CHANNEL
        if self.known and self._clock.monotonic() - self._polled_at < _POLL_HOLDS_S:
            return POLL
        return ""

    def start(self) -> None:
        """Begin to follow changes."""
        self._tasks.repeat(self._listen, _RECONNECT_S, "channel of changes")
        self._tasks.repeat(self._poll, _POLL_EVERY_S, "poll of changes")
        self._tasks.repeat(self._forget, _FORGET_EVERY_S, "forgetting changes")

    async def close(self) -> None:
        """Stop following."""
        await self._tasks.stop()
        await self._leave()

    async def _listen(self) -> None:
        """Listen; or wait a moment and see that what is said is heard.

        A connection that is lost or silent is left: the next turn begins again.
        """
        try:
            if self._channel is None:
                self._channel = await self._listened()
            elif not await self._is_lost(self._channel):
                await self._ping(self._channel)
            else:
                await self._leave()
        except BaseException:
            await self._leave()
            raise
        finally:
            self._tell()

    async def _listened(self) -> Channel:
        """A channel on which what is said is heard, and nothing that was said before is missed."""
        channel = await self._database.listen(self._announced)
        try:
            await self._ping(channel)
            await self._poll()
        except BaseException:
            await channel.close()
            raise
        return channel

    async def _is_lost(self, channel: Channel) -> bool:
        """Wait a moment; True when the connection was lost in it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PING_EVERY_S):
                await channel.lost.wait()
        return channel.lost.is_set()

    async def _ping(self, channel: Channel) -> None:
        """Say something, and hear it. Raises DatabaseAway when it isn't heard in time."""
        self._pong.clear()
        try:
            async with asyncio.timeout(_PING_WITHIN_S):
                await channel.run(_PING, f"ping {id(self)}")
                await self._pong.wait()
        except TimeoutError as error:
            raise DatabaseAway("what is said on the channel of changes is not heard") from error

    async def _leave(self) -> None:
        channel, self._channel = self._channel, None
        if self._heard_of:
            self._heard_of.popitem()  # perhaps not all of its announcements were heard
        if channel is not None:
            await channel.close()

    def _announced(self, text: str) -> None:
        kind, _, rest = text.partition(" ")
        if kind == "transaction":
            self._heard_of[int(rest)] = None
        elif kind != "ping":
            self._changed(text)
        elif rest == str(id(self)):
            self._pong.set()

    async def _poll(self) -> None:
        """Ask what has become visible since the last time."""
        async with self._polling:
            row = await self._database.look_up(
                _CHANGED, self._seen, _MOST + 1, within_s=_POLL_WITHIN_S
            )
            assert row is not None, "a query of no table has one row"
            self._polled(row["seen"], row["announcements"], follows=row["follows"])

    def _polled(self, seen: str, announcements: Sequence[str], *, follows: bool) -> None:
        is_old = self._clock.monotonic() - self._polled_at > _REMEMBERED_S
        if is_old or not follows or len(announcements) > _MOST:
            self._make_stale()
        else:
            self._learn(announcements)
        self._seen, self._polled_at = seen, self._clock.monotonic()
        oldest = int(seen.partition(":")[0])
        self._heard_of = {number: None for number in self._heard_of if number >= oldest}

    def _learn(self, announcements: Iterable[str]) -> None:
        """Tell what was polled, but for what was heard: it may have been looked up anew since."""
        for announcement in announcements:
            transaction, _, text = announcement.partition(" ")
            if int(transaction) not in self._heard_of:
                self._changed(text)

    async def _forget(self) -> None:
        await self._database.run(_FORGET)

    def _tell(self) -> None:
        """Log how changes come here when that is another way than before."""
        if (way := self.way) == self._told:
            return
        self._told = way
        level = logging.INFO if way == CHANNEL else logging.WARNING
        log.log(level, "changes of configuration", extra={"come_by": way or "no way"})
