"""Schemas that are much work: to check deep bodies against, or as they all refer to each other."""

from __future__ import annotations

from typing import Any

NODE = {"$ref": "#/$defs/n"}
RECURSIVE = {
    **NODE,
    "$defs": {
        "n": {
            "anyOf": [
                {"type": "array", "items": NODE},
                {
                    "type": "array",
                    "prefixItems": [NODE],
                    "items": NODE,
                    "contains": {"type": "string"},
                },
                {"type": "integer"},
            ]
        }
    },
}
"""Each level of a body is checked twice as often as the one above."""


def ladder(steps: int) -> dict[str, Any]:
    """The same without a circle, for so many levels."""
    defs: dict[str, Any] = {f"n{steps}": {"type": "integer"}}
    for at in range(steps):
        below = {"$ref": f"#/$defs/n{at + 1}"}
        defs[f"n{at}"] = {"oneOf": [{"items": below}, {"minItems": 1, "items": below}]}
    return {"$ref": "#/$defs/n0", "$defs": defs}


def nested(levels: int) -> bytes:
    """Lists in each other, and a text in the last."""
    return b"[" * levels + b'"x"' + b"]" * levels


SCHEMAS, MEMBERS, OPERATIONS = 60, 40, 499


def _reference(at: int) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/S{at % SCHEMAS}"}


CIRCLE: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Circle", "version": "1"},
    "servers": [{"url": "https://circle.example.com"}],
    "components": {
        "schemas": {
            f"S{at}": {
                "type": "object",
                "properties": {f"x{to}": _reference(at + to) for to in range(MEMBERS)},
            }
            for at in range(SCHEMAS)
        }
    },
    "paths": {
        f"/a{at}": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _reference(at)}},
                }
            }
        }
        for at in range(OPERATIONS)
    },
}
"""A document of OpenAPI whose schemas refer to each other, each with an operation or several."""
