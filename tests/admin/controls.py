"""What the admin API is built with, for tests that send nothing anywhere."""

from __future__ import annotations

import random
from functools import partial

from admin.control import Control
from gateway import pipeline
from gateway.clock import SystemClock
from gateway.database import Database
from gateway.directory import Directory
from gateway.explain.explanation import Explainer
from gateway.health.active import Health
from gateway.identity.jwts import TokenRules, Tokens, TrustedKey
from gateway.limits.contract import Limits
from gateway.limits.memory import MemoryLimits
from gateway.metrics import Metrics
from gateway.model import Plan
from gateway.runtime import Runtime
from gateway.secrets.files import SecretFiles
from gateway.secrets.vault import MasterKey, Reference, Vault
from gateway.settings import DEFAULT_PIPELINE, HealthSettings
from gateway.upstream.address_policy import AddressPolicy
from gateway.upstream.attempts import Attempts
from gateway.upstream.connections import Upstreams
from gateway.upstream.probe import Probe
from gateway.usage.writer import UsageWriter

SIGNING_KEY = "a signing key that is long enough for HS256"
ENVIRONMENT = {"DAYDREAM_API_KEY": "dd-from-environment", "OTHER_KEY": "not for everyone"}
REFERENCES = [
    Reference("DAYDREAM_API_KEY", ("api.daydream.live",)),
    Reference("OTHER_KEY", ("other.example.com",)),
]


def health_with(store: Database, vault: Vault, upstreams: Upstreams) -> Health:
    """Health checks on demand; what isn't asked for is not checked."""
    return Health(store, vault, upstreams, HealthSettings(), SystemClock())


def explainer_with(store: Database, vault: Vault, tokens: Tokens, limits: Limits) -> Explainer:
    """The usual pipeline, explained; nothing is ever sent."""
    metrics, clock, plan = Metrics("0"), SystemClock(), Plan(id="", name="default")
    attempts = Attempts(Upstreams(AddressPolicy()), metrics, clock, random.random)
    usage = UsageWriter(store, metrics, flush_every_s=1, most_waiting=1, keep_days=1)
    directory = Directory(store, vault, plan, clock)
    runtime = Runtime(directory, tokens, limits, attempts, usage, metrics)
    return Explainer(pipeline.plan(DEFAULT_PIPELINE), runtime, store, vault, plan)


def control_with(store: Database, files: SecretFiles | None = None) -> Control:
    """What the admin API is built with."""
    vault = Vault([MasterKey("first", bytes(range(32)))], REFERENCES, ENVIRONMENT, files=files)
    rules = TokenRules(issuer="tests", audience="service-gateway")
    tokens, limits = Tokens(rules, [TrustedKey("HS256", SIGNING_KEY)]), MemoryLimits(SystemClock())
    return Control(
        database=store,
        vault=vault,
        tokens=tokens,
        policy=AddressPolicy(),
        default_plan=Plan(id="", name="default"),
        probe=partial(Probe, AddressPolicy()),
        limits=limits,
        explainer=explainer_with(store, vault, tokens, limits),
        health=health_with(store, vault, Upstreams(AddressPolicy())),
        circuit=lambda _connector: None,
    )
