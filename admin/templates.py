"""Connector templates: which there are, and connectors made from them.

What a template makes goes through the same schema and code as a connector that is created by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError

import templates
from admin import connectors, hosts, publishing, secrets
from admin.calls import Call, answer
from admin.fields import Pairs, Switch, Wire, text
from admin.references import unknown
from admin.writes import writing
from gateway.problems import Fault

_VARIABLE: Final = re.compile(r"\{\{\s*variables\.([A-Za-z][A-Za-z0-9_]*)\s*\}\}")


class Instantiation(Wire):
    """Which template, and what it leaves to be said. `publish` null: if nothing is missing."""

    template_id = text(64, required=True)
    upstream_base_url = connectors.base_url_field()
    slug = connectors.slug_field()
    variables = Pairs(keys=text(64), values=text(1024), load_default=dict)
    secrets = secrets.values(load_default=dict)
    publish = Switch(load_default=None)


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
    """POST: a connector from a template; published when it can be and nothing else is asked for."""
    given = _SCHEMA.load(await call.body())
    if given["secrets"]:
        call.require("admin", "Setting secrets")
    if (template := templates.all().get(given["template_id"])) is None:
        raise ValidationError({"templateId": ["There is no such template."]})
    item = connectors.CREATE.load(filled(template, given))
    item["secrets"] = {**_references(call, template, item), **given["secrets"]}
    faults: list[Fault] = []
    async with writing(call) as write:
        row = await connectors.make(write, item)
        if given["publish"] is not False:
            snapshot, faults = await publishing.checked(write, row)
            if faults and given["publish"]:
                raise publishing.refused(faults)
            if not faults:
                row = await publishing.release(write, row, snapshot)
    told = [{"pointer": fault.pointer, "detail": fault.detail} for fault in faults]
    location = f"connectors/{row['id']}"
    return connectors.shown(row, status=201, location=location, publishFaults=told)


def filled(template: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the create that a template stands for. Raises ValidationError."""
    body = {**template["connector"], "endpoints": template["endpoints"]}
    if "upstream_base_url" in given:
        base_url = given["upstream_base_url"]
        body |= {"upstreamBaseUrl": base_url, "allowedHosts": [], "targets": []}
    elif "upstreamBaseUrl" not in body:
        raise ValidationError({"upstreamBaseUrl": ["This template needs one."]})
    if "slug" in given:
        body["slug"] = given["slug"]
    return _with_variables(body, template["variables"], given["variables"])


def _with_variables(
    body: Mapping[str, Any], declared: Iterable[Mapping[str, Any]], given: Mapping[str, str]
) -> dict[str, Any]:
    """The body with the values of its variables; what is given but not declared is a fault."""
    known = {variable["name"]: variable for variable in declared}
    faults = {name: "The template has no such variable." for name in given if name not in known}

    def put_in(content: str) -> str:
        return _VARIABLE.sub(lambda match: value(known[match.group(1)]), content)

    def value(variable: Mapping[str, Any]) -> str:
        name, pattern = variable["name"], variable["pattern"]
        if (chosen := given.get(name, variable.get("default"))) is None:
            faults[name] = f"Needed: {variable['description']}"
        elif not re.fullmatch(pattern, chosen):
            faults[name] = f"It must match {pattern}, as {variable['example']} does."
        return chosen or ""

    filled = {
        **body,
        "upstreamBaseUrl": put_in(body["upstreamBaseUrl"]),
        "allowedHosts": [put_in(host) for host in body.get("allowedHosts", ())],
        "endpoints": [
            {**entry, "upstreamPath": put_in(path)}
            if (path := entry.get("upstreamPath"))
            else entry
            for entry in body["endpoints"]
        ],
    }
    if faults:
        raise ValidationError({"variables": {name: [text] for name, text in faults.items()}})
    return filled


def _references(call: Call, template: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, str]:
    """Secrets from the gateway's environment, where the operator lets the connector's host have them."""
    host = hosts.host(item["upstream_base_url"])
    named = {
        entry["name"]: f"env:{entry['env']}" for entry in template["secrets"] if "env" in entry
    }
    vault = call.control.vault
    return {name: value for name, value in named.items() if vault.permits(value, host)}
