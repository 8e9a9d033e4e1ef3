"""Answers held against the API's own description, exactly: what it does not name is not there."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema_rs
import orjson

from admin.api import description
from admin.routes import Route
from tests.admin.client import Answer

DOCUMENT = orjson.loads(description())


def closed(schema: Any) -> Any:
    """The schema with no members but those that it names."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(part) for name, part in schema.items()}
    if "properties" in made and "$ref" not in made and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


CLOSED = closed(copy.deepcopy(DOCUMENT["components"]))


def faults(answer: Answer, route: Route) -> list[str]:
    """Where an answer is not as its route's description says."""
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    if (described := operation["responses"].get(str(answer.status))) is None:
        return [f"the status {answer.status} is not described: {answer.text[:200]}"]
    if "$ref" in described:
        described = DOCUMENT["components"]["responses"][described["$ref"].rpartition("/")[2]]
    found = [name for name in described.get("headers", {}) if name not in answer.headers]
    content = described.get("content", {})
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if content.keys() != ({kind} if kind else set()) and kind not in content:
        return [*found, f"{kind} is not described"]
    if (schema := content.get(kind, {}).get("schema")) is not None:
        whole = {**closed(copy.deepcopy(schema)), "components": CLOSED}
        checked = jsonschema_rs.Draft202012Validator(whole)
        found += [
            f"{error.instance_path}: {error.message}" for error in checked.iter_errors(answer.json)
        ]
    return found
