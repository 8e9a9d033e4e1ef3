"""Publishing: what a connector still lacks, the snapshot that callers get, and the way back.

Edits change the working copy; callers get the snapshot of the last publish. What would fail for
every caller is refused here, all of it at once.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

import sql
from admin import connectors, endpoints, hosts, secrets, snapshots
from admin.calls import Call, stale
from admin.control import Control
from admin.fields import Wire, sentence, text
from admin.references import connector, editable_connector, locked_connector
from admin.routes import Resource, Route, acts
from admin.writes import Write, writing
from gateway.problems import Fault, Rejected
from gateway.transform.compiling import compile_connector
from gateway.transform.definitions import Definitions
from gateway.transform.request import AuthFault, MappingFault
from gateway.transform.routes import PatternFault
from gateway.transform.rules import RuleFault, Schema, pointer, shared_schema

_PUBLISH: Final = sql.query("connectors.publish")
_FREEZE: Final = sql.query("connectors.freeze")
_LATEST: Final = sql.query("versions.latest")
_FORGET: Final = sql.query("versions.forget")

MOST_VERSIONS: Final = 100
"""How many versions of a connector are kept; what callers get is always one of them."""
MOST_NOTE: Final = 1024
_PARAMETER: Final = re.compile(r"\{\w+\}")
COMPILES: Final = (AuthFault, MappingFault, PatternFault, RuleFault)
"""What is raised for a snapshot that does not compile."""


class Publication(Wire):
    """What may be said with a publish."""

    note = text(MOST_NOTE, load_default="")


_SCHEMA: Final = Publication()


async def checked(write: Write, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The snapshot of a connector's working copy, and every reason not to publish it."""
    snapshot = snapshots.freeze(row, await endpoints.every(write, row["id"]))
    own = [entry["definition"] for entry in snapshot["endpoints"]]
    values, unset = await secrets.opened(write, row, secrets.names_of(row, own))
    faults = [*_upstream_faults(write.call.control, snapshot), *unset]
    if not own:
        faults.append(Fault("/endpoints", "The connector has no enabled endpoint."))
    compiling = asyncio.to_thread(_compile_faults, snapshot, write.call.team, values)
    return snapshot, [*faults, *await compiling]


def _upstream_faults(control: Control, snapshot: Mapping[str, Any]) -> Iterator[Fault]:
    left = list(placeholders(snapshot))
    yield from left
    for at, url in _urls(snapshot):
        if not left and not control.policy.permits_host(*hosts.origin(url)[1:]):
            yield Fault(at, "The address of the upstream is not allowed.")


def placeholders(snapshot: Mapping[str, Any]) -> Iterator[Fault]:
    """Each place of a snapshot's hosts and paths that is still to be filled in."""
    texts = _urls(snapshot)
    texts += [("/allowedHosts", host) for host in snapshot["definition"]["allowed_hosts"]]
    texts += [
        (f"/endpoints{pointer([entry['name']])}/upstreamPath", _PARAMETER.sub("", path))
        for entry in snapshot["endpoints"]
        if (path := entry["definition"].get("upstream_path"))
    ]
    for at, content in texts:
        if (part := hosts.placeholder(content)) is not None:
            yield Fault(at, f"{part} stands for something that is still to be filled in.")


def _urls(snapshot: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The URLs that requests go to, with their pointers."""
    definition = snapshot["definition"]
    targets = definition.get("targets", ())
    return [
        ("/upstreamBaseUrl", definition["upstream_base_url"]),
        *((f"/targets/{at}/url", target["url"]) for at, target in enumerate(targets)),
    ]


def _compile_faults(
    snapshot: Mapping[str, Any], team: str, values: Mapping[str, str]
) -> list[Fault]:
    """Where the whole does not compile, each endpoint for itself, so that each fault is told."""
    shared = Definitions(snapshot["definition"].get("schemas", {}))
    schemas: dict[bytes, Schema] = {}

    def fault_of(part: Mapping[str, Any]) -> ValueError | None:
        try:
            compile_connector(part, team=team, secrets=values)
        except COMPILES as fault:
            return fault
        for entry in part["endpoints"]:
            if (document := entry["definition"].get("body_schema")) is not None:
                schema = shared_schema(document, schemas, shared)
                if not schema.is_prepared:
                    schema.prepare()
                if schema.fault is not None:
                    return schema.fault
        return None

    if (whole := fault_of(snapshot)) is None:
        return []
    faults = [
        Fault("/endpoints" + pointer([entry["name"]]), sentence(fault))
        for entry in snapshot["endpoints"]
        if (fault := fault_of({**snapshot, "endpoints": [entry]})) is not None
    ]
    return faults or [Fault("/endpoints", sentence(whole))]


def refused(faults: Sequence[Fault]) -> Rejected:
    """The answer to a publish that can't be."""
    return Rejected("conflict", "The connector is not ready to be published.", errors=faults)


async def release(
    write: Write,
    row: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    *,
    note: str = "",
    restored: int | None = None,
) -> dict[str, Any]:
    """Give callers a snapshot and what secrets are staged; answers the connector's row.

    Of the oldest versions some go. `restored` is the version that this one brings back.
    """
    published = await write.row(_PUBLISH, row["id"], row["version"])
    if published is None:
        raise stale()
    version, user = published["version"], write.call.identity.user
    staged = await secrets.enforce(write, row)
    summary = f"Back to version {restored}."
    if restored is None:
        latest = await write.row(_LATEST, row["id"])
        summary = snapshots.summary(latest and latest["snapshot"], snapshot, staged)
    await write.run(_FREEZE, row["id"], version, snapshot, user, note, summary, restored)
    await write.run(_FORGET, row["id"], MOST_VERSIONS)
    difference = {
        "status": [row["status"], "published"],
        "publishedVersion": [row["published_version"], version],
        **({"note": [None, note]} if note else {}),
        **({"restored": [None, restored]} if restored is not None else {}),
    }
    verb = "publish" if restored is None else "rollback"
    write.log(f"connector.{verb}", row["id"], difference)
    return await connector(write, str(row["id"]))


async def publish(call: Call) -> web.Response:
    """POST: callers get the working copy as it is now. Without changes there is nothing to do.

    A note may be left with the version.
    """
    given = _SCHEMA.load(await call.body(optional=True))
    async with writing(call) as write:
        row = await editable_connector(write, call.part("connector"))
        call.expect(row["version"])
        snapshot, faults = await checked(write, row)
        if faults:
            raise refused(faults)
        if row["published_version"] != row["version"]:
            row = await release(write, row, snapshot, note=given["note"])
    return connectors.shown(row)


async def unpublish(call: Call) -> web.Response:
    """POST: callers no longer get the connector; it is a draft again."""
    return await _withdrawn(call, "published", "connector.unpublish")


async def restore(call: Call) -> web.Response:
    """POST: an archived connector is a draft again, if its slug is still free."""
    return await _withdrawn(call, "archived", "connector.restore")


async def _withdrawn(call: Call, status: str, action: str) -> web.Response:
    """From this status to a draft; a connector that is a draft already stays as it is."""
    async with writing(call) as write:
        row = await locked_connector(write, call.part("connector"))
        call.expect(row["version"])
        if row["status"] == status:
            await connectors.withdraw(write, row, "draft", action)
            row = await connector(write, str(row["id"]))
        elif row["status"] != "draft":
            raise Rejected("conflict", f"The connector is not {status}, it is {row['status']}.")
    return connectors.shown(row)


RESOURCE: Final = Resource(
    "publishing",
    "connectors",
    (
        Route(
            "POST",
            "/connectors/{connector}/publish",
            "editor",
            publish,
            acts(
                connectors.ConnectorSchema,
                body=Publication,
                body_optional=True,
                example={"note": "with the new timeout"},
            ),
        ),
        Route(
            "POST",
            "/connectors/{connector}/unpublish",
            "editor",
            unpublish,
            acts(connectors.ConnectorSchema),
        ),
        Route(
            "POST",
            "/connectors/{connector}/restore",
            "editor",
            restore,
            acts(connectors.ConnectorSchema),
        ),
    ),
)
