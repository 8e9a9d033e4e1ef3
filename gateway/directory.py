"""Keys and connectors in memory: loaded on first use, dropped when PostgreSQL announces a change.

The hot path never waits for the database for what it has seen before. What was loaded keeps
serving while PostgreSQL is away or silent, until it is known to have changed.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import re
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import orjson

from gateway import zones
from gateway.changes import CHANNEL, Changes
from gateway.clock import Clock
from gateway.database import Database, DatabaseAway
from gateway.identity.keys import NO_DIGEST
from gateway.lookup import Cache, Loaded
from gateway.model import Caller, Connector, Plan
from gateway.networks import parse_network
from gateway.problems import Rejected
from gateway.secrets.files import Stamp, differ, stamps
from gateway.secrets.vault import Sealed, Vault, VaultFault
from gateway.snapshot import CONNECTOR, KEY, PLAN
from gateway.source import Source
from gateway.tasks import Tasks
from gateway.transform.auth import AuthFault
from gateway.transform.compiling import compile_connector
from gateway.transform.definitions import Definitions

T = TypeVar("T")

log = logging.getLogger(__name__)


_is_slug: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}[a-z0-9]").fullmatch
CACHE_BYTES: Final = 256 << 20
_CONNECTOR_BYTES: Final = 2_048
_ENDPOINT_BYTES: Final = 3_072
_JSON_FACTOR, _SCHEMA_FACTOR = 8, 24
"""What becomes of a byte of a snapshot, and besides of one of a schema, when it is compiled."""
_KEY_BYTES: Final = 1_024
_PLAN_BYTES: Final = 512
_ENTRY_BYTES: Final = 160
_KEEP_EVERY_S: Final = 30.0
_KEEP_WITHIN_S: Final = 2.0
_LOOK_EVERY_S: Final = 1.0
"""How often the files with secrets are looked at: one that has changed is in force soon after."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as stored: what to compare with, what it may do, and until when."""

    caller: Caller
    digest: bytes
    previous_digest: bytes
    previous_until: float
    revoked: bool


@dataclass(frozen=True, slots=True)
class Draft:
    """A connector that exists but is not published."""

    files: ClassVar[Mapping[str, Stamp | None]] = {}
    slug: str


class Directory:
    """Who callers are and where they may go."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        default_plan: Plan,
        clock: Clock,
        cache_bytes: int = CACHE_BYTES,
        source: Source | None = None,
    ) -> None:
        self._source = source or Source(database, clock)
        self._vault = vault
        self._fallback = default_plan
        self._clock = clock
        self._tasks = Tasks(expected=(DatabaseAway,))
        part = cache_bytes // 16
        self._keys = Cache(self._load_key, clock, self._tasks, 3 * part)
        self._connectors = Cache(self._load_connector, clock, self._tasks, 12 * part)
        self._plans = Cache(self._load_plan, clock, self._tasks, part)
        self._following = Changes(database, clock, self._changed, self._make_stale)
        self.changes = 1
        """Grows with each announced change; what `gateway_config_version` shows."""

    @property
    def ready(self) -> bool:
        """True once the database has answered, or while a snapshot serves in its place."""
        return self._following.known or self._source.snapshot_at is not None

    @property
    def snapshot_at(self) -> float | None:
        """See `Source.snapshot_at`."""
        return self._source.snapshot_at

    @property
    def way(self) -> str:
        """How changes come here: see `Changes.way`."""
        return self._following.way

    @property
    def is_listening(self) -> bool:
        """True while changes are announced here."""
        return self.way == CHANNEL

    def held_key(self, public_id: str) -> KeyRecord | None:
        """A key that is in memory and in force; never waits."""
        return self._keys.held(public_id)

    async def key(self, public_id: str) -> KeyRecord | None:
        """A key by its public id. Raises Rejected `store_unavailable` when it can't be known."""
        return await _known(self._keys.get(public_id))

    def held_connector(self, team: str, slug: str) -> Connector | Draft | None:
        """A connector that is in memory and in force; never waits."""
        return self._connectors.held(f"{slug} {team}")

    async def connector(self, team: str, slug: str) -> Connector | Draft | None:
        """A team's connector by its slug; a Draft when it isn't published."""
        if not _is_slug(slug):
            return None
        return await _known(self._connectors.get(f"{slug} {team}"))

    async def plan_of(self, team: str) -> Plan:
        """The plan of a team's own users: its `default` plan, or the built-in numbers."""
        held = self._plans.held(team)
        return held or await _known(self._plans.get(team)) or self._fallback

    def start(self) -> None:
        """Begin to follow changes."""
        self._following.start()
        self._tasks.repeat(self._look_at_snapshot, _LOOK_EVERY_S, "age of the snapshot")
        self._tasks.repeat(self._keep, _KEEP_EVERY_S, "snapshot of the configuration")
        if self._vault.reads_files:
            self._tasks.repeat(self._look_at_files, _LOOK_EVERY_S, "files with secrets")

    async def close(self) -> None:
        """Stop following; what is known is kept for a start without PostgreSQL."""
        await self._tasks.stop()
        with suppress(Exception):  # the snapshot before this one will do
            async with asyncio.timeout(_KEEP_WITHIN_S):
                await self._keep()
        await self._following.close()

    async def _load_key(self, public_id: str) -> Loaded[KeyRecord] | None:
        row = await self._source.row(KEY, public_id)
        if row is None:
            return None
        record = key_record(row, self._fallback)
        caller = record.caller
        lists = (caller.connector_ids, caller.allowed_endpoints, caller.allowed_networks)
        own = _KEY_BYTES + _ENTRY_BYTES * sum(map(len, lists))
        return Loaded(record, own + _plan_bytes(caller.plan))

    async def _load_plan(self, team: str) -> Loaded[Plan] | None:
        row = await self._source.row(PLAN, team)
        if row is None:
            return None
        plan = _plan(row, str(row["id"]), row["name"])
        return Loaded(plan, _plan_bytes(plan))

    async def _load_connector(self, name: str) -> Loaded[Connector | Draft] | None:
        slug, _, team = name.partition(" ")
        row = await self._source.row(CONNECTOR, name)
        if row is None:
            return None
        if row["snapshot"] is None:
            return Loaded(Draft(slug), _ENTRY_BYTES)
        snapshot: Mapping[str, Any] = row["snapshot"]
        bare = await asyncio.to_thread(compile_connector, snapshot, team=team, secrets={})
        files = self._vault.stamps(secret["reference"] for secret in row["secrets"])
        secrets = self._open(row["secrets"], bare)
        try:
            made = await asyncio.to_thread(
                compile_connector, snapshot, team=team, secrets=secrets, files=files
            )
        except AuthFault as fault:  # one from outside may be anything by now
            log.error("a secret can't be used", extra={"reason": str(fault)})  # noqa: TRY400 - the trace says nothing
            made = dataclasses.replace(bare, files=files)
        return Loaded(made, await asyncio.to_thread(compiled_bytes, snapshot))

    def _open(self, rows: list[dict[str, Any]], connector: Connector) -> dict[str, str]:
        return open_secrets(self._vault, rows, connector)

    async def _look_at_files(self) -> None:
        """Have those connectors looked up anew whose secrets are in files that have changed."""
        known = {path for value in self._connectors.values() for path in value.files}
        now = await asyncio.to_thread(stamps, known)
        if count := self._connectors.make_stale_where(lambda value: differ(value.files, now)):
            self.changes += 1
            log.info("files with secrets have changed", extra={"connectors": count})

    async def _look_at_snapshot(self) -> None:
        if self._source.must_leave():
            log.warning("the snapshot has become too old: PostgreSQL is waited for")
            self._leave_snapshot()

    def _leave_snapshot(self) -> None:
        if self._source.leave_snapshot():
            for cache in (self._keys, self._connectors, self._plans):
                cache.clear()

    async def _keep(self) -> None:
        """Write a snapshot of what is used, once the database has answered."""
        if self._following.known:
            teams = [name.partition(" ")[2] for name in self._connectors.names()]
            plans = dict.fromkeys([*self._plans.names(), *teams])
            names = {KEY: self._keys.names(), CONNECTOR: self._connectors.names(), PLAN: plans}
            await self._source.keep(names)

    def _make_stale(self) -> None:
        self._leave_snapshot()
        for cache in (self._keys, self._connectors, self._plans):
            cache.make_stale()

    def _changed(self, text: str) -> None:
        """An announcement: `key <public id>`, `connector <slug> <team>`, `plan <id> <team>`."""
        kind, _, rest = text.partition(" ")
        self.changes += 1
        self._source.changed(text)
        if kind == "key":
            self._keys.drop(rest)
        elif kind == "connector":
            self._connectors.drop(rest)
        elif kind == "plan":
            plan_id, _, team = rest.partition(" ")
            self._plans.drop(team)
            self._keys.drop_where(
                lambda record: (
                    record.caller.team == team
                    and record.caller.plan.id in {plan_id, self._fallback.id}
                )
            )


def compiled_bytes(snapshot: Mapping[str, Any]) -> int:
    """How much memory a connector takes that is compiled from a snapshot, nearly."""
    endpoints = snapshot["endpoints"]
    shared = Definitions(snapshot["definition"].get("schemas", {}))
    schemas = [each["definition"].get("body_schema") for each in endpoints]
    distinct = {orjson.dumps(schema): schema for schema in schemas if schema}
    units: dict[Any, int] = {}
    for schema in distinct.values():
        with suppress(ValueError):  # it does not compile
            units.__setitem__(*shared.unit(schema))
    return (
        _CONNECTOR_BYTES
        + _ENDPOINT_BYTES * len(endpoints)
        + _JSON_FACTOR * len(orjson.dumps(snapshot))
        + _SCHEMA_FACTOR * sum(units.values())
    )


def _plan_bytes(plan: Plan) -> int:
    return _PLAN_BYTES + _ENTRY_BYTES * len(plan.allowed_connectors)


def open_secrets(
    vault: Vault, rows: Iterable[Mapping[str, Any]], connector: Connector
) -> dict[str, str]:
    """The secrets that open. One that doesn't is missing to the caller and told in the log."""
    opened: dict[str, str] = {}
    for row in rows:
        name = row["name"]
        if (reference := row["reference"]) is not None:
            origins = connector.origins
            values = [vault.resolve(reference, connector.team, origin) for origin in origins]
            if (value := values[0]) is not None and None not in values:
                opened[name] = value
            continue
        sealed = Sealed(row["key_id"], base64.b64decode(row["sealed"]))
        try:
            opened[name] = vault.open(
                sealed, team=connector.team, connector=connector.id, name=name
            )
        except VaultFault as fault:
            log.error("a secret does not open", extra={"reason": str(fault)})  # noqa: TRY400 - the trace says nothing
    return opened


async def _known(looking: Awaitable[T | None]) -> T | None:
    try:
        return await looking
    except DatabaseAway as away:
        raise Rejected(
            "store_unavailable",
            "The configuration store does not answer, and this is not in memory.",
            retry_after_s=1,
        ) from away


def key_record(row: Mapping[str, Any], fallback: Plan) -> KeyRecord:
    """A key from its row; a key without a plan has the team's default plan or the fallback."""
    plan = fallback if row["plan_id"] is None else _plan(row, str(row["plan_id"]), row["plan_name"])
    expires, until = row["expires_at"], row["previous_until"]
    return KeyRecord(
        caller=Caller(
            kind="key",
            id=str(row["id"]),
            name=row["public_id"],
            team=row["team_id"],
            plan=plan,
            connector_ids=frozenset(map(str, row["connector_ids"])),
            allowed_endpoints=frozenset(row["allowed_endpoints"]),
            allowed_networks=tuple(parse_network(text) for text in row["allowed_ips"]),
            expires_at=None if expires is None else expires.timestamp(),
        ),
        digest=row["digest"],
        previous_digest=row["previous_digest"] or NO_DIGEST,
        previous_until=0.0 if until is None else until.timestamp(),
        revoked=row["revoked_at"] is not None,
    )


def _plan(row: Mapping[str, Any], plan_id: str, name: str) -> Plan:
    return Plan(
        id=plan_id,
        name=name,
        rate_limit=row["rate_limit"],
        rate_window_s=row["rate_window_s"],
        burst_limit=row["burst_limit"],
        daily_quota=row["daily_quota"],
        monthly_quota=row["monthly_quota"],
        max_concurrent=row["max_concurrent"],
        max_request_size=row["max_request_size"],
        max_response_size=row["max_response_size"],
        allowed_connectors=frozenset(map(str, row["allowed_connectors"])),
        time_zone=zones.or_utc(row["time_zone"]),
    )
