"""Usage over time: buckets of a minute, an hour or a day in UTC, those without a request among them.

The first and the last bucket hold what of them is in the time that is asked for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields

import sql
from admin.calls import Call, answer
from admin.fields import Instant, Wire, choice
from admin.routes import Operation, Resource, Route
from admin.usage.records import STATUS_CLASSES, Traffic, narrowed
from admin.usage.summary import span

_SERIES: Final = sql.query("usage.timeseries")

INTERVALS: Final = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
}
_MOST_BUCKETS: Final = 1_500
_FEW: Final = 200
"""How many buckets a chart shows well: the finest interval with no more is the usual one."""
_PERCENTILES: Final = ("p50", "p95", "p99")


class SeriesQuery(Traffic):
    """The time, the interval, and which requests."""

    since = Instant(data_key="from", load_default=None)
    until = Instant(data_key="to", load_default=None)
    interval = choice((*INTERVALS, "auto"), load_default="auto")


class Bucket(Wire):
    """What was in one interval. Percentiles are null where there was no request."""

    start = Instant()
    requests = fields.Integer()
    errors = fields.Integer()
    statuses = fields.Dict()
    latency_ms = fields.Dict()
    request_bytes = fields.Integer()
    response_bytes = fields.Integer()


class Series(Wire):
    """Buckets in the order of time, without a gap."""

    since = Instant(data_key="from")
    until = Instant(data_key="to")
    interval = fields.String()
    items = fields.List(fields.Nested(Bucket))


_QUERY: Final = SeriesQuery()
_SCHEMA: Final = Series()


async def show(call: Call) -> web.Response:
    """GET: a time, bucket by bucket."""
    given = _QUERY.load(call.parameters())
    since, until = span({name: given.pop(name) for name in ("since", "until")})
    interval = _interval(given.pop("interval"), until - since)
    rows = await call.rows(_SERIES, since, until, INTERVALS[interval], narrowed(given))
    found = {
        "since": since,
        "until": until,
        "interval": interval,
        "items": [_bucket(row) for row in rows],
    }
    return answer(_SCHEMA.dump(found))


def _interval(named: str, length: timedelta) -> str:
    """The name of the interval. Raises ValidationError for one that makes too many buckets."""
    if named == "auto":
        fitting = (name for name, each in INTERVALS.items() if length / each <= _FEW)
        return next(fitting, "day")
    if length / INTERVALS[named] > _MOST_BUCKETS:
        detail = f"More than {_MOST_BUCKETS} intervals: take a longer one, or a shorter time."
        raise ValidationError({"interval": [detail]})
    return named


def _bucket(row: dict[str, Any]) -> dict[str, Any]:
    percentiles = row["percentiles_ms"] or [None] * len(_PERCENTILES)
    return {
        **row,
        "statuses": dict(zip(STATUS_CLASSES, row["statuses"], strict=True)),
        "latency_ms": dict(zip(_PERCENTILES, percentiles, strict=True)),
    }


RESOURCE: Final = Resource(
    "timeseries",
    "usage",
    (Route("GET", "/usage/timeseries", "viewer", show, Operation(Series, query=SeriesQuery)),),
)
