"""A connector as a template document: made a connector again, it is the same one.

Of secrets the document has the names, and the environment variables that references name; no value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiohttp import web

import sql
from admin import connectors, endpoints, secrets
from admin.calls import Call, answer
from admin.fields import Wire
from admin.references import connector
from admin.routes import Operation, Resource, Route
from admin.templates import documents, variables
from gateway.problems import Rejected

_SECRETS: Final = sql.query("secrets.drafted")
_ENDPOINT: Final = endpoints.EndpointSchema()
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {})
_ICON: Final = "🔌"
_REFERENCE: Final = "env:"


async def show(call: Call) -> web.Response:
    """GET: the working copy as a template. 409 when it holds what a template would fill in."""
    row = await connector(call, call.part("connector"))
    own = await endpoints.every(call, row["id"])
    kept = await call.rows(_SECRETS, row["id"])
    references = {
        secret["name"]: reference
        for secret in kept
        if (reference := secret["reference"] or "").startswith(_REFERENCE)
    }
    return answer(template_of(row, own, references))


def template_of(
    row: Mapping[str, Any], own: Iterable[Mapping[str, Any]], references: Mapping[str, str]
) -> dict[str, Any]:
    """The document of a connector, its endpoints, and its secrets' references by name.

    Raises Rejected `conflict`.
    """
    entries = list(own)
    made, routes = _said(connectors.SCHEMA, row), [_said(_ENDPOINT, entry) for entry in entries]
    if names := variables.used({**made, "endpoints": routes}):
        raise Rejected(
            "conflict",
            f"The connector holds {{{{variables.{names[0]}}}}}, which a template would fill in.",
        )
    about = ("description", "category", "documentationUrl")
    return {
        "id": row["slug"],
        "name": row["display_name"],
        "description": row["description"],
        **{name: made[name] for name in about if name in made},
        "icon": _ICON,
        "variables": [],
        "secrets": [_secret(name, references.get(name)) for name in secrets.names_of(row, entries)],
        "connector": made,
        "endpoints": routes,
    }


def _said(schema: Wire, row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a row but for those that say nothing, and would not if they were left out."""
    defaults = {field.data_key: field.load_default for field in schema.load_fields.values()}
    return {
        name: value
        for name, value in schema.settings(row).items()
        if not (value in _EMPTY and value == _default(defaults[name]))
    }


def _default(told: Any) -> Any:
    return told() if callable(told) else told


def _secret(name: str, reference: str | None) -> dict[str, str]:
    """A secret's name; its value stays where it is."""
    said = {"name": name, "description": "To be given when a connector is made of this template."}
    return said if reference is None else {**said, "env": reference.removeprefix(_REFERENCE)}


RESOURCE: Final = Resource(
    "template_export",
    "templates",
    (
        Route(
            "GET",
            "/connectors/{connector}/template",
            "viewer",
            show,
            Operation(documents.TEMPLATE, codes=("conflict",)),
        ),
    ),
)
