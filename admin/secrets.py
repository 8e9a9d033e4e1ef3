"""Secrets of connectors: written and never read back. What is set is in force at once, what is staged
with the next publish.

A value of the form `env:NAME` or `file:/path` is a reference, if the operator lets the connector's
host have it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from marshmallow import ValidationError, fields

import sql
from admin import audit, endpoints
from admin.calls import Call, TeamRows, answer, nothing
from admin.fields import Instant, Pairs, Switch, Wire, says, sentence, text
from admin.reads import Reading
from admin.references import connector, editable_connector, unknown
from admin.routes import Operation, Resource, Route, deletes
from admin.targets import origins
from admin.writes import Write, writing
from gateway.model import ConnectorDefinition, EndpointDefinition
from gateway.problems import Fault, Rejected, quoted
from gateway.secrets.vault import Sealed, Vault, VaultFault
from gateway.transform import auth as upstream_auth
from gateway.transform.auth import check_field
from gateway.transform.compiling import definition_of
from gateway.transform.request import AuthFault, secret_names
from gateway.transform.rules import pointer

_ALL: Final = sql.query("secrets.all")
_STAGED: Final = sql.query("secrets.staged")
_DRAFTED: Final = sql.query("secrets.drafted")
_PUT: Final = sql.query("secrets.put")
_STAGE: Final = sql.query("secrets.stage")
_ENFORCE: Final = sql.query("secrets.enforce")
_DISCARD: Final = sql.query("secrets.discard")
_DELETE: Final = sql.query("secrets.delete")
_TOUCH: Final = sql.query("connectors.touch")
_PUBLISHED: Final = sql.query("connectors.published")
_REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.*").fullmatch
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]").search
_PLAIN: Final = r"^(?:[^\x00-\x20\x7f](?:[^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?)?$"


class SecretSchema(Wire):
    """What may be told of a secret. `used` is false for one that the connector no longer names.

    `staged` is there where a value is kept for the draft, `set` is true where one is in force.
    """

    name = fields.String()
    set = Switch()
    used = Switch()
    reference = fields.String()
    updated_at = Instant()
    updated_by = fields.String()
    staged = Switch()
    staged_at = Instant()
    staged_by = fields.String()


@says(pattern=_PLAIN)
def _on_one_line(value: str) -> None:
    if _CONTROL(value):
        raise ValidationError("A secret has no line breaks and no other control characters.")
    if value != value.strip():
        raise ValidationError("A secret has no white space at its ends.")


def refers(value: str) -> bool:
    """True for the name of a place outside of the database."""
    return _REFERENCE(value) is not None


def values(**options: Any) -> Pairs:
    """The field of secrets that are given: names and values."""
    return Pairs(
        keys=text(64, least=1), values=text(16_384, least=1, rules=(_on_one_line,)), **options
    )


_SCHEMA: Final = SecretSchema()
_VALUES: Final = values()


async def names(team: TeamRows, row: Mapping[str, Any]) -> tuple[str, ...]:
    """The secrets that a connector names: in its working copy, and in what callers get."""
    found = [*names_of(row, await endpoints.every(team, row["id"]))]
    if (published := await team.row(_PUBLISHED, row["id"])) is not None:
        snapshot = published["snapshot"]
        own = [entry["definition"] for entry in snapshot["endpoints"]]
        found += names_of(snapshot["definition"], own)
    return tuple(dict.fromkeys(found))


def names_of(definition: Mapping[str, Any], own: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The secrets that a connector's and its endpoints' definitions name."""
    return secret_names(
        definition_of(ConnectorDefinition, definition),
        [definition_of(EndpointDefinition, entry) for entry in own],
    )


async def are_set(team: TeamRows, connector_id: UUID) -> bool:
    """True when a connector has any secret, be it a staged one."""
    return bool(await team.rows(_DRAFTED, connector_id))


async def store(
    write: Write,
    row: Mapping[str, Any],
    known: Collection[str],
    given: Mapping[str, str],
    at: str,
    *,
    stage: bool = False,
) -> None:
    """Set or stage secrets of a connector; `at` leads the pointers of faults. Raises Rejected."""
    vault = write.call.control.vault
    _check(write.call, row, known, given, at)
    place = {"team": write.call.team, "connector": str(row["id"])}
    rows = [{"name": name, **_kept(vault, place, name, value)} for name, value in given.items()]
    await write.run(_STAGE if stage else _PUT, row["id"], rows, write.call.identity.user)
    if stage:
        await write.run(_TOUCH, row["id"])
    _log(write, "secret.stage" if stage else "secret.set", row, given)


async def enforce(write: Write, row: Mapping[str, Any]) -> list[str]:
    """Put in force what is staged; answers its names."""
    names = [found["name"] for found in await write.rows(_ENFORCE, row["id"])]
    _log(write, "secret.set", row, names)
    return names


async def discard(
    write: Write, row: Mapping[str, Any], names: Collection[str] | None = None
) -> list[str]:
    """Forget what is staged under these names, or whatever is; answers the names of what was."""
    wanted = None if names is None else list(names)
    gone = [found["name"] for found in await write.rows(_DISCARD, row["id"], wanted)]
    _log(write, "secret.unstage", row, gone)
    return gone


def _log(write: Write, action: str, row: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        write.log(action, f"{row['id']}/{name}", {name: audit.CHANGED})


def given(
    call: Call, row: Mapping[str, Any], known: Collection[str], values: Mapping[str, str], at: str
) -> dict[str, str]:
    """The values of secrets that are not stored; `at` leads the pointers of faults. Raises Rejected."""
    _check(call, row, known, values, at)
    return {
        name: _referred(call, row, value) if _REFERENCE(value) else value
        for name, value in values.items()
    }


def _check(
    call: Call, row: Mapping[str, Any], known: Collection[str], given: Mapping[str, str], at: str
) -> None:
    faults = [
        Fault(at + pointer([name]), detail)
        for name, value in given.items()
        if (detail := _fault(call, row, known, name, value))
    ]
    if faults:
        raise Rejected("validation_failed", faults[0].detail, errors=faults)


def _fault(
    call: Call, row: Mapping[str, Any], known: Collection[str], name: str, value: str
) -> str:
    """Why a secret can't be set; empty when it can."""
    if name not in known:
        return "The connector uses no secret of this name."
    if _REFERENCE(value):
        try:
            _referred(call, row, value)
        except VaultFault as fault:
            return sentence(fault)
        return ""
    auth = upstream_auth.make(row["auth_type"], row["auth_config"])
    try:
        injection = auth.inject({**dict.fromkeys(auth.secret_names(), "x"), name: value})
        for field, content in injection.headers:
            check_field(field, content)
    except AuthFault as fault:
        return sentence(fault)
    return ""


def _referred(call: Call, row: Mapping[str, Any], reference: str) -> str:
    """The value of a reference, if each origin that may get it is allowed to. Raises VaultFault."""
    value = ""
    for origin in sorted(origins(row)):
        if (found := call.control.vault.resolve(reference, call.team, origin)) is None:
            where = f"{origin.scheme}://{origin.host}:{origin.port}"
            raise VaultFault(f"the operator has to allow {reference} for {where}, and to set it")
        value = found
    return value


def _kept(vault: Vault, place: Mapping[str, str], name: str, value: str) -> dict[str, Any]:
    if _REFERENCE(value):
        return {"reference": value}
    sealed = vault.seal(value, team=place["team"], connector=place["connector"], name=name)
    return {"key_id": sealed.key_id, "sealed": f"\\x{sealed.content.hex()}"}


async def opened(
    team: Reading, row: Mapping[str, Any], needed: Iterable[str]
) -> tuple[dict[str, str], list[Fault]]:
    """The values of secrets as callers' requests get them after a publish, and a fault for each that is none."""
    there = {secret["name"]: secret for secret in await team.rows(_DRAFTED, row["id"])}
    found, faults = {}, []
    for name in needed:
        try:
            found[name] = _open(team.call, row, name, there.get(name))
        except VaultFault as fault:
            faults.append(Fault("/secrets" + pointer([name]), sentence(fault)))
    return found, faults


def _open(call: Call, row: Mapping[str, Any], name: str, secret: Mapping[str, Any] | None) -> str:
    """The value of one secret. Raises VaultFault when there is none."""
    vault = call.control.vault
    if secret is None:
        raise VaultFault(f"secret {quoted(name)} is not set")
    if (reference := secret["reference"]) is None:
        sealed = Sealed(secret["key_id"], secret["sealed"])
        return vault.open(sealed, team=call.team, connector=str(row["id"]), name=name)
    return _referred(call, row, reference)


async def index(call: Call) -> web.Response:
    """GET: which secrets there are, and since when."""
    return await _list(call, await connector(call, call.part("connector")))


async def put(call: Call) -> web.Response:
    """PUT: new values for some secrets, in force at once; with `?stage=true` with the next publish."""
    given = _VALUES.deserialize(await call.body())
    async with writing(call) as write:
        row = await editable_connector(write, call.part("connector"))
        call.expect(row["version"])
        known = await names(write, row)
        await store(write, row, known, given, "", stage=call.flag("stage"))
        return await _list(write, row)


async def delete(call: Call) -> web.Response:
    """DELETE: forget one, staged or in force; with `?stage=true` what is staged alone."""
    name, only_staged = call.part("name"), call.flag("stage")
    async with writing(call) as write:
        row = await editable_connector(write, call.part("connector"))
        call.expect(row["version"])
        gone = await discard(write, row, [name])
        if not only_staged and await write.row(_DELETE, row["id"], name) is not None:
            gone.append(name)
            _log(write, "secret.delete", row, [name])
        if not gone:
            raise unknown("secret")
    return nothing()


async def _list(team: TeamRows, row: Mapping[str, Any]) -> web.Response:
    there = {secret["name"]: secret for secret in await team.rows(_ALL, row["id"])}
    staged = {secret["name"]: secret for secret in await team.rows(_STAGED, row["id"])}
    used = await names(team, row)
    items = [
        {
            "name": name,
            "set": name in there,
            "used": name in used,
            **_told(there.get(name)),
            **_told_staged(staged.get(name)),
        }
        for name in dict.fromkeys((*used, *there, *staged))
    ]
    return answer({"items": [_SCHEMA.dump(item) for item in items], "nextCursor": None})


def _told(row: Mapping[str, Any] | None) -> dict[str, Any]:
    shown = ("reference", "updated_at", "updated_by")
    return {} if row is None else {name: row[name] for name in shown if row[name] is not None}


def _told_staged(row: Mapping[str, Any] | None) -> dict[str, Any]:
    if row is None:
        return {}
    return {"staged": True, "staged_at": row["updated_at"], "staged_by": row["updated_by"]}


RESOURCE: Final = Resource(
    "secrets",
    "secrets",
    (
        Route(
            "GET",
            "/connectors/{connector}/secrets",
            "viewer",
            index,
            Operation(SecretSchema, many=True),
        ),
        Route(
            "PUT",
            "/connectors/{connector}/secrets",
            "admin",
            put,
            Operation(
                SecretSchema,
                many=True,
                body=_VALUES,
                if_match=True,
                flags={
                    "stage": "Keep the values for the draft: the next publish puts them in force."
                },
                example={"token": "s3cret"},
            ),
        ),
        Route(
            "DELETE",
            "/connectors/{connector}/secrets/{name}",
            "admin",
            delete,
            deletes(flags={"stage": "Forget what is staged alone."}),
        ),
    ),
)
