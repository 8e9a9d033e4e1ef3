"""The words for JSON Schemas of answers that no marshmallow schema makes."""

from __future__ import annotations

from typing import Any, Final

Shape = dict[str, Any]

TEXT: Final[Shape] = {"type": "string"}
NUMBER: Final[Shape] = {"type": "number"}
COUNT: Final[Shape] = {"type": "integer"}
SWITCH: Final[Shape] = {"type": "boolean"}
ANYTHING: Final[Shape] = {"description": "Whatever it is."}
OBJECT: Final[Shape] = {"type": "object"}


def record(about: str = "", may: tuple[str, ...] = (), **members: Shape) -> Shape:
    """An object that has these members; those in `may` can be missing."""
    made: Shape = {
        "type": "object",
        "required": [name for name in members if name not in may],
        "properties": members,
    }
    return {**made, "description": about} if about else made


def several(of: Shape, about: str = "") -> Shape:
    """A list."""
    return {"type": "array", "items": of, **({"description": about} if about else {})}


def perhaps(of: Shape) -> Shape:
    """This, or null."""
    return (
        {"anyOf": [of, {"type": "null"}]}
        if "properties" in of
        else {**of, "type": [of["type"], "null"]}
    )
