"""What the admin API is built with: the shared objects of the process, and nothing of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.database import Database
from gateway.explain.explanation import Explainer
from gateway.health.active import Health
from gateway.identity.jwts import Tokens
from gateway.limits.contract import Limits
from gateway.model import Plan
from gateway.networks import Network
from gateway.secrets.vault import Vault
from gateway.upstream.address_policy import AddressPolicy
from gateway.upstream.breaker import State
from gateway.upstream.probe import Probe


@dataclass(frozen=True, slots=True)
class Control:
    """The objects that handlers use. `default_plan` is what a team's first plan is made from.

    `probe` makes connections for one test of a connection, `limits` counts those tests, `explainer`
    runs the pipeline for a request that is only described, `circuit` tells how the breakers of a
    connector (its id) stand in this process. `failures_per_minute` is how many refused credentials an address
    may send (0: any); who is behind the `trusted_proxies` is told by them.
    """

    database: Database
    vault: Vault
    tokens: Tokens
    policy: AddressPolicy
    default_plan: Plan
    probe: Callable[[], Probe]
    limits: Limits
    explainer: Explainer
    health: Health
    circuit: Callable[[str], State | None]
    failures_per_minute: int = 0
    trusted_proxies: tuple[Network, ...] = ()


CONTROL: Final = web.AppKey("control", Control)
