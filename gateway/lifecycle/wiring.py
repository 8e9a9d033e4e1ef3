"""From settings to objects: everything that a worker process is made of, but the admin plane."""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from gateway import __version__
from gateway.clock import SystemClock, utc_now
from gateway.database import Database, DatabaseAway
from gateway.directory import Directory
from gateway.health.active import Health
from gateway.identity.jwts import TokenRules, Tokens, TrustedKey
from gateway.limits.callers import used
from gateway.limits.memory import MemoryLimits
from gateway.metrics import Metrics
from gateway.model import Plan
from gateway.problems import quoted
from gateway.runtime import Runtime
from gateway.secrets import key_ring
from gateway.secrets.files import Permitted, SecretFiles
from gateway.secrets.vault import MasterKey, Reference, Vault, VaultFault, decode_key, key_file
from gateway.settings import Settings
from gateway.snapshot import Snapshots
from gateway.source import Source
from gateway.tasks import Tasks
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.attempts import Attempts
from gateway.upstream.connections import Upstreams
from gateway.upstream.heads import FieldLimits
from gateway.upstream.probe import Probe
from gateway.usage.writer import UsageWriter

log = logging.getLogger(__name__)

MASTER_KEY_FILE: Final = "master.key"
_SIGNING_KEY_FILE: Final = "signing.key"
_FLUSH_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Worker:
    """One process's objects: what filters get, and what the admin plane needs besides."""

    runtime: Runtime
    database: Database
    vault: Vault
    policy: AddressPolicy
    default_plan: Plan
    probe: Callable[[], Probe]
    """Connections like those of callers' requests, for one test of a connection."""
    health: Health


def vault_of(settings: Settings, data: Path, environ: Mapping[str, str]) -> Vault:
    """The vault with the configured master keys, or with one made in the data directory."""
    keys = []
    for entry in settings.secrets.master_keys:
        try:
            keys.append(MasterKey(entry.id, decode_key(entry.key)))
        except VaultFault as fault:
            raise VaultFault(f"secrets.master_keys: key {quoted(entry.id)} is {fault}") from None
    references = [
        Reference(entry.name, entry.hosts, entry.teams) for entry in settings.secrets.environment
    ]
    files = SecretFiles(
        [Permitted(entry.path, entry.hosts, entry.teams) for entry in settings.secrets.files]
    )
    if keys:
        return Vault(keys, references, environ, files=files)
    ring = data / MASTER_KEY_FILE
    reread = partial(key_ring.read, ring)
    return Vault(key_ring.keys(ring), references, environ, reread, files)


def tokens_of(settings: Settings, data: Path, upstreams: Upstreams | None = None) -> Tokens:
    """The token rules with the configured keys, or with a HS256 key made in the data directory."""
    auth = settings.auth
    rules = TokenRules(
        auth.issuer,
        auth.audience,
        auth.leeway_s,
        auth.longest_life_s,
        auth.user_claim,
        auth.teams_claim,
        auth.role_claim,
        auth.token_type,
    )
    keys = [
        TrustedKey(key.algorithm, key.secret or key.public_key or "", key.jwks_url or "", key.kid)
        for key in auth.keys
    ]
    if not keys:
        keys = [TrustedKey("HS256", key_file(data / _SIGNING_KEY_FILE))]
    return Tokens(rules, keys, upstreams.fetch if upstreams is not None else None)


def policy_of(settings: Settings) -> AddressPolicy:
    """Which addresses may be connected to."""
    return AddressPolicy(Allowed.parse(text) for text in settings.upstream.allow_networks)


def upstreams_of(settings: Settings, policy: AddressPolicy) -> Upstreams:
    """The connections to upstreams."""
    own = settings.upstream
    return Upstreams(
        policy,
        idle_s=own.idle_s,
        max_age_s=own.max_age_s,
        dns_ttl_s=own.dns_ttl_s,
        ca_file=own.ca_file,
        limits=FieldLimits(own.most_fields, own.most_field_bytes),
    )


def default_plan_of(settings: Settings) -> Plan:
    """The numbers of a team's default plan."""
    limits = settings.limits
    return Plan(
        id="",
        name="default",
        rate_limit=limits.rate_limit,
        rate_window_s=limits.rate_window_s,
        daily_quota=limits.daily_quota,
        monthly_quota=limits.monthly_quota,
        max_request_size=limits.max_request_size,
        max_response_size=limits.max_response_size,
    )


@asynccontextmanager
async def worker(
    settings: Settings,
    dsn: str,
    data: Path,
    environ: Mapping[str, str],
    *,
    is_current: bool = True,
) -> AsyncIterator[Worker]:
    """Everything open and running; closed in reverse, usage records written last.

    While the database is not current, the snapshot of the data directory serves in its place.
    """
    clock = SystemClock()
    metrics = Metrics(__version__)
    policy, plan = policy_of(settings), default_plan_of(settings)
    vault = vault_of(settings, data, environ)
    database = _database(settings, dsn, is_current=is_current)
    await database.open()
    upstreams = upstreams_of(settings, policy)
    probe = partial(Probe, policy, settings.upstream.ca_file, upstreams.resolver)
    health = Health(database, vault, upstreams, settings.health, clock)
    attempts = Attempts(
        upstreams,
        metrics,
        clock,
        random.random,
        breaker=settings.upstream.breaker,
        retry_percent=settings.upstream.retry_percent,
        unhealthy=health.unhealthy,
    )
    snapshots = Snapshots(data, vault, clock, settings.database.snapshot_age_s)
    source = Source(database, clock, snapshots, None if is_current else snapshots.read())
    directory = Directory(database, vault, plan, clock, settings.database.cache_bytes, source)
    limits = MemoryLimits(clock)
    usage = _usage_writer(settings, database, metrics, data)
    tokens = tokens_of(settings, data, upstreams)
    runtime = Runtime(directory, tokens, limits, attempts, usage, metrics)
    metrics.watch_upstreams(attempts.conditions, health.shares)
    metrics.watch_directory(lambda: directory.changes, lambda: directory.way)
    tasks = Tasks(expected=(DatabaseAway,), watch=metrics.work_ended)
    metrics.watch_snapshot(lambda: directory.snapshot_at)
    if not is_current:
        tasks.persist(database.migrate, "migrations")
    directory.start()
    usage.start()
    if settings.health.enabled:
        health.start()
    tasks.persist(partial(_restore_quotas, usage, limits, utc_now()), "quota counts")
    try:
        yield Worker(runtime, database, vault, policy, plan, probe, health)
    finally:
        await tasks.stop()
        await health.close()
        await tokens.close()
        await upstreams.close()
        await usage.close(_FLUSH_PATIENCE_S)
        await directory.close()
        await database.close()


def _database(settings: Settings, dsn: str, *, is_current: bool) -> Database:
    return Database(
        dsn,
        most_connections=settings.database.most_connections,
        timeout_s=settings.database.timeout_s,
        is_current=is_current,
    )


def _usage_writer(
    settings: Settings, database: Database, metrics: Metrics, data: Path
) -> UsageWriter:
    return UsageWriter(
        database,
        metrics,
        flush_every_s=settings.usage.flush_every_s,
        most_waiting=settings.usage.most_waiting,
        keep_days=settings.usage.keep_days,
        data=data,
    )


async def _restore_quotas(usage: UsageWriter, limits: MemoryLimits, began: datetime) -> None:
    """Count what was used before this process began; counters in memory begin at zero."""
    for quota, count, at in used(await usage.used(began)):
        limits.restore(quota, count, at)
