"""One request on new connections, which tells how far it came and when: for testing a connection.

It is the transport that callers' requests take; it only takes notes on the way.
"""

from __future__ import annotations

import time
from typing import Final

from gateway.upstream.address_policy import AddressPolicy
from gateway.upstream.connections import Upstreams
from gateway.upstream.dialling import Stage
from gateway.upstream.resolver import Resolver

STAGES: Final[tuple[Stage, ...]] = ("address", "connect", "tls")
"""What is over, in this order: the host has an address that is allowed, TCP, and TLS with https."""


class Probe(Upstreams):
    """Connections to upstreams for one test. `reached` has when each stage was over.

    Times are those of `time.perf_counter`, in seconds.
    """

    def __init__(
        self, policy: AddressPolicy, ca_file: str | None = None, resolver: Resolver | None = None
    ) -> None:
        super().__init__(policy, ca_file=ca_file, resolver=resolver, note=self._note)
        self.reached: dict[Stage, float] = {}

    def _note(self, stage: Stage) -> None:
        self.reached[stage] = time.perf_counter()
