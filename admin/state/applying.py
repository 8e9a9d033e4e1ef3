"""Applying a document: everything that it says becomes so, in one transaction, or nothing does.

Objects are written by the functions that write them for every other call, so that what is refused
there is refused here, with a pointer into the document.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError

import sql
from admin import body_schemas, connectors, endpoints, keys, plans, publishing, secrets, versions
from admin.allowances import Allowance
from admin.calls import Call, answer, stale
from admin.problems import rejection
from admin.references import editable_connector
from admin.routes import Operation, Resource, Route
from admin.shapes import COUNT, OBJECT, TEXT, record, several
from admin.state.changes import Change, compare
from admin.state.document import (
    CONNECTOR,
    ENDPOINT,
    PLAN,
    Connector,
    Declared,
    Document,
    fault,
    load,
)
from admin.state.exporting import KEY, PLANS, State, applied, read, slugs_of
from admin.writes import Write, writing
from gateway.ids import uuid7
from gateway.problems import Fault, Rejected

ALLOWED: Final = Allowance("applications of documents", 120, 8)
_LOCK: Final = sql.query("state.lock")
_REMEMBER: Final = sql.query("state.remember")
_TOUCH: Final = sql.query("connectors.touch")
_WHOLE: Final = "*"
"""What the audit log calls the whole team."""
_IN_A_KEY: Final = {"connectors": "connectorIds", "plan": "planId"}
"""What a key's own schema calls otherwise than the document."""

APPLIED: Final = record(
    revision={**COUNT, "description": "The one that is in force; 0: none is."},
    digest={**TEXT, "description": "SHA-256 of the state as it is now."},
    changes=several(OBJECT, "Each object that was not as the document says."),
    left=several(OBJECT, "What `prune` would end: it is not in the document."),
    keys=several(OBJECT, "New keys with their values, `key`, told this once."),
)


async def apply(call: Call) -> web.Response:
    """POST: make the team's connectors, plans and keys what a document says, all or nothing.

    What isn't in it stays, unless `prune` is true. `force` takes a revision that is not the next.
    """
    async with ALLOWED.take(call):
        return await _applied(call, await call.document())


async def _applied(call: Call, given: Mapping[str, Any]) -> web.Response:
    prune, force = call.flag("prune"), call.flag("force")
    wanted = await asyncio.to_thread(load, given, await slugs_of(call))
    async with writing(call) as write:
        await write.row(_LOCK)
        state = await read(write, wanted.tag)
        digest = state.digest
        call.expect(digest)
        before = await applied(write, wanted.tag)
        if force:
            state = await read(write, wanted.tag, wanted.connectors)
        else:
            _check_revision(wanted, before)
            _check_owned(state, wanted)
        found = await asyncio.to_thread(compare, state.declared, wanted)
        ends = found.left if prune else []
        new_keys = await _Application(write, state, wanted).run(found.changes, ends)
        changes = [*found.changes, *ends]
        revision = await _remember(write, wanted, before, len(changes))
        if not call.flag("dryRun"):
            digest = (await read(write, wanted.tag)).digest
    document = {
        "revision": revision,
        "digest": digest,
        "changes": await asyncio.to_thread(_told, changes),
        "left": await asyncio.to_thread(_told, [] if prune else found.left),
        "keys": [] if call.flag("dryRun") else new_keys,
    }
    return answer(document, version=digest)


def _endpoints(entry: Connector) -> list[dict[str, Any]]:
    return [ENDPOINT.load(settings) for settings in entry.endpoints.values()]


def _told(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [change.told() for change in changes]


def _check_revision(wanted: Declared, before: tuple[int, str]) -> None:
    """Raises Rejected `conflict` for a document that is older than the last, or another of its age."""
    revision, digest = before
    if wanted.revision is None or wanted.revision > revision:
        return
    if wanted.revision < revision:
        detail = f"Revision {revision} has been applied, which is newer than {wanted.revision}."
        raise fault("/revision", detail)
    if wanted.digest() != digest:
        detail = f"Revision {revision} has been applied and said something else: raise it."
        raise fault("/revision", detail)


def _check_owned(state: State, wanted: Declared) -> None:
    """Raises Rejected `conflict` for a connector that is there without the document's tag."""
    others = set(state.slugs.values()) - state.connectors.keys()
    faults = [
        Fault(f"{entry.place}/slug", f"The team has this connector without the tag {wanted.tag}.")
        for slug, entry in wanted.connectors.items()
        if slug in others
    ]
    if faults:
        raise Rejected("conflict", faults[0].detail, errors=faults)


async def _remember(write: Write, wanted: Declared, before: tuple[int, str], count: int) -> int:
    """Keep the document's revision, if it has one; answers the one that is in force."""
    now = before if wanted.revision is None else (wanted.revision, wanted.digest())
    if now != before:
        await write.run(_REMEMBER, wanted.tag, *now, write.call.identity.user)
    if count or now != before:
        difference = {"revision": [before[0] or None, now[0] or None], "changes": [None, count]}
        write.log("config.apply", wanted.tag or _WHOLE, difference)
    return now[0]


class _Application:
    """The writes of one apply: connectors first, as plans and keys name them; ends last."""

    def __init__(self, write: Write, state: State, wanted: Declared) -> None:
        self._write = write
        self._state = state
        self._wanted = wanted
        self._plans = {name: str(row["id"]) for name, row in state.plans.items()}
        self._new_keys: list[dict[str, str]] = []

    async def run(self, changes: Sequence[Change], ends: Sequence[Change]) -> list[dict[str, str]]:
        """Make every change; answers the new keys with their values. Raises Rejected."""
        if any(change.kind == "key" for change in (*changes, *ends)):
            self._write.call.require("admin", "Changing keys")
        of_connectors = [c for c in (*changes, *ends) if c.kind in {"connector", "endpoint"}]
        slugs = {change.connector or change.name for change in of_connectors}
        entries = [entry for slug, entry in self._wanted.connectors.items() if slug in slugs]
        gone = {(change.connector, change.name) for change in ends if change.kind == "endpoint"}
        for entry in entries:
            with _placed(entry.place):
                await self._connector(entry, gone)
        for change in changes:
            if change.kind in {"plan", "key"}:
                with _placed(change.place):
                    await (self._plan(change) if change.kind == "plan" else self._key(change))
        for change in ends:
            await self._end(change)
        await self._publish(entries)
        return self._new_keys

    async def _connector(self, entry: Connector, gone: Collection[tuple[str, str]]) -> None:
        write, slug = self._write, entry.settings["slug"]
        item = await asyncio.to_thread(CONNECTOR.load, entry.settings)
        own = await asyncio.to_thread(_endpoints, entry)
        there = self._state.declared.connectors.get(slug)
        kept: Mapping[str, str | None] = {} if there is None else there.secrets
        references = {
            name: value
            for name, value in entry.secrets.items()
            if value is not None and value != kept.get(name)
        }
        if references:
            write.call.require("admin", "Setting secrets")
        if there is None:
            await connectors.make(write, {**item, "endpoints": own, "secrets": references})
            return
        before = self._state.connectors[slug]
        row = await editable_connector(write, str(before["id"]))
        if row["version"] != before["version"]:
            raise stale()
        has_changed = await self._endpoints({**row, "schemas": item["schemas"]}, own, gone)
        row = await connectors.change(write, row, item)
        if has_changed and row["version"] == before["version"]:
            await write.run(_TOUCH, row["id"])
        if references:
            known = secrets.names_of(row, own)
            await secrets.discard(write, row, references)
            await secrets.store(write, row, known, references, "/secrets")

    async def _endpoints(
        self,
        row: Mapping[str, Any],
        own: Sequence[dict[str, Any]],
        gone: Collection[tuple[str, str]],
    ) -> bool:
        """Make a connector's endpoints what they shall be; True when they were not."""
        there = {found["name"]: found for found in self._state.endpoints[row["slug"]]}
        names = {item["name"] for item in own}
        kept = [
            found
            for name, found in there.items()
            if name not in names and (row["slug"], name) not in gone
        ]
        endpoints.check_routes(own, kept, "/endpoints")
        await asyncio.to_thread(body_schemas.check, own, kept, row, "/endpoints")
        if len(own) + len(kept) > endpoints.MOST_ENDPOINTS:
            detail = f"A connector has at most {endpoints.MOST_ENDPOINTS} endpoints."
            raise fault("/endpoints", detail)
        new_ids = sorted(uuid7() for _ in own)  # within a millisecond they are in no order
        ids = {item["name"]: new for item, new in zip(own, new_ids, strict=True)}
        ids |= {name: found["id"] for name, found in there.items()}
        shall_be = [{**item, "id": str(ids[item["name"]])} for item in (*own, *kept)]
        return await versions.restore_endpoints(self._write, row, shall_be)

    async def _plan(self, change: Change) -> None:
        write = self._write
        settings = self._wanted.plans[change.name].settings
        row, given = self._state.plans.get(change.name), change.after
        if row is None and change.name == plans.FIRST:
            await plans.ensure_first(write)
            rows = await write.rows(PLANS)
            row = next(found for found in rows if found["name"] == plans.FIRST)
            given = settings
        if row is None:
            row = await plans.make(write, PLAN.load(settings))
        else:
            item = PLAN.load({**PLAN.settings(row), **{name: settings[name] for name in given}})
            await plans.change(write, row, item, connectors_given=plans.CONNECTORS in given)
        self._plans[change.name] = str(row["id"])

    async def _key(self, change: Change) -> None:
        given = {_IN_A_KEY.get(name, name): value for name, value in change.after.items()}
        if (plan := given.get("planId")) is not None:
            if plan not in self._plans:
                raise ValidationError({"planId": ["The team has no such plan."]})
            given["planId"] = self._plans[plan]
        if change.prefix is not None:
            row = self._state.keys[change.prefix]
            item = KEY.load({**KEY.settings(row), **given})
            await keys.change(self._write, row, item, given)
            return
        row, value = await keys.make(self._write, KEY.load(given))
        prefix = KEY.dump(row)["keyPrefix"]
        self._new_keys.append({"name": row["name"], "keyPrefix": prefix, "key": value})

    async def _end(self, change: Change) -> None:
        write = self._write
        if change.kind == "key":
            await keys.end(write, self._state.keys[str(change.prefix)])
        elif change.kind == "plan":
            with _placed("/plans"):
                row = await plans.locked(write, self._state.plans[change.name]["id"])
                await plans.remove(write, row)
        elif change.kind == "connector":
            row = self._state.connectors[change.name]
            await connectors.withdraw(write, row, "archived", "connector.archive")

    async def _publish(self, entries: Sequence[Connector]) -> None:
        """Publish and withdraw what is declared so. Raises Rejected with all that is in the way."""
        write, faults = self._write, []
        revision = self._wanted.revision
        note = "" if revision is None else f"Revision {revision}."
        for entry in entries:
            row = await editable_connector(write, entry.settings["slug"])
            if entry.published is False and row["status"] == "published":
                await connectors.withdraw(write, row, "draft", "connector.unpublish")
            elif entry.published and row["published_version"] != row["version"]:
                snapshot, found = await publishing.checked(write, row)
                faults += [Fault(entry.place + one.pointer, one.detail) for one in found]
                if not found:
                    await publishing.release(write, row, snapshot, note=note)
        if faults:
            raise publishing.refused(faults)


@contextmanager
def _placed(place: str) -> Iterator[None]:
    """Whatever is refused within is refused at a place of the document."""
    try:
        yield
    except (Rejected, ValidationError) as error:
        rejected = rejection(error)
        if rejected.code in {"forbidden", "precondition_failed"}:
            raise
        found = rejected.errors or [Fault("", rejected.detail)]
        faults = [Fault(place + _renamed(one.pointer), one.detail) for one in found]
        raise Rejected(rejected.code, found[0].detail, errors=faults) from error


def _renamed(at: str) -> str:
    """A pointer as it is in a document, which calls some fields of keys otherwise."""
    for name, own in _IN_A_KEY.items():
        if at.startswith(f"/{own}"):
            return f"/{name}{at.removeprefix(f'/{own}')}"
    return at


RESOURCE: Final = Resource(
    "applying",
    "state",
    (
        Route(
            "POST",
            "/config/apply",
            "editor",
            apply,
            Operation(
                APPLIED,
                body=Document,
                flags={
                    "prune": "End what is there but not in the document.",
                    "force": "Whatever revision was applied before, and whosever a connector is.",
                },
                etag=True,
                if_match=True,
                example={"connectors": [{**connectors.EXAMPLE, "endpoints": [endpoints.EXAMPLE]}]},
            ),
        ),
    ),
)
