"""The configuration: one YAML file, with environment and file references, as frozen settings.

Every fault is listed with its path in the file; nothing starts until there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway import yamls
from gateway.options import OptionFaults, Spot, load
from gateway.pipeline import plan
from gateway.settings import DEFAULT_PIPELINE, Settings

_REFERENCE: Final = re.compile(
    r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?)\}"
)


class Unreadable(OptionFaults):
    """The file is not there or not YAML."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__([Spot(str(path), why)])


def read(path: Path | None, environ: Mapping[str, str]) -> tuple[Settings, set[str]]:
    """The settings, and the paths of those that the file gives. Raises OptionFaults.

    Without a file everything has its default.
    """
    given = {} if path is None else _document(path)
    spots: list[Spot] = []
    resolved = _resolve(given, "", environ, spots)
    try:
        settings = load(Settings, resolved)
    except OptionFaults as faults:
        spots += faults.spots
    spots += _pipeline_faults(resolved)
    if spots:
        raise OptionFaults(spots)
    return settings, set(_paths(given, ""))


def _pipeline_faults(resolved: Any) -> list[Spot]:
    """What is wrong with the filters and their order, so that all faults are told at once."""
    entries = resolved.get("pipeline", DEFAULT_PIPELINE) if isinstance(resolved, dict) else None
    if not isinstance(entries, (list, tuple)):
        return [Spot("pipeline", "not a list")] if isinstance(resolved, dict) else []
    try:
        plan(entries)
    except OptionFaults as faults:
        return faults.spots
    return []


def _document(path: Path) -> Any:
    try:
        document = yamls.parse(path.read_text("utf-8"))
    except OSError as error:
        raise Unreadable(path, error.strerror or "can't be read") from None
    except UnicodeDecodeError:
        raise Unreadable(path, "is not UTF-8") from None
    except yamls.NotYaml as fault:
        raise Unreadable(path, f"is not YAML: {fault}") from None
    return {} if document is None else document


def _resolve(value: Any, path: str, environ: Mapping[str, str], spots: list[Spot]) -> Any:
    """The document with `${NAME}`, `${NAME:-default}` and `${file:/path}` replaced."""
    if isinstance(value, dict):
        return {
            key: _resolve(inner, f"{path}.{key}" if path else str(key), environ, spots)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_resolve(v, f"{path}[{i}]", environ, spots) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if (file := match["file"]) is not None:
            try:
                return Path(file).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                spots.append(Spot(path, f"the file {file} can't be read"))
                return ""
        found = environ.get(match["name"])
        if match["default"] is not None:
            return found or str(match["default"])  # as in a shell, for an empty one too
        if found is None:
            spots.append(Spot(path, f"the environment variable {match['name']} is not set"))
        return found or ""

    if "${" in _REFERENCE.sub("", value):
        spots.append(Spot(path, "a reference is ${NAME}, ${NAME:-default} or ${file:/path}"))
    return _REFERENCE.sub(replace, value)


def _paths(value: Any, path: str) -> list[str]:
    if isinstance(value, dict) and value:
        return [
            p for key, v in value.items() for p in _paths(v, f"{path}.{key}" if path else str(key))
        ]
    return [path] if path else []
