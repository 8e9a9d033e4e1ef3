"""Names to addresses by the system's resolver, so that no name can hold up another team's.

Each look-up is a thread of its own, as `getaddrinfo` cannot be called off: a pool would be full when
a few name servers never answer. How many there are at a time is bounded for each team and for all.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

Found = tuple[int, int, tuple[Any, ...]]
"""Family, protocol, and the socket address, whose port says nothing."""
LookUp = Callable[[str], Sequence[Found]]

_MOST_OF_A_TEAM: Final = 4
_MOST: Final = 128
_MOST_NAMES: Final = 10_000
_STALE_S: Final = 600.0
"""How long addresses are used past their time while the name server does not answer (RFC 8767)."""
_PATIENCE_S: Final = 1.8
"""How long an answer is waited for while there are such addresses (RFC 8767 5)."""
_LEAST_AGE_S: Final = 1.0
"""How often a name is looked up for connections that are kept anyway."""
_NO_SUCH_NAME: Final = frozenset(
    [socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)]  # not in every C library
)


class NotResolved(OSError):
    """The name has no addresses, or its name server does not answer."""


def look_up(host: str) -> Sequence[Found]:
    """What the system says: hosts file, search domains and all. Blocks; raises OSError."""
    found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [(family, protocol, address) for family, _, protocol, _, address in found]


class Name:
    """What is known of a name; connections hold on to it to see whether its addresses have changed."""

    __slots__ = ("addresses", "asked_at", "flight", "found", "fresh_until", "host")

    def __init__(self, host: str) -> None:
        self.host = host
        self.found: Sequence[Found] = ()
        self.addresses: frozenset[str] = frozenset()
        self.asked_at = self.fresh_until = float("-inf")
        self.flight: asyncio.Future[None] | None = None
        """The look-up that is under way; it fails with NotResolved."""


class Resolver:
    """The names of one process. `ttl_s` is how long an answer is believed."""

    def __init__(self, ttl_s: float = 10, timeout_s: float = 5, ask: LookUp | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._ask = ask or look_up
        self._names: OrderedDict[str, Name] = OrderedDict()
        self._running: dict[str, int] = {}
        self._waiting: dict[str, list[Name]] = {}
        """The look-ups of each team that wait for their turn."""

    async def resolve(self, host: str, team: str) -> Name:
        """The name, with at least one address. Raises NotResolved.

        `team` is who pays for the look-up; "" is the operator.
        """
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = Name(host)
            self._forget()
        self._names.move_to_end(host)
        now = self._loop.time()
        if name.found and now < name.fresh_until:
            return name
        may_be_stale = bool(name.found) and now < name.fresh_until + _STALE_S
        flight = self._flight(name, team)
        patience_s = min(_PATIENCE_S, self._timeout_s) if may_be_stale else self._timeout_s
        await asyncio.wait([flight], timeout=patience_s)
        if not flight.done() and not may_be_stale:
            raise NotResolved("the name server does not answer")
        if not name.found or not (may_be_stale or flight.exception() is None):
            raise NotResolved(str(flight.exception()))
        return name

    def renew(self, name: Name, team: str) -> None:
        """Look a name up once more if it is time; nobody waits for it."""
        now = self._loop.time()
        if now >= max(name.fresh_until, name.asked_at + _LEAST_AGE_S):
            self._flight(name, team)

    def _flight(self, name: Name, team: str) -> asyncio.Future[None]:
        """The one look-up of the name, begun if there is none."""
        if name.flight is None:
            name.asked_at = self._loop.time()
            name.flight = self._loop.create_future()
            name.flight.add_done_callback(_seen)
            self._waiting.setdefault(team, []).append(name)
            self._admit()
        return name.flight

    def _admit(self) -> None:
        """Begin what may begin: of each team so many, of all together so many."""
        for team, queue in list(self._waiting.items()):
            while (
                queue
                and self._running.get(team, 0) < _MOST_OF_A_TEAM
                and sum(self._running.values()) < _MOST
            ):
                self._running[team] = self._running.get(team, 0) + 1
                self._start(queue.pop(0), team)
            if not queue:
                del self._waiting[team]

    def _start(self, name: Name, team: str) -> None:
        def work() -> None:
            try:
                found: Sequence[Found] | OSError = self._ask(name.host)
            except OSError as error:
                found = error
            except UnicodeError as error:
                found = OSError(str(error))
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._looked_up, name, team, found)

        # A daemon: the process does not wait for a name server when it ends.
        threading.Thread(target=work, name=f"look-up {name.host}", daemon=True).start()

    def _looked_up(self, name: Name, team: str, found: Sequence[Found] | OSError) -> None:
        """A look-up is over. That there is no such name is an answer; other failures are none."""
        self._running[team] -= 1
        if not self._running[team]:
            del self._running[team]
        flight, name.flight = name.flight, None
        if not isinstance(found, OSError):
            name.fresh_until = self._loop.time() + self._ttl_s
            self._change(name, found)
        elif isinstance(found, socket.gaierror) and found.errno in _NO_SUCH_NAME:
            self._change(name, ())
        if flight is not None and isinstance(found, OSError):
            flight.set_exception(NotResolved(str(found)))
        elif flight is not None:
            flight.set_result(None)
        self._admit()

    def _change(self, name: Name, found: Sequence[Found]) -> None:
        name.found = found
        name.addresses = frozenset(str(address[0]) for _, _, address in found)

    def _forget(self) -> None:
        """Names that were not asked for lately make room."""
        while len(self._names) > _MOST_NAMES:
            self._names.popitem(last=False)


def _seen(flight: asyncio.Future[None]) -> None:
    """Nobody has to wait for a look-up that fails."""
    if not flight.cancelled():
        flight.exception()
