"""Small writes of one turn of the event loop, sent together at its end.

A system call in the midst of every request makes the processor forget what it was doing and wakes
the peer each time. Sent back to back, writes cost a fraction of that, and nobody waits longer than
for the callbacks that are ready already.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

SMALL_BYTES: Final = 16_384
"""What is larger is written at once: there its own cost is what counts."""


class Sink(Protocol):
    """A transport, as far as it is written to."""

    def is_closing(self) -> bool: ...
    def write(self, block: bytes, /) -> None: ...


class WriteBatch:
    """Writes that wait for the end of the turn.

    Order is kept among them; who writes to a transport directly calls `flush` before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[tuple[Sink, bytes]] = []

    def write(self, transport: Sink, block: bytes) -> None:
        """Send a block soon, unless the transport is closed before."""
        if not self._pending:
            self._loop.call_soon(self.flush)
        self._pending.append((transport, block))

    def flush(self) -> None:
        """Send what waits, now."""
        pending, self._pending = self._pending, []
        for transport, block in pending:
            if not transport.is_closing():
                transport.write(block)
