"""Publishing: what a connector still lacks, the snapshot that callers get, and the way back.

Edits change the working copy; callers get the snapshot of the last publish. What would fail for
every caller is refused here, all of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from aiohttp import web

import sql
from admin import connectors, endpoints, hosts, secrets
from admin.calls import Call, stale
from admin.control import Control
from admin.fields import sentence
from admin.references import connector, locked_connector
from admin.writes import Write, writing
from gateway.mapping import AuthFault, MappingFault
from gateway.model import compile_connector
from gateway.problems import Fault, Rejected
from gateway.routes import PatternFault
from gateway.rules import RuleFault, pointer

_PUBLISH: Final = sql.query("connectors.publish")
_FREEZE: Final = sql.query("connectors.freeze")
_PARAMETER: Final = re.compile(r"\{\w+\}")
_COMPILES: Final = (AuthFault, MappingFault, PatternFault, RuleFault)


async def checked(write: Write, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[Fault]]:
    """The snapshot of a connector's working copy, and every reason not to publish it."""
    own = [entry for entry in await endpoints.every(write, row["id"]) if entry["enabled"]]
    snapshot = {
        "id": str(row["id"]),
        "slug": row["slug"],
        "definition": connectors.stored(row)["definition"],
        "endpoints": [
            {
                "id": str(entry["id"]),
                "name": entry["name"],
                "method": entry["method"],
                "path": entry["path"],
                "definition": endpoints.stored(entry)["definition"],
            }
            for entry in own
        ],
    }
    values, unset = await secrets.opened(write, row, secrets.names_of(row, own))
    faults = [*_upstream_faults(write.call.control, snapshot), *unset]
    if not own:
        faults.append(Fault("/endpoints", "The connector has no enabled endpoint."))
    return snapshot, [*faults, *_compile_faults(snapshot, write.call.team, values)]


def _upstream_faults(control: Control, snapshot: Mapping[str, Any]) -> Iterator[Fault]:
    definition = snapshot["definition"]
    texts = [("/upstreamBaseUrl", definition["upstream_base_url"])]
    targets = definition.get("targets", ())
    texts += [(f"/targets/{at}/url", target["url"]) for at, target in enumerate(targets)]
    urls = [*texts]
    texts += [("/allowedHosts", host) for host in definition["allowed_hosts"]]
    texts += [
        (f"/endpoints{pointer([entry['name']])}/upstreamPath", _PARAMETER.sub("", path))
        for entry in snapshot["endpoints"]
        if (path := entry["definition"].get("upstream_path"))
    ]
    left = [(at, part) for at, text in texts if (part := hosts.placeholder(text)) is not None]
    for at, part in left:
        yield Fault(at, f"{part} stands for something that is still to be filled in.")
    for at, url in urls:
        if not left and not control.policy.permits_host(*hosts.origin(url)[1:]):
            yield Fault(at, "The address of the upstream is not allowed.")


def _compile_faults(
    snapshot: Mapping[str, Any], team: str, values: Mapping[str, str]
) -> list[Fault]:
    """Where the whole does not compile, each endpoint for itself, so that each fault is told."""
    if (whole := _fault(snapshot, team, values)) is None:
        return []
    faults = [
        Fault("/endpoints" + pointer([entry["name"]]), sentence(fault))
        for entry in snapshot["endpoints"]
        if (fault := _fault({**snapshot, "endpoints": [entry]}, team, values)) is not None
    ]
    return faults or [Fault("/endpoints", sentence(whole))]


def _fault(snapshot: Mapping[str, Any], team: str, values: Mapping[str, str]) -> ValueError | None:
    try:
        compile_connector(snapshot, team=team, secrets=values)
    except _COMPILES as fault:
        return fault
    return None


def refused(faults: Sequence[Fault]) -> Rejected:
    """The answer to a publish that can't be."""
    return Rejected("conflict", "The connector is not ready to be published.", errors=faults)


async def release(
    write: Write, row: Mapping[str, Any], snapshot: Mapping[str, Any]
) -> dict[str, Any]:
    """Give callers a snapshot; answers the connector's row."""
    published = await write.row(_PUBLISH, row["id"], row["version"])
    if published is None:
        raise stale()
    version, user = published["version"], write.call.identity.user
    await write.run(_FREEZE, row["id"], version, snapshot, user)
    difference = {
        "status": [row["status"], "published"],
        "publishedVersion": [row["published_version"], version],
    }
    write.log("connector.publish", row["id"], difference)
    return await connector(write, str(row["id"]))


async def publish(call: Call) -> web.Response:
    """POST: callers get the working copy as it is now. Without changes there is nothing to do."""
    async with writing(call) as write:
        row = await locked_connector(write, call.part("connector"))
        call.expect(row["version"])
        if row["status"] == "archived":
            raise Rejected("conflict", "The connector is archived: restore it first.")
        snapshot, faults = await checked(write, row)
        if faults:
            raise refused(faults)
        if row["published_version"] != row["version"]:
            row = await release(write, row, snapshot)
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
