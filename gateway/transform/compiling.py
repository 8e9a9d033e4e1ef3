"""From the snapshot that a publish froze to a connector that requests are served with.

Keys of a definition that this version does not know are ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from gateway.model import (
    Connector,
    ConnectorDefinition,
    Destination,
    Endpoint,
    EndpointDefinition,
    nothing,
)
from gateway.secrets.files import Stamp
from gateway.transform import rules as rule_book
from gateway.transform.definitions import NONE, Definitions
from gateway.transform.field_map import compile_field_map
from gateway.transform.request import compile_mapping
from gateway.transform.routes import Router, parse
from gateway.transform.rules import Rules

T = TypeVar("T")


def definition_of(cls: type[T], stored: Mapping[str, Any]) -> T:
    """A definition from its stored form: lists become tuples, unknown names are left out.

    So are empty mappings, which are the default; an empty schema is one that all bodies keep to.
    """
    known = {entry.name for entry in dataclasses.fields(cls)}  # type: ignore[arg-type] # a dataclass
    values = {
        name: tuple(value) if isinstance(value, list) and name != "body_schema" else value
        for name, value in stored.items()
        if name in known and (value != {} or name == "body_schema")
    }
    return cls(**values)


def compile_rules(
    definition: EndpointDefinition,
    schemas: dict[bytes, rule_book.Schema] | None = None,
    shared: Definitions = NONE,
) -> Rules:
    """The rules of an endpoint; RuleFault when one does not compile.

    A schema is compiled when it is first used; one of `schemas`, by its text, is used again. It may
    refer to the connector's, which are `shared`.
    """
    known = {} if schemas is None else schemas
    schema, pattern, words = (
        definition.body_schema,
        definition.body_pattern,
        definition.body_blacklist,
    )
    return Rules(
        required_headers=tuple(name.lower() for name in definition.required_headers),
        media_types=frozenset(name.lower() for name in definition.media_types),
        schema=None if schema is None else rule_book.shared_schema(schema, known, shared),
        pattern=None if pattern is None else rule_book.compile_pattern(pattern),
        words=rule_book.compile_words(words) if words else None,
    )


def compile_connector(
    snapshot: Mapping[str, Any],
    *,
    team: str,
    secrets: Mapping[str, str],
    files: Mapping[str, Stamp | None] | None = None,
) -> Connector:
    """A connector from a snapshot `{id, slug, definition, endpoints: [{id, name, method, path, …}]}`.

    `secrets` are the opened values by name; one that is not set is found out per request. `files` are
    those that values were read from, with their stamps.
    """
    definition = definition_of(ConnectorDefinition, snapshot["definition"])
    base = urlsplit(definition.upstream_base_url)
    endpoints: list[Endpoint] = []
    schemas: dict[bytes, rule_book.Schema] = {}
    shared = Definitions(definition.schemas)
    for entry in snapshot["endpoints"]:
        own = definition_of(EndpointDefinition, entry["definition"])
        timeout = own.timeout if own.timeout is not None else definition.default_timeout
        idle = own.idle_timeout if own.idle_timeout is not None else definition.idle_timeout
        envelope = _first(own.response_mode, definition.response_mode) == "envelope"
        field_map = compile_field_map(own.field_map)
        endpoints.append(
            Endpoint(
                id=entry["id"],
                name=entry["name"],
                method=entry["method"],
                path=entry["path"],
                definition=own,
                rules=compile_rules(own, schemas, shared),
                timeout_s=timeout / 1000,
                idle_timeout_s=idle / 1000,
                streaming=_first(own.streaming_enabled, definition.streaming_enabled),
                envelope=envelope,
                field_map=field_map,
                reshaped=envelope or field_map is not None,
                error_mapping={**definition.error_mapping, **own.error_mapping} or nothing(),
                mapped=compile_mapping(definition, own, entry, secrets),
            )
        )
    return Connector(
        id=snapshot["id"],
        team=team,
        slug=snapshot["slug"],
        definition=definition,
        base=base,
        destinations=_destinations(definition, base),
        router=Router((e.method, parse(e.path), e) for e in endpoints),
        connect_timeout_s=definition.connect_timeout / 1000,
        files=files or nothing(),
    )


def _destinations(definition: ConnectorDefinition, base: SplitResult) -> tuple[Destination, ...]:
    return tuple(
        Destination(urlsplit(target["url"]), target.get("weight", 1), target.get("priority", 0))
        for target in definition.targets
    ) or (Destination(base),)


def _first(own: Any, fallback: Any) -> Any:
    return fallback if own is None else own
