"""One request on new connections, which tells how far it came and when: for testing a connection.

It is the transport that callers' requests take; it only takes notes on the way.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

from gateway.upstream.addresses import AddressPolicy
from gateway.upstream.connections import Target, Upstreams

Stage = Literal["address", "connect", "tls"]
STAGES: Final[tuple[Stage, ...]] = ("address", "connect", "tls")
"""What is over, in this order: the host has an address that is allowed, TCP, and TLS with https."""


class Probe(Upstreams):
    """Connections to upstreams for one test. `reached` has when each stage was over.

    Times are those of `time.perf_counter`, in seconds.
    """

    def __init__(self, policy: AddressPolicy, ca_file: str | None = None) -> None:
        super().__init__(_Noted(policy, partial(self._note, "address")), ca_file=ca_file)
        self.reached: dict[Stage, float] = {}
        make = self._connector._factory  # noqa: SLF001 - the pinned door: called when TCP is connected

        def make_noted() -> Any:
            self._note("connect")
            return make()

        self._connector._factory = make_noted  # type: ignore[assignment] # noqa: SLF001 - see above

    async def _connect(self, target: Target, most_s: float) -> Any:
        connection = await super()._connect(target, most_s)
        if target.is_ssl():
            self._note("tls")
        return connection

    def _note(self, stage: Stage) -> None:
        self.reached[stage] = time.perf_counter()


class _Noted(AddressPolicy):
    """A policy that tells when it has let an address through."""

    def __init__(self, policy: AddressPolicy, note: Callable[[], None]) -> None:
        super().__init__()
        self._policy = policy
        self._note = note

    def socket_for(self, info: tuple[Any, ...]) -> socket.socket:
        """As the policy does."""
        made = self._policy.socket_for(info)
        self._note()
        return made
