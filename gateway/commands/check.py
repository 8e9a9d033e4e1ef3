"""The command `check`: the effective pipeline and every setting, in YAML, and where each is from.

Values of secrets are not shown, only that they are given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence, Set
from typing import Any, Final

from gateway import yamls
from gateway.pipeline import Stage
from gateway.settings import Settings

_SHARED: Final = {
    False: (
        "# admin.listen is not set: connectors answer at the origin of the admin UI. So none of them may drop",
        "# the sandbox or pass cookies; with a listener of its own for the admin plane, which is better, they may.",
    ),
    True: (
        "# admin.share_origin is on and admin.listen is not set: an editor's connector with sandboxResponses: false",
        "# or passCookies can act as whoever is signed in to the admin UI. Set admin.listen instead.",
    ),
}
"""What is said of a listener that both planes share, by whether connectors are trusted there."""


def lines(settings: Settings, stages: Sequence[Stage], from_file: Set[str]) -> Iterator[str]:
    """What the command prints; `from_file` are the paths that the configuration file gives."""
    yield "pipeline:"
    for stage in stages:
        options = _fields(stage.options)
        yield f"  - {stage.name}{':' if options else ''}"
        for name, value in options:
            yield f"      {name}: {value}"
    for section in dataclasses.fields(settings):
        if section.name == "pipeline":
            continue
        for path, value in _fields(getattr(settings, section.name), f"{section.name}."):
            source = "file" if any(p.startswith(path) for p in from_file) else "default"
            yield f"{path}: {value}  ({source})"
    if settings.admin.listen is None:
        yield from _SHARED[settings.admin.share_origin]


def _fields(record: Any, prefix: str = "") -> list[tuple[str, str]]:
    """The settings of a record and of the sections in it, each with its value as YAML."""
    found = []
    for field in dataclasses.fields(record):
        path, value = f"{prefix}{field.name}", getattr(record, field.name)
        if "section" in field.metadata:
            found += _fields(value, f"{path}.")
        elif "entries" in field.metadata and _holds_secrets(field.metadata["entries"]):
            found.append((path, f"{len(value)} given"))
        elif not field.repr and value is not None:
            found.append((path, "given"))
        else:
            found.append((path, yamls.line(_plain(value))))
    return found


def _holds_secrets(entry: type[Any]) -> bool:
    return any(not field.repr for field in dataclasses.fields(entry))


def _plain(value: Any) -> Any:
    """A checked value as a document would have it; of an entry, what is not the default."""
    if dataclasses.is_dataclass(value):
        given = {f.name: (getattr(value, f.name), f.default) for f in dataclasses.fields(value)}
        value = {name: own for name, (own, default) in given.items() if own != default}
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if value is None or isinstance(value, (int, float, str)) else str(value)
