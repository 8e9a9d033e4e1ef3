"""The operations of an OpenAPI document as the endpoints of a connector.

What an endpoint asks of requests is never more than the document says; what it can't ask is told.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from marshmallow import ValidationError

from admin.endpoints import MOST_ENDPOINTS, SCHEMA
from admin.fields import METHODS, is_id
from admin.importing.bodies import Bodies
from admin.importing.source import Source, Where
from admin.problems import faults
from gateway.problems import quoted
from gateway.transform.auth import AuthFault
from gateway.transform.request import check_passed
from gateway.transform.routes import PatternFault, parse

_VERBS: Final = tuple(method.lower() for method in METHODS)
_NOT_SERVED: Final = ("options", "trace", "query")
_IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_ONE_PARAMETER: Final = re.compile(r"\{([^{}]+)\}([:.][A-Za-z0-9._~:-]+)?").fullmatch
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9_!#$&^.+-]+/[A-Za-z0-9_!#$&^.+-]+").fullmatch
_TOLD_ELSEWHERE: Final = frozenset({"accept", "authorization", "content-type"})
"""Header parameters that OpenAPI ignores (3.1.1, 4.8.12.1)."""


class Wanted:
    """Which operations are wanted: those with a tag, or below a path; all when nothing is said."""

    def __init__(self, tags: Collection[str], paths: Collection[str]) -> None:
        self._tags = frozenset(tags)
        self._paths = tuple(paths)

    def has(self, path: str, operation: Mapping[str, Any]) -> bool:
        """True for an operation that is wanted."""
        tags = operation.get("tags")
        tagged = isinstance(tags, list) and any(
            tag in self._tags for tag in tags if isinstance(tag, str)
        )
        return not (self._tags or self._paths) or tagged or path.startswith(self._paths or "\0")


def endpoints_of(
    source: Source,
    bodies: Bodies,
    base_url: str | None,
    own_headers: Collection[str],
    wanted: Wanted,
) -> list[dict[str, Any]]:
    """The endpoints, loaded. Operations for another server than `base_url` are left out.

    What their schemas refer to is in `bodies` then; `own_headers` are those that the connector's
    credentials are in.
    """
    found: list[dict[str, Any]] = []
    names: set[str] = set()
    routes: dict[Any, str] = {}
    for path, item, where in _path_items(source):
        for verb, operation, place in _operations(source, item, where):
            source.go_on()
            if not wanted.has(path, operation):
                continue
            if not _is_for(source, base_url, [(operation, place), (item, where)]):
                continue
            if len(found) >= MOST_ENDPOINTS:
                source.fault(
                    ("paths",),
                    f"More than {MOST_ENDPOINTS} operations, which is all that a connector may"
                    " have: choose with onlyTags or onlyPaths.",
                )
                return found
            try:
                entry = _Writer(source, bodies, path, item, where, own_headers).entry(
                    verb, operation, place
                )
            except PatternFault as fault:
                source.warn(place, f"Left out: {fault}.")
                continue
            route = verb, parse(entry["path"]).shape
            if (
                other := routes.setdefault(route, f"{verb.upper()} {path}")
            ) != f"{verb.upper()} {path}":
                source.warn(place, f"Left out: {other} matches the same paths.")
                continue
            entry["name"] = _name(entry["name"], names)
            if (loaded := _loaded(source, entry, place)) is not None:
                found.append(loaded)
    return found


def _path_items(source: Source) -> Iterator[tuple[str, dict[str, Any], Where]]:
    for path, item, where in source.objects(source.document, "paths", ()):
        if isinstance(path, str) and path.startswith("/"):
            yield path, item, where
        else:
            source.fault(("paths", path), "A path begins with a slash.")


def _operations(
    source: Source, item: Mapping[str, Any], where: Where
) -> Iterator[tuple[str, dict[str, Any], Where]]:
    for verb in (*_VERBS, *_NOT_SERVED):
        if verb not in item:
            continue
        if verb in _NOT_SERVED:
            source.warn((*where, verb), f"Left out: {verb.upper()} is not passed on.")
        elif (found := source.one(item, verb, where)) is not None:
            yield verb, *found


def _is_for(
    source: Source, base_url: str | None, holders: list[tuple[Mapping[str, Any], Where]]
) -> bool:
    """False for an operation with a server of its own that is not the connector's."""
    if base_url is None:
        return True
    for holder, where in holders:
        if holder.get("servers"):
            urls = [url for url, _ in servers_of(source, holder, where)]
            if base_url in urls:
                return True
            source.warn((*where, "servers"), "Left out: its server is not the connector's.")
            return False
    return True


def servers_of(
    source: Source, holder: Mapping[str, Any], where: Where
) -> Iterator[tuple[str, Where]]:
    """The URLs of servers, with the defaults of their variables put in, and without a last slash."""
    for at, server, place in source.objects(holder, "servers", where):
        url = source.member(server, "url", place, str)
        defaults: dict[str, str] = {}
        for name, variable, spot in source.objects(server, "variables", place):
            defaults[str(name)] = str(variable.get("default", f"{{{name}}}"))
            if "default" not in variable:
                source.fault((*spot, "default"), "A server's variable has a default.")
        for name, value in defaults.items():
            url = url.replace(f"{{{name}}}", value)
        yield url.rstrip("/"), (*where, "servers", at, "url")


class _Writer:
    """Writes the endpoints of one path as they are in a body of the admin API."""

    def __init__(
        self,
        source: Source,
        bodies: Bodies,
        path: str,
        item: Mapping[str, Any],
        where: Where,
        own_headers: Collection[str],
    ) -> None:
        self._source = source
        self._bodies = bodies
        self._path = path
        self._item = item
        self._where = where
        self._own_headers = own_headers

    def entry(self, verb: str, operation: Mapping[str, Any], where: Where) -> dict[str, Any]:
        """One endpoint. Raises PatternFault for a path that can't be one."""
        pattern, upstream = pattern_of(self._path)
        source = self._source
        summary = source.member(operation, "summary", where, str)
        texts = [summary, source.member(operation, "description", where, str)]
        name = source.member(operation, "operationId", where, str) or summary
        made: dict[str, Any] = {
            "name": name or f"{verb.upper()} {self._path}",
            "description": "\n\n".join(dict.fromkeys(filter(None, texts)))[:1024],
            "method": verb.upper(),
            "path": pattern,
            "upstreamPath": upstream,
            "streamingEnabled": self._streams(operation, where) or None,
        }
        self._add_parameters(made, operation, where)
        self._add_body(made, operation, where)
        return {field: value for field, value in made.items() if value is not None}

    def _add_parameters(
        self, made: dict[str, Any], operation: Mapping[str, Any], where: Where
    ) -> None:
        """Those of the operation replace those of the path with their name and place."""
        found: dict[tuple[str, str], tuple[dict[str, Any], Where]] = {}
        for holder, place in ((self._item, self._where), (operation, where)):
            for _, parameter, spot in self._source.objects(holder, "parameters", place):
                name = self._source.member(parameter, "name", spot, str)
                found[name, self._source.member(parameter, "in", spot, str)] = parameter, spot
        headers: list[str] = []
        defaults: dict[str, str] = {}
        for (name, kind), (parameter, spot) in found.items():
            required = parameter.get("required") is True
            if kind == "header" and required:
                headers += self._header(name, spot)
            elif kind == "query" and required:
                defaults |= self._default(name, parameter, spot)
            elif kind == "cookie":
                self._source.warn(spot, "Cookies are passed on only with passCookies.")
        made["requiredHeaders"] = list({name.lower(): name for name in headers}.values())
        made["defaultQueryParams"] = defaults

    def _header(self, name: str, where: Where) -> list[str]:
        if name.lower() in _TOLD_ELSEWHERE or name.lower() in self._own_headers:
            return []
        try:
            check_passed(name)
        except (AuthFault, UnicodeEncodeError):
            self._source.warn(where, f"{name[:100]} is the gateway's own and is never passed on.")
            return []
        return [name]

    def _default(self, name: str, parameter: Mapping[str, Any], where: Where) -> dict[str, str]:
        """What a parameter that must be there has when a caller leaves it out, if the document says."""
        schema, _ = self._source.one(parameter, "schema", where) or ({}, where)
        value, values = schema.get("default", schema.get("const")), schema.get("enum")
        if value is None and isinstance(values, list) and len(values) == 1:
            value = values[0]
        if isinstance(value, bool):
            value = str(value).lower()
        return {name: str(value)} if isinstance(value, (str, int, float)) else {}

    def _add_body(self, made: dict[str, Any], operation: Mapping[str, Any], where: Where) -> None:
        if (found := self._source.one(operation, "requestBody", where)) is None:
            return
        body, place = found
        content = [*self._source.objects(body, "content", place)]
        kinds = [str(kind).partition(";")[0].strip().lower() for kind, _, _ in content]
        if kinds and all(_MEDIA_TYPE(kind) for kind in kinds):
            made["mediaTypes"] = list(dict.fromkeys(kinds))
        schemas = [
            (entry["schema"], (*at, "schema")) for _, entry, at in content if "schema" in entry
        ]
        is_json = [kind == "application/json" or kind.endswith("+json") for kind in kinds]
        if not schemas or not any(is_json):
            return
        if not all(is_json):
            why = "they may be something else than JSON."
        elif body.get("required") is not True:
            why = "the document lets requests have none."
        elif any(schema != schemas[0][0] for schema, _ in schemas[1:]):
            why = "each media type has its own schema."
        else:
            made["bodySchema"] = self._bodies.schema(*schemas[0])
            return
        self._source.warn(place, f"Bodies are not checked: {why}")

    def _streams(self, operation: Mapping[str, Any], where: Where) -> bool:
        """True when an answer may be a stream of events."""
        return any(
            str(kind).startswith("text/event-stream")
            for _, answer, place in self._source.objects(operation, "responses", where)
            for kind in self._source.member(answer, "content", place, dict)
        )


def pattern_of(path: str) -> tuple[str, str | None]:
    """A path template as our pattern, and the upstream's path where it is another.

    A segment with several parameters, or with a text before one, becomes one parameter: what it
    matches goes upstream as it is. Raises PatternFault.
    """
    inner, slash = path[1:], ""
    if inner.endswith("/"):
        inner, slash = inner.removesuffix("/"), "/"
    if not inner:
        return "/", None
    names: set[str] = set()
    parts = [_segment(part, names) for part in inner.split("/")]
    pattern = "/" + "/".join(parts)
    parse(pattern)
    return pattern, f"{pattern}/" if slash else None


def _segment(part: str, names: set[str]) -> str:
    given = _IN_BRACES.findall(part)
    if not given:
        if part.startswith(":"):
            raise PatternFault(f"{quoted(part)} would be a parameter")
        return part
    single = _ONE_PARAMETER(part)
    words = [single[1]] if single else given
    name = re.sub(r"[^A-Za-z0-9_]+", "_", "_".join(words)) or "_"
    if name[0].isdigit():
        name = f"_{name}"
    while name in names:
        name += "_"
    names.add(name)
    return f":{name}{(single[2] or '') if single else ''}"


def _name(wished: str, taken: set[str]) -> str:
    """A name that no other endpoint has: printable, no id, 64 characters at most."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in wished).split())[:64].strip()
    plain = f"operation {plain}"[:64] if not plain or is_id(plain) else plain
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain[: 63 - len(str(number))]} {number}"
    taken.add(name)
    return name


def _loaded(source: Source, entry: dict[str, Any], where: Where) -> dict[str, Any] | None:
    """The endpoint as the admin API takes it; None, with a warning, when it would refuse it."""
    try:
        loaded: dict[str, Any] = SCHEMA.load(entry)
    except ValidationError as error:
        found = next(faults(error.messages))
        source.warn(where, f"Left out: {found.pointer}: {found.detail}")
        return None
    return loaded
