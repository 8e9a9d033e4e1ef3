"""Connector templates: one JSON file each, read once, in the order in which they are offered.

`template.schema.json` says what a file may say; the admin API makes connectors from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any

FIRST = ("daydream", "ai-llm", "clickhouse", "gemini", "livepeer-leaderboard")
"""The most important ones; those not named here follow by name."""


class TemplateFault(ValueError):
    """A file that can't be used; the text names it and the place."""


@cache
def all() -> Mapping[str, dict[str, Any]]:  # noqa: A001 - callers say templates.all()
    """Return every template by id; shared, so copy one before changing it."""
    return MappingProxyType(load(files(__name__)))


@cache
def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a template; shared like the templates."""
    return _read(files(__name__).joinpath("template.schema.json"))


def load(folder: Traversable) -> dict[str, dict[str, Any]]:
    """Return the templates of a folder by id. Raises TemplateFault for the first broken file."""
    listed = {file.name for file in folder.iterdir() if not file.name.endswith(".schema.json")}
    names = {name.removesuffix(".json") for name in listed if name.endswith(".json")}
    first = [name for name in FIRST if name in names]
    found = {name: _read(folder / f"{name}.json") for name in [*first, *sorted(names - {*first})]}
    for name, template in found.items():
        if template.get("id") != name:
            raise TemplateFault(f"templates/{name}.json: its id is not the file's name")
    return found


def _read(file: Traversable) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"), object_pairs_hook=_object)
    except json.JSONDecodeError as fault:
        place = f"templates/{file.name}:{fault.lineno}:{fault.colno}"
        raise TemplateFault(f"{place}: {fault.msg}") from fault
    except UnicodeDecodeError as fault:
        raise TemplateFault(f"templates/{file.name}: byte {fault.start} is not UTF-8") from fault
    except TemplateFault as fault:
        raise TemplateFault(f"templates/{file.name}: {fault}") from None
    if not isinstance(content, dict):
        raise TemplateFault(f"templates/{file.name}:1:1: a template is a JSON object")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose members are all there: JSON would keep the last of two silently."""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise TemplateFault(f"{json.dumps(name)} is there twice in one object")
        made[name] = value
    return made
