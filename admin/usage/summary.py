"""What was used: totals, latencies and the busiest connectors of a team, from its records."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields

import sql
from admin.calls import Call, answer
from admin.fields import Instant, Wire
from admin.routes import Operation, Resource, Route
from gateway.clock import utc_now

_SUMMARY: Final = sql.query("usage.summary")
_USUAL: Final = timedelta(days=1)
_LONGEST: Final = timedelta(days=93)
_PERCENTILES: Final = ("p50", "p95", "p99")


class Span(Wire):
    """From when (in) to when (not in): the last day unless it is said."""

    since = Instant(data_key="from", load_default=None)
    until = Instant(data_key="to", load_default=None)


class BusyConnector(Wire):
    """One of the connectors with the most requests."""

    id = fields.String()
    slug = fields.String()
    requests = fields.Integer()
    errors = fields.Integer()
    avg_latency_ms = fields.Float(allow_none=True)


class Summary(Wire):
    """Requests whose status was 400 or more count as errors; the rate is a share from 0 to 1.

    Where there is nothing to take an average or a percentile of, it is null.
    """

    since = Instant(data_key="from")
    until = Instant(data_key="to")
    total_requests = fields.Integer()
    error_count = fields.Integer()
    error_rate = fields.Float(allow_none=True)
    total_request_bytes = fields.Integer()
    total_response_bytes = fields.Integer()
    avg_latency_ms = fields.Float(allow_none=True)
    avg_upstream_latency_ms = fields.Float(allow_none=True)
    latency_ms = fields.Dict()
    top_connectors = fields.List(fields.Nested(BusyConnector))


_SPAN: Final = Span()
_SCHEMA: Final = Summary()


def span(given: Mapping[str, Any]) -> tuple[Any, Any]:
    """The two ends of the time that is asked for. Raises ValidationError."""
    until = given["until"] or utc_now()
    since = given["since"] or until - _USUAL
    if not since < until:
        raise ValidationError({"from": ["Not before the end."]})
    if until - since > _LONGEST:
        raise ValidationError({"from": [f"More than {_LONGEST.days} days before the end."]})
    return since, until


async def summary(call: Call) -> web.Response:
    """GET: the totals of a time."""
    since, until = span(_SPAN.load(call.parameters()))
    row = await call.row(_SUMMARY, since, until)
    assert row is not None, "an aggregate without GROUP BY has one row"
    total = row["total_requests"]
    found = {
        **row,
        "since": since,
        "until": until,
        "error_rate": row["error_count"] / total if total else None,
        "latency_ms": dict(zip(_PERCENTILES, row["percentiles_ms"] or [None] * 3, strict=True)),
    }
    return answer(_SCHEMA.dump(found))


RESOURCE: Final = Resource(
    "usage",
    "usage",
    (Route("GET", "/usage/summary", "viewer", summary, Operation(Summary, query=Span)),),
)
