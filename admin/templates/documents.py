"""Template documents: what makes one valid, and the connector that it stands for.

A document keeps its JSON Schema, declares what it uses and uses what it declares, and makes, with the
examples of its variables, a connector that the admin API takes. Those in the box are checked at start.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, Final

from marshmallow import ValidationError

import templates
from admin import body_schemas, connectors, endpoints, secrets
from admin.problems import faults as faults_in
from admin.shapes import OBJECT, TEXT, record, several
from admin.templates import variables
from gateway.problems import Fault, Rejected
from gateway.transform.rules import compile_schema, pointer
from templates import TemplateFault

_MOST_FAULTS: Final = 20
_SOMEWHERE: Final = "https://upstream.example.com"

TEMPLATE: Final = record(
    "A template: the connector and endpoints that it makes, and what it leaves to be said.",
    may=("category", "icon", "documentationUrl"),
    id=TEXT,
    name=TEXT,
    description=TEXT,
    category=TEXT,
    icon=TEXT,
    documentationUrl=TEXT,
    connector=OBJECT,
    endpoints=several(OBJECT),
    variables=several(OBJECT),
    secrets=several(OBJECT),
)


@cache
def _validator() -> Any:
    return compile_schema(templates.schema())


def check_all(documents: Mapping[str, Any] | None = None) -> None:
    """Raises TemplateFault for the first that is not valid of these, or of those in the box."""
    for name, document in (templates.all() if documents is None else documents).items():
        for fault in faults(document):
            raise TemplateFault(f"templates/{name}.json: {fault.pointer}: {fault.detail}")


def faults(document: Any) -> list[Fault]:
    """What is wrong with a template, each with a pointer into it; not more than twenty faults."""
    against_schema = islice(_validator().iter_errors(document), _MOST_FAULTS)
    found = [Fault(pointer(f.instance_path), str(f.message)) for f in against_schema]
    found = found or list(_declaration_faults(document)) or list(_connector_faults(document))
    return found[:_MOST_FAULTS]


def _declaration_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    for part in ("variables", "secrets"):
        yield from _repeated(part, [entry["name"] for entry in document[part]])
    used = variables.used(_body(document))
    declared = [variable["name"] for variable in document["variables"]]
    for at, variable in enumerate(document["variables"]):
        if variable["name"] not in used:
            yield Fault(f"/variables/{at}", f"Nothing uses the variable {variable['name']}.")
        if (why := variables.pattern_fault(variable)) is not None:
            yield Fault(f"/variables/{at}/pattern", f"This is {why}.")
            continue
        for name in ("example", "default"):
            if name in variable and (why := variables.misfit(variable, variable[name])) is not None:
                yield Fault(f"/variables/{at}/{name}", why)
    for name in used:
        if name not in declared:
            yield Fault("/variables", f"The variable {name} is used and not declared.")


def _repeated(part: str, names: list[str]) -> Iterator[Fault]:
    for at, name in enumerate(names):
        if name in names[:at]:
            yield Fault(f"/{part}/{at}/name", "This name is there twice.")


def _connector_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """What the admin API says to the connector that the examples make."""
    given: dict[str, Any] = {"variables": _examples(document["variables"])}
    if "upstreamBaseUrl" not in document["connector"]:
        given["upstream_base_url"] = _SOMEWHERE
    try:
        item = connectors.CREATE.load(filled(document, given))
        endpoints.check_routes(item["endpoints"], (), "/endpoints")
        body_schemas.check(item["endpoints"], (), item, "/endpoints")
    except ValidationError as error:
        for fault in faults_in(error.messages):
            yield Fault(_place(document, fault.pointer), fault.detail)
        return
    except Rejected as refused:
        yield from refused.errors
        return
    used = secrets.names_of(item, item["endpoints"])
    yield from _secret_faults(document["secrets"], used)


def _examples(declared: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {variable["name"]: variable["example"] for variable in declared}


def _place(document: Mapping[str, Any], inside: str) -> str:
    """Where a template says what the connector that its examples make has at this pointer."""
    _, first, *rest = [*inside.split("/"), ""]
    if first == "variables":
        names = [variable["name"] for variable in document["variables"]]
        return f"/variables/{names.index(rest[0])}/example"
    return inside if first == "endpoints" else f"/connector{inside}"


def _secret_faults(declared: Iterable[Mapping[str, Any]], used: Collection[str]) -> Iterator[Fault]:
    names = [secret["name"] for secret in declared]
    for at, name in enumerate(names):
        if name not in used:
            yield Fault(f"/secrets/{at}", f"Nothing uses the secret {name}.")
    for name in used:
        if name not in names:
            yield Fault("/secrets", f"The secret {name} is used and not declared.")


def filled(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the create that a valid template stands for. Raises ValidationError.

    `given` may have `slug`, `upstream_base_url` and `variables`.
    """
    body = _body(document)
    if "upstream_base_url" in given:
        base_url = given["upstream_base_url"]
        body |= {"upstreamBaseUrl": base_url, "allowedHosts": [], "targets": []}
    elif "upstreamBaseUrl" not in body:
        raise ValidationError({"upstreamBaseUrl": ["This template needs one."]})
    if "slug" in given:
        body["slug"] = given["slug"]
    return variables.put_in(body, document["variables"], given["variables"])


def _body(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document["connector"], "endpoints": document["endpoints"]}


__all__ = ["TEMPLATE", "TemplateFault", "check_all", "faults", "filled"]
