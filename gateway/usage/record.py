"""What is kept of every exchange. A new column is a field here, filled in `of`, and one in the SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from gateway.exchange import Exchange


class UsageRecord(NamedTuple):
    """One exchange as it is stored; the fields are the table's columns, in its order, `at` in Unix seconds."""

    at: float
    request_id: str
    trace_id: str
    team_id: str
    connector_id: str | None
    connector: str
    endpoint: str
    method: str
    caller_type: str
    caller_id: str
    status: int
    source: str
    error_code: str
    total_ms: float
    upstream_ms: float
    first_byte_ms: float
    own_ms: float
    bytes_in: int
    bytes_out: int
    attempts: int
    cached: bool
    client_gone: bool
    target: str
    client_address: str
    replayed: bool

    @classmethod
    def of(cls, exchange: Exchange, total_s: float) -> UsageRecord:
        """The record of an exchange that took so long, in seconds, and is over."""
        endpoint, outcome = exchange.known_endpoint, exchange.outcome
        caller, connector = exchange.known_caller, exchange.known_connector
        return cls(
            exchange.at,
            exchange.request_id,
            exchange.traceparent[3:35],
            caller.team if caller is not None else "",
            connector.id if connector is not None else None,
            connector.slug if connector is not None else _asked_for(exchange.path),
            endpoint.name if endpoint is not None else "",
            exchange.method,
            caller.kind if caller is not None else "none",
            caller.id if caller is not None else "",
            outcome.status,
            outcome.source,
            outcome.error_code,
            total_s * 1000,
            outcome.upstream_s * 1000,
            outcome.first_byte_s * 1000,
            outcome.own_s * 1000,
            exchange.body.read_bytes,
            outcome.bytes_out,
            outcome.attempts,
            outcome.cached,
            outcome.client_gone,
            outcome.target,
            exchange.client_address,
            outcome.replayed,
        )


COLUMNS: Final = UsageRecord._fields


def _asked_for(path: str) -> str:
    """The slug that an unresolved request asked for, as far as it can be one."""
    slug = path[1:].partition("/")[0][:64]
    return slug if slug.replace("-", "").isalnum() and slug.isascii() else ""
