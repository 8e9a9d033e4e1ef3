"""The files that declare a team's state: read, put together, and found again for each fault.

A folder's files make one document, in the order of their names; JSON is YAML.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from gateway import yamls
from gateway.options import OptionFaults, Spot

STDIN: Final = Path("-")
_NAMES: Final = {"connectors": ("slug",), "plans": ("name",), "keys": ("keyPrefix", "name")}
"""The lists of a document, and the members that name what is in them."""
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


class StateFiles:
    """One document made of some files. Raises OptionFaults with every place that is wrong."""

    def __init__(self, path: Path) -> None:
        self._places: dict[str, list[tuple[str, int]]] = {kind: [] for kind in _NAMES}
        self._spots: list[Spot] = []
        self._origins: dict[str, str] = {}
        self.document: dict[str, Any] = {}
        for file in _files(path):
            self._add(str(file), _parsed(file))
        if self._spots:
            raise OptionFaults(self._spots)

    @property
    def declares_something(self) -> bool:
        """False for a document without an object."""
        return any(self.document.get(kind) for kind in _NAMES)

    def place(self, pointer: str) -> str:
        """Where a JSON pointer into the whole document leads in the files."""
        _, kind, *rest = [*pointer.split("/"), ""]
        if kind in self._places and rest[0].isdecimal() and int(rest[0]) < len(self._places[kind]):
            file, at = self._places[kind][int(rest[0])]
            return f"{file}: " + "/".join(["", kind, str(at), *rest[1:-1]])
        return f"{self._origins.get(kind, 'the document')}: {pointer or '/'}"

    def _add(self, file: str, document: dict[str, Any]) -> None:
        for name, value in document.items():
            if name in _NAMES and isinstance(value, list):
                self._add_list(file, name, value)
            elif self.document.setdefault(name, value) != value:
                detail = f"{self._origins[name]} says something else"
                self._spots.append(Spot(f"{file}: /{name}", detail))
            self._origins.setdefault(name, file)

    def _add_list(self, file: str, kind: str, entries: Sequence[Any]) -> None:
        whole = self.document.setdefault(kind, [])
        if not isinstance(whole, list):
            self._spots.append(Spot(f"{self._origins[kind]}: /{kind}", "not a list"))
            return
        names = [_name(kind, entry) for entry in whole]
        for at, entry in enumerate(entries):
            if (name := _name(kind, entry)) is not None and name in names:
                other, index = self._places[kind][names.index(name)]
                detail = f"{name} is in {other}, too (/{kind}/{index})"
                self._spots.append(Spot(f"{file}: /{kind}/{at}", detail))
            names.append(name)
            whole.append(entry)
            self._places[kind].append((file, at))


def _name(kind: str, entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return None
    found = (entry.get(member) for member in _NAMES[kind])
    return next((name for name in found if isinstance(name, str)), None)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix in _SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise OptionFaults([Spot(str(path), "has no *.yaml, *.yml or *.json")])
    return files


def _parsed(file: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if file == STDIN else file.read_text("utf-8")
        document = yamls.parse(text)
    except OSError as error:
        raise OptionFaults([Spot(str(file), error.strerror or "can't be read")]) from None
    except UnicodeDecodeError:
        raise OptionFaults([Spot(str(file), "is not UTF-8")]) from None
    except yamls.NotYaml as fault:
        raise OptionFaults([Spot(str(file), f"is not YAML: {fault}")]) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise OptionFaults([Spot(str(file), "is no object with connectors, plans or keys")])
    return document
