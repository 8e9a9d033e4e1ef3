"""What the admin API is built with: the shared objects of the process, and nothing of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.addresses import AddressPolicy
from gateway.database import Database
from gateway.model import Plan
from gateway.tokens import Tokens
from gateway.vault import Vault


@dataclass(frozen=True, slots=True)
class Control:
    """The objects that handlers use. `default_plan` is what a team's first plan is made from."""

    database: Database
    vault: Vault
    tokens: Tokens
    policy: AddressPolicy
    default_plan: Plan


CONTROL: Final = web.AppKey("control", Control)
