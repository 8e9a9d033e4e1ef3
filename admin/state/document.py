"""The document that declares a team's connectors, plans and keys: what may stand in it, and its form.

Objects are named, never numbered, so that it means the same in every team. Of secrets it has names
and references (`env:NAME`, `file:/path`), of keys everything but their values.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from marshmallow import ValidationError, fields, validate, validates_schema

from admin import body_schemas, connectors, endpoints, hosts, keys, plans, secrets
from admin.auth_config import SCHEMAS as AUTH
from admin.differences import is_same
from admin.fields import Instant, Pairs, Switch, Wire, count, matches, text, texts
from admin.references import canonical
from gateway.problems import Fault, Rejected
from gateway.transform.rules import pointer

FORMAT: Final = 1
MOST_REVISION: Final = (1 << 53) - 1
CONNECTOR: Final = connectors.SCHEMA
ENDPOINT: Final = endpoints.SCHEMA
PLAN: Final = plans.PlanSchema()
_REFERENCE: Final = matches(
    r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\x00-\x1f\x7f]+",
    "Neither env:NAME nor file:/path: a document holds no values of secrets.",
)
_PREFIX: Final = matches(r"gw_[0-9A-Za-z]{8}", "Not a key's prefix: gw_ and 8 of A-Z a-z 0-9.")


class ConnectorEntry(connectors.ConnectorSchema):
    """A connector with its endpoints. `published` left out: whatever it is now.

    A secret that is null is set apart from the document.
    """

    published = Switch(load_default=None, load_only=True)
    secrets = Pairs(
        keys=text(64, least=1),
        values=text(1024, rules=(_REFERENCE,), allow_none=True),
        load_default=dict,
        load_only=True,
    )
    endpoints = fields.List(
        fields.Nested(endpoints.EndpointSchema),
        validate=validate.Length(max=endpoints.MOST_ENDPOINTS),
        load_default=list,
        load_only=True,
    )


class KeyEntry(Wire):
    """A key. `keyPrefix` tells keys of one name apart; `plan` and `connectors` are names."""

    name = text(128, least=1, required=True)
    key_prefix = text(11, rules=(_PREFIX,), load_default=None)
    plan = text(64, least=1, load_default=None)
    connectors = texts(text(64, least=1), 100)
    allowed_endpoints = texts(text(64, least=1), 100)
    allowed_ips = texts(keys.Network(), 100, data_key="allowedIPs")
    expires_at = Instant(load_default=None)


class Document(Wire):
    """Everything of a team, or with `tag` the connectors that have it. `digest` is not looked at."""

    format = fields.Integer(strict=True, validate=validate.OneOf((FORMAT,)), load_default=FORMAT)
    tag = text(32, least=1, load_default=None)
    revision = count(1, MOST_REVISION, load_default=None)
    digest = text(64, load_default=None)
    plans = fields.List(fields.Nested(plans.PlanSchema), load_default=list)
    connectors = fields.List(fields.Nested(ConnectorEntry), load_default=list)
    keys = fields.List(fields.Nested(KeyEntry), load_default=list)

    @validates_schema
    def _holds_its_own(self, item: Mapping[str, Any], **_: Any) -> None:
        """Nothing twice, and beside a tag only what has it."""
        twice = "Is in the document twice."
        faults: dict[str, Any] = {}
        for kind, name in (("plans", "name"), ("connectors", "slug")):
            for at in _repeated([entry[name] for entry in item[kind]]):
                faults.setdefault(kind, {})[at] = {name: [twice]}
        names = [entry["key_prefix"] or f"name {entry['name']}" for entry in item["keys"]]
        for at in _repeated(names):
            faults.setdefault("keys", {})[at] = {"name": [twice]}
        if (tag := item["tag"]) is not None:
            for kind in ("plans", "keys"):
                if item[kind]:
                    faults[kind] = ["They have no tags: only a document without a tag has them."]
            for at, entry in enumerate(item["connectors"]):
                if tag not in entry["tags"]:
                    detail = f"The document is of the tag {tag}, which is not among them."
                    faults.setdefault("connectors", {})[at] = {"tags": [detail]}
        if faults:
            raise ValidationError(faults)


def _repeated(names: Sequence[str]) -> list[int]:
    first = {name: at for at, name in reversed([*enumerate(names)])}
    return [at for at, name in enumerate(names) if first[name] != at]


_DOCUMENT: Final = Document()
_KEY: Final = KeyEntry()
_SCHEMAS: Final[Mapping[str, Wire]] = {
    "connector": CONNECTOR,
    "endpoint": ENDPOINT,
    "plan": PLAN,
    "key": _KEY,
}


def _defaults(schema: Wire) -> dict[str, Any]:
    return {
        str(field.data_key): default() if callable(default := field.load_default) else default
        for field in schema.load_fields.values()
    }


_DEFAULTS: Final = {kind: _defaults(schema) for kind, schema in _SCHEMAS.items()}


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector as it is or shall be, in the wire's terms; `published` None: neither, or unsaid.

    That is a published connector whose working copy is another one than what callers get.
    """

    settings: dict[str, Any]
    endpoints: dict[str, dict[str, Any]]
    secrets: dict[str, str | None]
    published: bool | None
    place: str = ""
    """Where it stands in the document that was given, as a JSON pointer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A plan or a key as it is or shall be, with names in place of ids."""

    settings: dict[str, Any]
    prefix: str | None = None
    place: str = ""


@dataclass(frozen=True, slots=True)
class Declared:
    """The objects of a document, or of a team."""

    tag: str = ""
    revision: int | None = None
    plans: dict[str, Entry] = field(default_factory=dict)
    connectors: dict[str, Connector] = field(default_factory=dict)
    keys: list[Entry] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """The document: in one order, without what says no more than a default."""
        document: dict[str, Any] = {"format": FORMAT}
        if self.tag:
            document["tag"] = self.tag
        else:
            document["plans"] = [
                brief("plan", plan.settings) for _, plan in sorted(self.plans.items())
            ]
        document["connectors"] = [_connector(entry) for _, entry in sorted(self.connectors.items())]
        if not self.tag:
            document["keys"] = list(_keys(self.keys))
        return document

    def digest(self) -> str:
        """SHA-256 of the document, of whatever team and revision it is."""
        canonical_form = orjson.dumps(self.told(), option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(canonical_form).hexdigest()


def _connector(entry: Connector) -> dict[str, Any]:
    document = brief("connector", entry.settings)
    if entry.published is not None:
        document["published"] = entry.published
    if entry.secrets:
        document["secrets"] = dict(sorted(entry.secrets.items()))
    own = [brief("endpoint", endpoint) for _, endpoint in sorted(entry.endpoints.items())]
    return {**document, "endpoints": own}


def _keys(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    names = Counter(entry.settings["name"] for entry in entries)
    for entry in sorted(entries, key=lambda entry: (entry.settings["name"], entry.prefix or "")):
        document = brief("key", entry.settings)
        if names[document["name"]] > 1:
            document["keyPrefix"] = entry.prefix
        yield document


def brief(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an object without those that are defaults, or follow from the others."""
    defaults = {**_DEFAULTS[kind]}
    if kind == "connector":
        defaults["displayName"] = settings["slug"]
        defaults["allowedHosts"] = [hosts.host(settings["upstreamBaseUrl"])]
        defaults["authConfig"] = _defaults(AUTH[settings["authType"]])
    elif kind == "plan":
        defaults["displayName"] = settings["name"]
    return {
        name: value for name, value in settings.items() if not is_same(value, defaults.get(name))
    }


def load(given: Mapping[str, Any], slugs: Mapping[str, str]) -> Declared:
    """What a document declares; `slugs` are the team's connectors by id. Raises ValidationError."""
    document = _DOCUMENT.load(given)
    return Declared(
        document["tag"] or "",
        document["revision"],
        {
            item["name"]: Entry(_plan(item, slugs), place=f"/plans/{at}")
            for at, item in enumerate(document["plans"])
        },
        {
            item["slug"]: _wanted(item, f"/connectors/{at}")
            for at, item in enumerate(document["connectors"])
        },
        [
            Entry(_key(item, slugs), item["key_prefix"], f"/keys/{at}")
            for at, item in enumerate(document["keys"])
        ],
    )


def _wanted(item: Mapping[str, Any], place: str) -> Connector:
    own = {endpoint["name"]: ENDPOINT.settings(endpoint) for endpoint in item["endpoints"]}
    try:
        endpoints.check_routes(item["endpoints"], (), f"{place}/endpoints")
        body_schemas.check(item["endpoints"], (), item, f"{place}/endpoints")
    except Rejected as rejected:
        raise Rejected("validation_failed", rejected.detail, errors=rejected.errors) from None
    used = secrets.names_of(item, item["endpoints"])
    faults = [
        Fault(f"{place}/secrets{pointer([name])}", "The connector uses no secret of this name.")
        for name in item["secrets"]
        if name not in used
    ]
    if faults:
        raise Rejected("validation_failed", faults[0].detail, errors=faults)
    return Connector(CONNECTOR.settings(item), own, item["secrets"], item["published"], place)


def _plan(item: Mapping[str, Any], slugs: Mapping[str, str]) -> dict[str, Any]:
    settings = PLAN.settings(item)
    return {**settings, "allowedConnectors": named(settings["allowedConnectors"], slugs)}


def _key(item: Mapping[str, Any], slugs: Mapping[str, str]) -> dict[str, Any]:
    settings = _KEY.settings(item)
    del settings["keyPrefix"]
    return {
        **settings,
        "connectors": named(settings["connectors"], slugs),
        "allowedEndpoints": [canonical(name) for name in settings["allowedEndpoints"]],
    }


def named(references: Sequence[str], slugs: Mapping[str, str]) -> list[str]:
    """Connectors by their slugs; an id that is no connector's, or an archived one's, stays."""
    ids = map(canonical, references)
    return list(dict.fromkeys(slugs.get(name, name) for name in ids))


def fault(place: str, detail: str) -> Rejected:
    """What is there stands in the way of an entry of the document."""
    return Rejected("conflict", detail, errors=[Fault(place, detail)])
