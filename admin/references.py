"""From what a request names, an id or a slug, to the team's own rows.

Another team's object is answered exactly like one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import sql
from admin.calls import TeamRows
from admin.fields import is_id
from admin.writes import Write
from gateway.problems import Fault, Rejected

_CONNECTOR: Final = sql.query("connectors.one")
_LOCK: Final = sql.query("connectors.lock")
_MANY: Final = sql.query("connectors.named")
_NOBODY: Final = UUID(int=0)


def unknown(what: str) -> Rejected:
    """The one answer for what is not there and what is another team's."""
    return Rejected("not_found", f"There is no such {what}.")


def object_id(reference: str, what: str) -> UUID:
    """The id in a path. Raises Rejected `not_found` for what can't be one."""
    if not is_id(reference):
        raise unknown(what)
    return UUID(reference)


async def connector(team: TeamRows, reference: str) -> dict[str, Any]:
    """A connector by id or slug, its definition's fields among its own. Raises Rejected."""
    row = await team.row(_CONNECTOR, *_id_and_slug(reference))
    if row is None:
        raise unknown("connector")
    return flat(row)


async def locked_connector(write: Write, reference: str) -> dict[str, Any]:
    """A connector that nobody else changes, nor its endpoints, until this write is over."""
    row = await write.row(_LOCK, *_id_and_slug(reference))
    if row is None:
        raise unknown("connector")
    return await connector(write, str(row["id"]))


async def editable_connector(write: Write, reference: str) -> dict[str, Any]:
    """A locked connector that may be changed. Raises Rejected `conflict` for an archived one."""
    row = await locked_connector(write, reference)
    if row["status"] == "archived":
        raise Rejected("conflict", "The connector is archived: restore it first.")
    return row


async def connector_ids(team: TeamRows, given: Sequence[tuple[str, str]]) -> list[UUID]:
    """The ids of connectors that a body names by id or slug, each with its pointer.

    Raises Rejected `validation_failed` with a fault for each that the team does not have.
    """
    if not given:
        return []
    names = [name for _, name in given]
    ids = [UUID(name) for name in names if is_id(name)]
    slugs = [name for name in names if not is_id(name)]
    found: dict[str, UUID] = {}
    for row in await team.rows(_MANY, ids, slugs):
        found[str(row["id"])] = row["id"]
        if row["status"] != "archived":
            found[row["slug"]] = row["id"]
    faults = [
        Fault(pointer, "The team has no such connector.")
        for pointer, name in given
        if canonical(name) not in found
    ]
    if faults:
        raise Rejected("validation_failed", faults[0].detail, errors=faults)
    return list(dict.fromkeys(found[canonical(name)] for name in names))


def canonical(name: str) -> str:
    """A name as it is stored: an id in lower case."""
    return name.lower() if is_id(name) else name


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the fields of its jsonb `definition` among its columns."""
    columns = dict(row)
    return {**columns.pop("definition"), **columns}


def _id_and_slug(reference: str) -> tuple[UUID, str]:
    if is_id(reference):
        return UUID(reference), ""
    return _NOBODY, reference
