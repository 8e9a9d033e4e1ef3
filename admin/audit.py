"""The audit log: what changed, by whom, through which request; written with the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CHANGED: Final = "changed"
"""What the log says of a secret."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One act on one object; `action` begins with the object's type (`connector.create`)."""

    action: str
    object_id: str
    difference: Mapping[str, Any]

    @property
    def object_type(self) -> str:
        """What kind of object it is."""
        return self.action.partition(".")[0]


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Each field that is not the same, with its value before and after."""
    names = dict.fromkeys((*before, *after))
    pairs = {name: [before.get(name), after.get(name)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
