"""One health check of a connector: a GET of its health check path at each of its targets.

It takes the way of callers' requests: the connector's secrets, its list of hosts, the address policy.
Redirects are not followed, bodies are not read, and connections are not kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.directory import open_secrets
from gateway.exchange import Body, Exchange
from gateway.ids import Random, uuid7
from gateway.model import Connector, Destination
from gateway.problems import Rejected
from gateway.secrets.vault import Vault
from gateway.transform.compiling import compile_connector
from gateway.turns import Turns
from gateway.upstream.answer import Bounds
from gateway.upstream.attempts import check_hosts
from gateway.upstream.connections import Upstreams
from gateway.upstream.dialling import Target

if TYPE_CHECKING:
    from gateway.settings import HealthSettings

log = logging.getLogger(__name__)

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"

_ENDPOINT: Final = {"id": "", "name": "", "method": "GET", "path": "/", "definition": {}}
_FIELDS: Final = ((b"User-Agent", b"service-gateway (health check)"), (b"Connection", b"close"))
_MOST_BYTES: Final = 1 << 62
"""As good as no limit: the body is not read."""
_BUSY: Final = 429


class Found(NamedTuple):
    """What a check found of one target; the fields are the columns of its row.

    `status_code` is None when there was no answer, `latency_ms` when nothing was sent; `error` is a
    sentence for the connector's team, empty when all is well.
    """

    id: str
    at: str
    connector_id: str
    team_id: str
    target: str
    status: str
    status_code: int | None
    latency_ms: float | None
    error: str


class Checks:
    """Does checks: each target takes one of the slots that teams share."""

    def __init__(
        self, vault: Vault, upstreams: Upstreams, settings: HealthSettings, slots: Turns
    ) -> None:
        self._vault = vault
        self._upstreams = upstreams
        self._timeout_s = settings.timeout_s
        self._slow_s = settings.slow_s
        self._slots = slots
        self._random = Random()

    async def check(self, row: Mapping[str, Any]) -> list[Found]:
        """Check every target of a connector; `row` has what is published of it, and its secrets."""
        try:
            connector = self._compiled(row)
        except ValueError as fault:  # what was published by a version that knew other rules
            log.warning(
                "a connector can't be checked",
                extra={"connector_id": str(row["id"]), "reason": str(fault)},
            )
            return []
        return await asyncio.gather(
            *(self._check(connector, destination) for destination in connector.destinations)
        )

    def _compiled(self, row: Mapping[str, Any]) -> Connector:
        """The connector with one endpoint, which is its health check. Raises ValueError."""
        snapshot = {
            "id": str(row["id"]),
            "slug": row["slug"],
            "definition": row["definition"],
            "endpoints": [_ENDPOINT],
        }
        bare = compile_connector(snapshot, team=row["team_id"], secrets={})
        secrets = open_secrets(self._vault, row["secrets"], bare)
        return compile_connector(snapshot, team=row["team_id"], secrets=secrets)

    async def _check(self, connector: Connector, destination: Destination) -> Found:
        async with self._slots.turn(connector.team):
            id_ = uuid7()
            begun = time.perf_counter()
            status_code = latency_ms = None
            try:
                target = Target(
                    destination.url,
                    f"health {connector.id}",
                    min(connector.connect_timeout_s, self._timeout_s),
                    connector.team,
                )
                status_code = await self._status(connector, target)
                status, error = self._judged(status_code, time.perf_counter() - begun)
            except Rejected as refused:
                status, error = UNHEALTHY, refused.detail
            if status_code is not None:
                latency_ms = round((time.perf_counter() - begun) * 1000, 3)
            return Found(
                id=str(id_),
                at=moment_of(id_).isoformat(),
                connector_id=connector.id,
                team_id=connector.team,
                target=Target(destination.url, "", 1).label,
                status=status,
                status_code=status_code,
                latency_ms=latency_ms,
                error=error,
            )

    async def _status(self, connector: Connector, target: Target) -> int:
        """The status of the answer. Raises Rejected."""
        check_hosts(connector)
        exchange = self._exchange(connector)
        path = (connector.definition.health_check_path or "/").partition("?")[0]
        there = exchange.endpoint.mapped.to(connector.base.path.rstrip("/") + path)
        outgoing = there.outgoing(exchange)
        outgoing.headers += _FIELDS
        bounds = Bounds(self._timeout_s, self._timeout_s, _MOST_BYTES)
        answer = await self._upstreams.send(target, outgoing, exchange.body, bounds)
        answer.release()
        return answer.status

    def _exchange(self, connector: Connector) -> Exchange:
        query = (connector.definition.health_check_path or "").partition("?")[2]
        exchange = Exchange(
            "GET",
            f"/{connector.slug}/",
            query,
            {},
            (),
            Body.of(b""),
            client_address="",
            request_id=self._random.request_id(),
            traceparent=self._random.traceparent(),
        )
        exchange.connector = connector
        exchange.endpoint = connector.router.match("GET", "/").route
        return exchange

    def _judged(self, status_code: int, latency_s: float) -> tuple[str, str]:
        """What an answer says of its target, and why when it is not well."""
        if status_code == _BUSY:
            return DEGRADED, "The answer had status 429: it is asked too often."
        if not 200 <= status_code < 300:
            return UNHEALTHY, f"The answer had status {status_code}."
        if latency_s > self._slow_s:
            return DEGRADED, f"The answer took longer than {self._slow_s:g} seconds."
        return HEALTHY, ""


def moment_of(id_: uuid.UUID) -> datetime:
    """When a UUIDv7 was made, to the millisecond (RFC 9562 5.7)."""
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)


def judged(
    before: tuple[str, int], verdict: str, healthy_after: int, unhealthy_after: int
) -> tuple[str, int]:
    """A target's status after a check, and how many checks in a row were contrary to it.

    Those that were worse count up, those that were better down. What isn't known yet is what the
    first check finds.
    """
    status, contrary = before
    if status not in _RANK or verdict == status:
        return verdict, 0
    is_worse = _RANK[verdict] > _RANK[status]
    contrary = max(contrary, 0) + 1 if is_worse else min(contrary, 0) - 1
    if abs(contrary) >= (unhealthy_after if is_worse else healthy_after):
        return verdict, 0
    return status, contrary


_RANK: Final = {HEALTHY: 0, DEGRADED: 1, UNHEALTHY: 2}


def together(statuses: Sequence[str]) -> str:
    """The status of a connector with targets of these."""
    if len(set(statuses)) == 1:
        return statuses[0]
    return DEGRADED
