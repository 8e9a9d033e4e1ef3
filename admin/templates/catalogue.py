"""Connector templates: which there are, and connectors made from them, one or several at once.

What a template makes goes through the same schema and code as a connector that is created by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields, missing, validates_schema

import templates
from admin import connectors, publishing, secrets
from admin.access import allows
from admin.calls import Call, answer
from admin.fields import Pairs, Place, Switch, Wire, camel, text, texts
from admin.problems import rejection
from admin.references import unknown
from admin.routes import Operation, Resource, Route, shows
from admin.shapes import COUNT, OBJECT, TEXT, perhaps, record, several
from admin.targets import origins
from admin.templates import documents
from admin.writes import writing
from gateway import problems
from gateway.database import DatabaseAway
from gateway.problems import Fault, Rejected

_WAYS: Final = ("template_id", "template_ids", "template")
_OF_ONE: Final = ("upstream_base_url", "slug", "variables", "secrets")
_MOST_AT_ONCE: Final = 50
_MULTI_STATUS: Final = 207


class Instantiation(Wire):
    """Which template or templates, and what one leaves to be said. `publish` null: if it can be."""

    template_id = text(64)
    template_ids = texts(text(64), _MOST_AT_ONCE, load_default=missing)
    template = fields.Dict()
    upstream_base_url = connectors.base_url_field()
    slug = connectors.slug_field()
    variables = Pairs(keys=text(64), values=text(1024), load_default=dict)
    secrets = secrets.values(load_default=dict)
    publish = Switch(load_default=None)

    @validates_schema
    def _one_way(self, given: Mapping[str, Any], **_: Any) -> None:
        ways = [camel(name) for name in _WAYS if name in given]
        if not ways:
            detail = "One of templateId, templateIds and template is needed."
            raise ValidationError({"templateId": [detail]})
        if len(ways) > 1:
            raise ValidationError({ways[1]: [f"Not together with {ways[0]}."]})
        if "template_ids" in given:
            _check_several(given)


def _check_several(given: Mapping[str, Any]) -> None:
    """Raises ValidationError for what can't be meant for several templates at once."""
    if not given["template_ids"]:
        raise ValidationError({"templateIds": ["At least one is needed."]})
    if own := [camel(name) for name in _OF_ONE if given.get(name)]:
        detail = "This is for one template: not together with templateIds."
        raise ValidationError({name: [detail] for name in own})


class ConnectorFromTemplate(connectors.ConnectorSchema):
    """A connector, and what kept it from being published."""

    publish_faults = fields.List(fields.Nested(Place), dump_only=True)


class Result(Wire):
    """What became of one of several templates: its connector, or the problem."""

    template_id = fields.String(required=True)
    status = fields.Integer(required=True)
    connector = fields.Dict()
    problem = fields.Dict()


class Results(Wire):
    """One result for each template, in the order in which they were named."""

    items = fields.List(fields.Nested(Result), required=True)


TEMPLATE_IN_SHORT: Final = record(
    "A template without its connector and endpoints.",
    id=TEXT,
    name=TEXT,
    description=TEXT,
    category=perhaps(TEXT),
    icon=perhaps(TEXT),
    documentationUrl=perhaps(TEXT),
    slug=TEXT,
    authType=TEXT,
    upstreamBaseUrl=perhaps(TEXT),
    variables=several(OBJECT),
    secrets=several(OBJECT),
    endpointCount=COUNT,
)
_SCHEMA: Final = Instantiation()


async def index(call: Call) -> web.Response:
    """GET: every template, in short."""
    items = [_short(template) for template in templates.all().values()]
    return answer({"items": items, "nextCursor": None})


def _short(template: Mapping[str, Any]) -> dict[str, Any]:
    connector = template["connector"]
    names = ("id", "name", "description", "category", "icon", "documentationUrl")
    return {
        **{name: template.get(name) for name in names},
        "slug": connector["slug"],
        "authType": connector.get("authType", "none"),
        "upstreamBaseUrl": connector.get("upstreamBaseUrl"),
        "variables": template["variables"],
        "secrets": template["secrets"],
        "endpointCount": len(template["endpoints"]),
    }


async def show(call: Call) -> web.Response:
    """GET: one template, whole."""
    if (template := templates.all().get(call.part("template"))) is None:
        raise unknown("template")
    return answer(template)


async def create(call: Call) -> web.Response:
    """POST: a connector from a template; published when it can be and nothing else is asked for.

    Of several templates each has its own result, and one that fails leaves the others be.
    """
    given = _SCHEMA.load(await call.body())
    if given["secrets"]:
        call.require("admin", "Setting secrets")
    if "template_ids" in given:
        made = [await _result(call, name, given) for name in given["template_ids"]]
        return answer({"items": made}, status=_MULTI_STATUS)
    row, told = await _make(call, _template(given), given)
    location = f"connectors/{row['id']}"
    return connectors.shown(row, status=201, location=location, publishFaults=told)


async def _result(call: Call, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What became of one of several templates."""
    try:
        row, told = await _make(call, _template({"template_id": name}), given)
    except (Rejected, ValidationError, DatabaseAway) as error:
        rejected = rejection(error)
        problem = problems.document(rejected, call.request_id)
        return {"templateId": name, "status": rejected.status, "problem": problem}
    connector = {**connectors.SCHEMA.dump(row), "publishFaults": told}
    return {"templateId": name, "status": 201, "connector": connector}


def _template(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The document that is given or named. Raises ValidationError, or Rejected with its faults."""
    if (document := given.get("template")) is not None:
        if found := documents.faults(document):
            errors = [Fault(f"/template{fault.pointer}", fault.detail) for fault in found]
            raise Rejected("validation_failed", "The template is not valid.", errors=errors)
        return dict(document)
    if (document := templates.all().get(given["template_id"])) is None:
        raise ValidationError({"templateId": ["There is no such template."]})
    return document


async def _make(
    call: Call, template: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The row of a new connector, and what keeps it from being published."""
    item = await asyncio.to_thread(connectors.CREATE.load, documents.filled(template, given))
    item["secrets"] = {**_references(call, template, given, item), **given["secrets"]}
    faults: list[Fault] = []
    async with writing(call) as write:
        row = await connectors.make(write, item)
        if given["publish"] is not False:
            snapshot, faults = await publishing.checked(write, row)
            if faults and given["publish"]:
                raise publishing.refused(faults)
            if not faults:
                row = await publishing.release(write, row, snapshot)
    return row, [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults]


def _references(
    call: Call, template: Mapping[str, Any], given: Mapping[str, Any], item: Mapping[str, Any]
) -> dict[str, str]:
    """Secrets from the gateway's environment, where the operator lets the connector's hosts have them.

    A template of the caller's own may ask for any of them, as who sets secrets may.
    """
    if "template" in given and not allows(call.role, "admin"):
        return {}
    own = origins(item)
    named = {
        entry["name"]: f"env:{entry['env']}" for entry in template["secrets"] if "env" in entry
    }
    permits = call.control.vault.permits
    return {
        name: value
        for name, value in named.items()
        if all(permits(value, call.team, origin) for origin in own)
    }


RESOURCE: Final = Resource(
    "templates",
    "templates",
    (
        Route("GET", "/templates", "viewer", index, Operation(TEMPLATE_IN_SHORT, many=True)),
        Route(
            "POST",
            "/templates",
            "editor",
            create,
            Operation(
                ConnectorFromTemplate,
                201,
                body=Instantiation,
                etag=True,
                example={"templateId": "daydream"},
                about="Several templates at once have each their result, in an answer 207.",
                also=((_MULTI_STATUS, Results),),
            ),
        ),
        Route(
            "GET",
            "/templates/{template}",
            "viewer",
            show,
            shows(documents.TEMPLATE, etag=False),
        ),
    ),
)
