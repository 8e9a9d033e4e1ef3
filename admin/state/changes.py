"""From what is to what is declared: the changes that lie between, each object with its fields.

Both sides are in the same form, with every default filled in, so that there is no change where
nothing would be another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from admin.differences import is_same, places
from admin.plans import FIRST
from admin.state.document import Connector, Declared, Entry, brief
from gateway.problems import Fault, Rejected

_ENDS: Final = {"connector": "archive", "key": "revoke"}
"""What becomes of an object that goes; others are deleted."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Change(NamedTuple):
    """One object that is not as it is declared; `before` and `after` hold the fields that differ.

    `connector` is that of an endpoint, `prefix` that of a key which is there, `place` a JSON pointer.
    """

    action: str
    kind: str
    name: str
    before: Mapping[str, Any] = _NOTHING
    after: Mapping[str, Any] = _NOTHING
    connector: str = ""
    prefix: str | None = None
    place: str = ""

    def told(self) -> dict[str, Any]:
        """As it is on the wire."""
        document: dict[str, Any] = {"action": self.action, "kind": self.kind, "name": self.name}
        if self.connector:
            document["connector"] = self.connector
        if self.prefix is not None:
            document["keyPrefix"] = self.prefix
        fields = places({**self.before}, {**self.after})
        return {**document, "fields": [place.told() for place in fields]}


class Comparison(NamedTuple):
    """What has to change, and what is there but not declared."""

    changes: list[Change]
    left: list[Change]
    """The ends of what is not declared, which come only when they are asked for."""


def compare(now: Declared, wanted: Declared) -> Comparison:
    """Every change from what a team has to what a document says. Raises Rejected `conflict`."""
    pairs = _keys(now.keys, wanted.keys)
    changes = [
        *_connectors(now.connectors, wanted.connectors),
        *_plans(now.plans, wanted.plans),
        *_of_keys(pairs),
    ]
    kept = {entry.prefix for entry, _ in pairs if entry is not None}
    left = [
        *_left_endpoints(now.connectors, wanted.connectors),
        *(
            _end("key", entry.settings["name"], prefix=entry.prefix)
            for entry in now.keys
            if entry.prefix not in kept
        ),
        *(_end("plan", name) for name in now.plans if name not in {*wanted.plans, FIRST}),
        *(_end("connector", slug) for slug in now.connectors if slug not in wanted.connectors),
    ]
    return Comparison(changes, left)


def _end(kind: str, name: str, **more: Any) -> Change:
    return Change(_ENDS.get(kind, "delete"), kind, name, **more)


def _connectors(now: Mapping[str, Connector], wanted: Mapping[str, Connector]) -> Iterator[Change]:
    for slug, entry in wanted.items():
        there = now.get(slug)
        before = {} if there is None else _said(there)
        after = _said(entry, before)
        yield from _change("connector", slug, before, after, place=entry.place)
        own: Mapping[str, Any] = {} if there is None else there.endpoints
        for at, (name, settings) in enumerate(entry.endpoints.items()):
            place = f"{entry.place}/endpoints/{at}"
            old = own.get(name, {})
            yield from _change("endpoint", name, old, settings, place=place, connector=slug)


def _said(entry: Connector, before: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """A connector's fields; what a document leaves open is as it was `before`."""
    said: dict[str, Any] = {**entry.settings}
    published = before.get("published") if entry.published is None else entry.published
    if published is not None or "published" in before:
        said["published"] = published
    kept = before.get("secrets", {})
    given = {name: value for name, value in entry.secrets.items() if value is not None}
    said["secrets"] = {**kept, **given}
    return said


def _plans(now: Mapping[str, Entry], wanted: Mapping[str, Entry]) -> Iterator[Change]:
    for name, entry in wanted.items():
        there = now.get(name)
        before = {} if there is None else there.settings
        yield from _change("plan", name, before, entry.settings, place=entry.place)


def _of_keys(pairs: Sequence[tuple[Entry | None, Entry]]) -> Iterator[Change]:
    for there, entry in pairs:
        before = {} if there is None else there.settings
        name, prefix = entry.settings["name"], None if there is None else there.prefix
        yield from _change("key", name, before, entry.settings, place=entry.place, prefix=prefix)


def _keys(now: Sequence[Entry], wanted: Sequence[Entry]) -> list[tuple[Entry | None, Entry]]:
    """Keys that belong together: by their prefix where it is given, else by their name.

    Raises Rejected `conflict` where that is not certain.
    """
    prefixes = {entry.prefix: entry for entry in now}
    taken = {entry.prefix for entry in wanted if entry.prefix is not None}
    names: dict[str, list[Entry]] = {}
    for entry in now:
        if entry.prefix not in taken:
            names.setdefault(entry.settings["name"], []).append(entry)
    pairs: list[tuple[Entry | None, Entry]] = []
    faults = []
    for entry in wanted:
        found = names.get(entry.settings["name"], [])
        if entry.prefix is not None:
            if entry.prefix not in prefixes:
                detail = "The team has no such key: leave keyPrefix out to make another one."
                faults.append(Fault(f"{entry.place}/keyPrefix", detail))
            pairs.append((prefixes.get(entry.prefix), entry))
        elif len(found) > 1:
            detail = f"The team has {len(found)} keys of this name: say which by keyPrefix."
            faults.append(Fault(f"{entry.place}/name", detail))
        else:
            pairs.append((found[0] if found else None, entry))
    if faults:
        raise Rejected("conflict", faults[0].detail, errors=faults)
    return pairs


def _left_endpoints(
    now: Mapping[str, Connector], wanted: Mapping[str, Connector]
) -> Iterator[Change]:
    for slug, entry in now.items():
        if slug in wanted:
            for name in entry.endpoints:
                if name not in wanted[slug].endpoints:
                    yield _end("endpoint", name, connector=slug)


def _change(
    kind: str, name: str, before: Mapping[str, Any], after: Mapping[str, Any], **more: Any
) -> Iterator[Change]:
    """The change of one object, if there is any."""
    changed = [field for field in after if not is_same(before.get(field, ...), after[field])]
    if not changed:
        return
    if not before:
        yield Change("create", kind, name, _NOTHING, brief(kind, after), **more)
        return
    then = {field: before[field] for field in changed if field in before}
    yield Change("update", kind, name, then, {field: after[field] for field in changed}, **more)
