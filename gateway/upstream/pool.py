"""Connections that are kept for the next exchange, by host, port, TLS and owner.

One is used again as long as it was not unused for too long, is not to be retired, and goes to an
address that its name still has. No exchange in progress is cut.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.upstream.protocol import UpstreamProtocol

Key = tuple[str, int, bool, str]

_SWEEP_S: Final = 1.0
_QUIET_S: Final = 0.01
"""After so long without use the system is asked whether the upstream has closed meanwhile."""


class Pool:
    """The kept connections of one process; `idle_s` is how long one may be unused."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle_s: float) -> None:
        self._loop = loop
        self._idle_s = idle_s
        self._kept: dict[Key, list[UpstreamProtocol]] = {}
        self._is_sweeping = False

    def take(self, key: Key) -> UpstreamProtocol | None:
        """The connection that was used last, if there is one that may be used again."""
        kept = self._kept.get(key)
        now = self._loop.time()
        while kept:
            connection = kept.pop()
            if self._fits(connection, now) and (
                now - connection.idle_since < _QUIET_S or connection.is_quiet()
            ):
                return connection
            connection.close()
        return None

    def keep(self, connection: UpstreamProtocol) -> None:
        """An exchange is over: keep its connection if another one may follow, or else close it."""
        now = connection.idle_since = self._loop.time()
        if not connection.may_serve or not self._fits(connection, now):
            connection.close()
            return
        connection.take()
        kept = self._kept.get(connection.key)
        if kept is None:
            kept = self._kept[connection.key] = []
        kept.append(connection)
        if not self._is_sweeping:
            self._is_sweeping = True
            self._loop.call_later(_SWEEP_S, self._sweep)

    def drop_unfit(self) -> None:
        """Close what may not be used again."""
        now = self._loop.time()
        for key, kept in list(self._kept.items()):
            fit: list[UpstreamProtocol] = []
            for connection in kept:
                fit.append(connection) if self._fits(connection, now) else connection.close()
            kept[:] = fit
            if not kept:
                del self._kept[key]

    def _fits(self, connection: UpstreamProtocol, now: float) -> bool:
        name = connection.name
        return (
            connection.is_open
            and now < connection.idle_since + self._idle_s
            and now < connection.retire_at
            and (name is None or connection.address in name.addresses)
        )

    def _sweep(self) -> None:
        self.drop_unfit()
        self._is_sweeping = bool(self._kept)
        if self._is_sweeping:
            self._loop.call_later(_SWEEP_S, self._sweep)
