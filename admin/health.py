"""Health of connectors: what active checks have found of the published ones, and a check on demand.

A status is `healthy`, `degraded`, `unhealthy`, or `unknown` for what is not checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from marshmallow import fields

import sql
from admin.allowances import Allowance
from admin.calls import Call, answer
from admin.connectors import HEALTHS
from admin.fields import Instant, Switch, Wire, choice, count, text
from admin.lists import Page, PageQuery
from admin.references import connector
from admin.routes import Operation, Resource, Route, lists
from admin.writes import writing
from gateway.health.checks import Found, moment_of, together
from gateway.problems import Rejected
from gateway.upstream.breaker import State

_LISTS: Final = {"newest": sql.query("health.newest"), "name": sql.query("health.by_name")}
_ONE: Final = sql.query("health.one")
_TARGETS: Final = sql.query("health.targets")
_HISTORY: Final = sql.query("health.history")

CIRCUITS: Final = tuple(state.name.lower().replace("_", "-") for state in State)
MOST_CHECKED: Final = 20
ALLOWED: Final = Allowance("checks of connectors", 60, 4)
_LAST: Final = UUID(int=(1 << 128) - 1)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Milliseconds(fields.Float):
    """A duration as it was measured: what a `real` adds to it is no measurement."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return None if value is None else round(value, 3)


class HealthSchema(Wire):
    """How a connector is. `isChecked` is false without a healthCheckPath and for what isn't published.

    `uptime` is the share (0 to 1) of the last day's checks that were not unhealthy, null without any;
    `strip` the worst of each quarter of an hour of that day, the oldest first, null where there was no
    check. Latency is that of the slowest target.
    """

    id = fields.String()
    slug = fields.String()
    display_name = fields.String()
    is_checked = Switch(attribute="checked")
    status = choice(HEALTHS)
    since = Instant(allow_none=True)
    checked_at = Instant(allow_none=True)
    latency_ms = Milliseconds(allow_none=True)
    checks = fields.Integer()
    uptime = fields.Float(allow_none=True)
    strip = fields.List(fields.String(allow_none=True))


class TargetHealth(Wire):
    """How a target is since its last check. Without an answer there is no `statusCode`."""

    target = fields.String()
    status = choice(HEALTHS)
    since = Instant()
    checked_at = Instant()
    status_code = fields.Integer(allow_none=True)
    latency_ms = Milliseconds(allow_none=True)
    error = fields.String()


class CheckSchema(Wire):
    """What one check found of one target; `error` says why it is not healthy."""

    at = Instant()
    target = fields.String()
    status = choice(HEALTHS)
    status_code = fields.Integer(allow_none=True)
    latency_ms = Milliseconds(allow_none=True)
    error = fields.String()


class HistoryPage(Wire):
    """Checks, the newest first."""

    items = fields.List(fields.Nested(CheckSchema))
    next_cursor = fields.String(allow_none=True)


class HealthDetail(HealthSchema):
    """A connector with its targets and its checks, and apart from those what requests have shown.

    `circuit` is the state of its worst breaker in the process that answers; null when it has sent
    the connector no request lately.
    """

    circuit = choice(CIRCUITS, allow_none=True)
    targets = fields.List(fields.Nested(TargetHealth))
    history = fields.Nested(HistoryPage)


class CheckResult(Wire):
    """What a check found. What a connector counts as changes after several that agree."""

    id = fields.String()
    status = choice(HEALTHS)
    targets = fields.List(fields.Nested(CheckSchema))


class HealthQuery(PageQuery):
    """What the list can be narrowed to."""

    status = choice(HEALTHS)


class HistoryQuery(Wire):
    """Which page of the checks: `cursor` is the `nextCursor` of the page before."""

    limit = count(1, 100, strict=False, load_default=50)
    cursor = fields.UUID(load_default=_LAST)


class CheckRequest(Wire):
    """Which connector to check, by its id or slug; without one all, those checked longest ago first."""

    connector = text(64, least=1)


_SCHEMA: Final = HealthSchema()
_DETAIL: Final = HealthDetail()
_CHECKED: Final = CheckResult()
_QUERY: Final = HealthQuery()
_HISTORY_QUERY: Final = HistoryQuery()
_REQUEST: Final = CheckRequest()


async def index(call: Call) -> web.Response:
    """GET: how the team's published connectors are."""
    page = Page.of(call, _QUERY)
    rows = await call.rows(_LISTS[page.sort], page.filters, *page.values)
    return page.answer(rows, lambda row: _SCHEMA.dump(_told(row)))


async def show(call: Call) -> web.Response:
    """GET: how one is, its targets, and a page of its checks."""
    id_ = (await connector(call, call.part("connector")))["id"]
    page = _HISTORY_QUERY.load(call.parameters())
    row = await call.row(_ONE, id_)
    assert row is not None, "it was there a moment ago, and rows are not removed before an archive"
    before, most = page["cursor"], page["limit"]
    checks = await call.rows(_HISTORY, id_, _moment(before), before, most + 1)
    shown = checks[:most]
    cursor = str(shown[-1]["id"]) if len(checks) > most else None
    history = {"items": shown, "next_cursor": cursor}
    targets = await call.rows(_TARGETS, id_) if row["status"] != "unknown" else []
    state = call.control.circuit(str(id_))
    circuit = None if state is None else CIRCUITS[state]
    found = {**_told(row), "circuit": circuit, "targets": targets, "history": history}
    return answer(_DETAIL.dump(found))


async def check(call: Call) -> web.Response:
    """POST: check now: one connector, or at most 20. What was found counts as any other check."""
    given = _REQUEST.load(await call.body(optional=True))
    dry_run, ids = call.flag("dryRun"), []
    if "connector" in given:
        ids = [(await connector(call, given["connector"]))["id"]]
    async with ALLOWED.take(call):
        found = await call.control.health.check_now(call.team, ids, MOST_CHECKED, keep=not dry_run)
    if ids and not found:
        raise Rejected(
            "conflict", "Only a published connector that has a healthCheckPath is checked."
        )
    async with writing(call) as write:
        for each in found:
            write.log("connector.check", each[0].connector_id, {})
    return answer({"items": [_CHECKED.dump(_result(each)) for each in found], "nextCursor": None})


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    checks = row["checks"]
    if row["status"] == "unknown":
        row = {**row, "since": None, "latency_ms": None}
    return {**row, "uptime": row["passed"] / checks if checks else None}


def _result(found: Sequence[Found]) -> dict[str, Any]:
    targets = [{**each._asdict(), "at": datetime.fromisoformat(each.at)} for each in found]
    status = together([each.status for each in found])
    return {"id": found[0].connector_id, "status": status, "targets": targets}


def _moment(id_: UUID) -> datetime:
    """When the check of an id was; never for an id that no check has."""
    try:
        return moment_of(id_)
    except (OverflowError, ValueError, OSError):
        return _NEVER


RESOURCE: Final = Resource(
    "health",
    "health",
    (
        Route("GET", "/health", "viewer", index, lists(HealthSchema, HealthQuery)),
        Route(
            "GET",
            "/health/{connector}",
            "viewer",
            show,
            Operation(HealthDetail, query=HistoryQuery),
        ),
        Route(
            "POST",
            "/health/check",
            "editor",
            check,
            Operation(
                CheckResult,
                many=True,
                body=CheckRequest,
                body_optional=True,
                example={"connector": "maps"},
                codes=("conflict", "not_found", "rate_limited", "too_many_concurrent"),
            ),
        ),
    ),
)
