"""Snapshots of connectors: what a publish freezes, how it is told again, and how two differ.

Callers get the endpoints that are enabled; the others are kept beside them, so that a version holds
all of a working copy and can become one again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from admin import connectors, endpoints
from admin.differences import ABSENT, Difference, is_same, places
from admin.fields import camel

_NAMED: Final = 4
"""How many names a summary tells of each kind."""

Snapshot = Mapping[str, Any]


class Copy(NamedTuple):
    """A connector and its endpoints in the wire's terms; each endpoint with its `id`."""

    connector: dict[str, Any]
    endpoints: list[dict[str, Any]]


def freeze(row: Mapping[str, Any], own: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The snapshot of a connector and its endpoints."""
    frozen: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for entry in own:
        frozen[entry["enabled"]].append(
            {
                "id": str(entry["id"]),
                "name": entry["name"],
                "method": entry["method"],
                "path": entry["path"],
                "definition": endpoints.stored(entry)["definition"],
            }
        )
    stored = connectors.stored(row)
    return {"id": str(row["id"]), **stored, "endpoints": frozen[True], "disabled": frozen[False]}


def endpoint_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The endpoints of a snapshot as rows, the definition's fields among their own."""
    kinds = ((True, snapshot["endpoints"]), (False, snapshot.get("disabled", ())))
    return [
        {**entry["definition"], **entry, "enabled": enabled}
        for enabled, entries in kinds
        for entry in entries
    ]


def connector_row(snapshot: Snapshot) -> dict[str, Any]:
    """The connector of a snapshot as a row, the definition's fields among its own."""
    columns = {
        "slug": snapshot["slug"],
        "display_name": snapshot.get("display_name", snapshot["slug"]),
        "tags": snapshot.get("tags", []),
    }
    return {**snapshot["definition"], **columns}


def copy_of(row: Mapping[str, Any], own: Iterable[Mapping[str, Any]]) -> Copy:
    """Rows in the wire's terms."""
    told = [{"id": str(entry["id"]), **endpoints.SCHEMA.settings(entry)} for entry in own]
    return Copy(connectors.SCHEMA.settings(row), told)


def thawed(snapshot: Snapshot) -> Copy:
    """A snapshot in the wire's terms."""
    return copy_of(connector_row(snapshot), endpoint_rows(snapshot))


def differences(before: Copy, after: Copy) -> Iterator[Difference]:
    """Every place that is not the same, the connector's settings first.

    Endpoints belong together by their ids, else by their names; a path has the earlier name.
    """
    yield from places(before.connector, after.connector)
    for old, new in _pairs(before.endpoints, after.endpoints):
        path = ("endpoints", (old or new or {})["name"])
        yield from places(ABSENT if old is None else old, ABSENT if new is None else new, path)


def _pairs(
    before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    """Endpoints that belong together; None where one of them is missing."""
    kept = {entry["id"] for entry in before} & {entry["id"] for entry in after}
    ids = {entry["id"]: entry for entry in after}
    names = {entry["name"]: entry for entry in after if entry["id"] not in kept}
    for old in before:
        new = ids[old["id"]] if old["id"] in kept else names.pop(old["name"], None)
        yield old, new
    for new in names.values():
        yield None, new


def summary(before: Snapshot | None, after: Snapshot, secrets: Sequence[str] = ()) -> str:
    """What has changed, in a line for people; of secrets their names."""
    if before is None:
        return "The first version."
    old_row, new_row = connector_row(before), connector_row(after)
    names = dict.fromkeys((*old_row, *new_row))
    changed = [camel(n) for n in names if not is_same(old_row.get(n), new_row.get(n))]
    parts = [f"changed {_listed(changed)}"] if changed else []
    kinds: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
    for old, new in _pairs(endpoint_rows(before), endpoint_rows(after)):
        if old is None or new is None:
            kinds["added" if old is None else "removed"].append((old or new or {})["name"])
        elif not is_same(old, new):
            kinds["changed"].append(old["name"])
    parts += [f"{kind} {_endpoints(names)}" for kind, names in kinds.items() if names]
    parts += [f"new values for {_listed([*secrets])}"] if secrets else []
    line = "; ".join(parts) or "nothing has changed"
    return f"{line[0].upper()}{line[1:]}."


def _endpoints(names: list[str]) -> str:
    return f"endpoint{'s' if len(names) > 1 else ''} {_listed(names)}"


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
