"""Testing a connection: a connector as it is saved or as it stands in a body, and one request.

Nothing is kept but an audit row. A team has so many tests a minute, that nobody scans ports with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields

from admin import connectors, endpoints, secrets
from admin.allowances import Allowance
from admin.calls import Call, answer
from admin.described_requests import DescribedRequest, path_field
from admin.fields import text
from admin.reads import Reading, reading
from admin.references import connector
from admin.routes import Operation, Resource, Route
from admin.shapes import ANYTHING, NUMBER, OBJECT, SWITCH, TEXT, perhaps, record, several
from admin.targets import origins
from admin.trials.trial import Asked, Trial
from admin.writes import writing
from gateway.problems import Fault, Rejected, quoted
from gateway.transform.routes import parse
from gateway.transform.rules import pointer

ALLOWED: Final = Allowance("tests of connections", 30, 4)
_DRAFT: Final = "draft"

TRIAL: Final = record(
    "What became of the request: each step, up to the first that failed.",
    ok=SWITCH,
    durationMs=NUMBER,
    steps=several(record(name=TEXT, ok=SWITCH, durationMs=NUMBER, detail=TEXT)),
    request=perhaps(record("What is sent upstream.", method=TEXT, url=TEXT, headers=ANYTHING)),
    answer=perhaps(OBJECT),
)


class TrialRequest(DescribedRequest):
    """Which request: one of an endpoint (its name or id), else GET of `healthCheckPath` or the base URL."""

    endpoint = text(64, least=1)
    path = path_field()


_REQUEST: Final = TrialRequest()


class DraftTrial(connectors.ConnectorCreate):
    """A connector as it would be created, and the request; nothing of it is kept.

    `secretsOf` is a saved connector: its secrets are used where none is given here.
    """

    slug = connectors.slug_field(load_default=_DRAFT)
    request = fields.Nested(TrialRequest, load_default=lambda: _REQUEST.load({}), load_only=True)
    secrets_of = text(64, least=1, load_only=True)


_SCHEMA: Final = DraftTrial()


async def saved(call: Call) -> web.Response:
    """POST: test a connector's working copy."""
    request = _REQUEST.load(await call.body(optional=True))
    async with reading(call) as team:
        row = await connector(team, call.part("connector"))
        own = await endpoints.every(team, row["id"])
        asked = _asked(request, own, "")
        values, unset = await secrets.opened(team, row, asked.secret_names(row))
    return await _tested(call, Trial(row, asked, values, unset))


async def draft(call: Call) -> web.Response:
    """POST: test a connector that is not saved, perhaps with the secrets of one that is."""
    item = await asyncio.to_thread(_SCHEMA.load, await call.body())
    if any(map(secrets.refers, item["secrets"].values())):
        call.require("admin", "Using references")
    row = {"id": _DRAFT, **item}
    own = [{"id": entry["name"], **entry} for entry in item["endpoints"]]
    asked = _asked(item["request"], own, "/request")
    async with reading(call) as team:
        values, unset = await _given(team, row, asked, item)
    return await _tested(call, Trial(row, asked, values, unset))


async def _given(
    team: Reading, row: Mapping[str, Any], asked: Asked, item: Mapping[str, Any]
) -> tuple[dict[str, str], list[Fault]]:
    """The secrets of a draft: those in its body, and saved ones that stay where they belong."""
    needed = asked.secret_names(row)
    known = secrets.names_of(row, item["endpoints"])
    given = secrets.given(team.call, row, known, item["secrets"], "/secrets")
    values = {name: given[name] for name in needed if name in given}
    missing = [name for name in needed if name not in values]
    if (reference := item.get("secrets_of")) is None:
        return values, [
            Fault("/secrets" + pointer([name]), f"Secret {quoted(name)} is not set.")
            for name in missing
        ]
    kept = await connector(team, reference)
    if missing and (elsewhere := origins(row) - origins(kept)):
        host = min(elsewhere).host
        detail = f"Saved secrets go where their own connector's requests go alone, not to {host}."
        raise ValidationError({"secretsOf": [detail]})
    more, unset = await secrets.opened(team, kept, missing)
    return {**values, **more}, unset


def _asked(request: Mapping[str, Any], own: Sequence[Mapping[str, Any]], at: str) -> Asked:
    """The request with its endpoint and its path; `at` leads the pointers of faults."""
    if (name := request.get("endpoint")) is None:
        if {"path", "body", "body_text"} & request.keys():
            raise _fault(f"{at}/endpoint", "Name the endpoint that this is for.")
        return Asked(request, None, "/")
    found = next((entry for entry in own if name in {entry["name"], str(entry["id"])}), None)
    if found is None:
        raise _fault(f"{at}/endpoint", "The connector has no such endpoint.")
    pattern = parse(found["path"])
    if (path := request.get("path")) is None:
        if pattern.parameters:
            raise _fault(f"{at}/path", f"Say which: the endpoint has {found['path']}.")
        path = found["path"]
    asked = Asked(request, found, path)
    if not asked.fits(pattern):
        raise _fault(f"{at}/path", f"It is none of the endpoint's: {found['path']}.")
    return asked


def _fault(at: str, detail: str) -> Rejected:
    return Rejected("validation_failed", detail, errors=[Fault(at, detail)])


async def _tested(call: Call, trial: Trial) -> web.Response:
    """Carry the test out, within what a team may have of them; a dry run sends nothing."""
    async with ALLOWED.take(call):
        await trial.run(call, send=not call.flag("dryRun"))
    told = trial.told()
    async with writing(call) as write:
        difference = {"upstream": [None, trial.origin], "ok": [None, told["ok"]]}
        write.log("connector.test", trial.row["id"], difference)
    return answer(told)


RESOURCE: Final = Resource(
    "trials",
    "trials",
    (
        Route(
            "POST",
            "/connectors/test",
            "editor",
            draft,
            Operation(
                TRIAL,
                body=DraftTrial,
                example=connectors.EXAMPLE,
                codes=("not_found", "rate_limited", "too_many_concurrent"),
            ),
        ),
        Route(
            "POST",
            "/connectors/{connector}/test",
            "editor",
            saved,
            Operation(
                TRIAL,
                body=TrialRequest,
                body_optional=True,
                example={"endpoint": "find", "path": "/find/berlin"},
                codes=("rate_limited", "too_many_concurrent"),
            ),
        ),
    ),
)
