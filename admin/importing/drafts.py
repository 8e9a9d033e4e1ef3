"""A connector from an OpenAPI document: a draft with an endpoint for each operation.

What the document says and a connector can't is answered in `warnings`, each with its place.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from threading import Event
from typing import Any, Final

from aiohttp import web
from marshmallow import ValidationError, fields

from admin import connectors, hosts
from admin.allowances import Allowance
from admin.calls import Call
from admin.fields import Place, Wire, text, texts
from admin.importing.bodies import Bodies
from admin.importing.endpoints import Wanted, endpoints_of, servers_of
from admin.importing.source import Source, Where, read
from admin.routes import Operation, Resource, Route
from admin.writes import writing
from gateway.problems import Fault, Rejected

MOST_BYTES: Final = 16 << 20
ALLOWED: Final = Allowance("imports", 60, 2)
_NOT_OF_A_NAME: Final = re.compile(r"[^A-Za-z0-9_]+")


class DocumentField(fields.Field[Any]):
    """An OpenAPI document: an object, or the text of one in JSON or YAML."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if not isinstance(value, (dict, str)) or not value:
            raise ValidationError("Neither an OpenAPI document nor the text of one.")
        return value


class Import(Wire):
    """A document, and what it does not say or says wrongly; what is left out follows from it.

    `onlyTags` and `onlyPaths` (beginnings of paths) choose operations; without them all are taken.
    """

    document = DocumentField(
        required=True,
        metadata={
            "type": ["object", "string"],
            "description": "OpenAPI 3.0 or 3.1: an object, or the text of its JSON or YAML.",
        },
    )
    slug = connectors.slug_field()
    display_name = text(128, least=1)
    upstream_base_url = connectors.base_url_field()
    category = text(64, load_default="")
    tags = texts(text(32, least=1), 20)
    only_tags = texts(text(128, least=1), 100)
    only_paths = texts(text(512, least=1), 100)


class ConnectorFromDocument(connectors.ConnectorSchema):
    """A connector, and what of its document was not taken over."""

    warnings = fields.List(fields.Nested(Place), dump_only=True)


_SCHEMA: Final = Import()


async def create(call: Call) -> web.Response:
    """POST: a draft connector from an OpenAPI document."""
    given = _SCHEMA.load(await call.document())
    async with ALLOWED.take(call):
        abandoned = Event()
        try:
            item, warnings = await asyncio.to_thread(imported, given, abandoned)
        finally:
            abandoned.set()
        async with writing(call) as write:
            row = await connectors.make(write, item)
    location = f"../connectors/{row['id']}"
    return connectors.shown(row, status=201, location=location, warnings=warnings)


def imported(
    given: Mapping[str, Any], abandoned: Event | None = None
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The connector that a document describes, loaded, and the warnings. Raises Rejected.

    It ends, with Abandoned, when `abandoned` is set.
    """
    source = read(given["document"], abandoned)
    info = source.member(source.document, "info", (), dict)
    title = source.member(info, "title", ("info",), str)
    base_url = given.get("upstream_base_url") or _base_url(source)
    auth_type, auth_config = _Security(source).connector_auth()
    own_headers = {name.lower() for name in auth_config.get("headers", {})}
    wanted = Wanted(given["only_tags"], given["only_paths"])
    named = None if "upstream_base_url" in given else base_url
    bodies = Bodies(source)
    found = endpoints_of(source, bodies, named, own_headers, wanted)
    if not found:
        source.fault(("paths",), "No operation that a connector could serve.")
        source.faults += source.warnings
    source.check()
    body = {
        "slug": given.get("slug") or _slug(title),
        "displayName": given.get("display_name") or _line(title)[:128],
        "description": source.member(info, "description", ("info",), str)[:1024],
        "documentationUrl": _documentation(source),
        "upstreamBaseUrl": base_url,
        "category": given["category"],
        "tags": given["tags"],
        "authType": auth_type,
        "authConfig": auth_config,
        "schemas": bodies.schemas,
    }
    source.check()
    item = connectors.CREATE.load({name: value for name, value in body.items() if value})
    return {**item, "endpoints": found}, source.told()


def _line(text_: str) -> str:
    return " ".join(text_.split())


def _slug(title: str) -> str:
    """A slug from a title. Raises Rejected when it has nothing for one."""
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:64].strip("-")
    if len(slug) < 2:
        fault = Fault("/slug", "Needed: the document's title gives none.")
        raise Rejected("validation_failed", fault.detail, errors=[fault])
    return slug


def _documentation(source: Source) -> str | None:
    found = source.member(source.document, "externalDocs", (), dict)
    url = source.member(found, "url", ("externalDocs",), str)
    return url if url.startswith(("https://", "http://")) and len(url) <= 512 else None


def _base_url(source: Source) -> str:
    """The first server's URL. Raises Rejected when the document has no absolute one."""
    servers = [*_servers(source)]
    for url, where in servers:
        if url.startswith(("https://", "http://")):
            try:
                hosts.check_base_url(url)
            except ValidationError as error:
                source.fault(where, str(error.messages[0]))
                source.check()
            if others := {other for other, _ in servers} - {url}:
                source.warn(("servers",), f"The first is taken, of {len(others) + 1}.")
            return url
    source.check()
    fault = Fault("/upstreamBaseUrl", "Needed: the document names no server by a whole URL.")
    raise Rejected("validation_failed", fault.detail, errors=[fault])


def _servers(source: Source) -> Iterator[tuple[str, Where]]:
    """Those of the document; of one that has none, those of its paths and operations."""
    yield from (own := [*servers_of(source, source.document, ())])
    if own:
        return
    for _, item, where in source.objects(source.document, "paths", ()):
        yield from servers_of(source, item, where)
        for verb, operation in item.items():
            if isinstance(operation, dict) and "servers" in operation:
                yield from servers_of(source, operation, (*where, verb))


class _Security:
    """What a document says of credentials, as a connector's `authType` and `authConfig`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        components = source.member(source.document, "components", (), dict)
        place: Where = ("components",)
        self._schemes = {
            name: (scheme, where)
            for name, scheme, where in source.objects(components, "securitySchemes", place)
        }

    def connector_auth(self) -> tuple[str, dict[str, Any]]:
        """The first way that is asked for and that a connector knows."""
        for requirement, where in self._requirements():
            if (found := self._auth(requirement, where)) is not None:
                return found
        return "none", {}

    def _requirements(self) -> Iterator[tuple[dict[str, Any], Where]]:
        """Those of the document, or else those of its operations."""
        source = self._source
        if source.document.get("security"):
            for _, requirement, where in source.objects(source.document, "security", ()):
                yield requirement, where
            return
        for _, item, place in source.objects(source.document, "paths", ()):
            for verb, operation in item.items():
                if isinstance(operation, dict):
                    for _, requirement, where in source.objects(
                        operation, "security", (*place, verb)
                    ):
                        yield requirement, where

    def _auth(
        self, requirement: Mapping[str, Any], where: Where
    ) -> tuple[str, dict[str, Any]] | None:
        """One requirement; several keys in header fields go together, of others one is taken."""
        headers: dict[str, str] = {}
        others: list[tuple[str, dict[str, Any]]] = []
        for name in requirement:
            if name not in self._schemes:
                self._source.fault((*where, name), "No security scheme of the document.")
                continue
            scheme, place = self._schemes[name]
            secret = _NOT_OF_A_NAME.sub("_", name)[:64].strip("_") or "key"
            if scheme.get("type") == "apiKey" and scheme.get("in") == "header":
                field = self._source.member(scheme, "name", place, str)
                headers[field] = f"{{{{secrets.{secret}}}}}"
            elif (found := self._scheme(scheme, secret, place)) is not None:
                others.append(found)
        if len(others) + bool(headers) > 1:
            self._source.warn(where, "Only the first of these credentials is put into requests.")
        if headers:
            return "header", {"headers": headers}
        return others[0] if others else None

    def _scheme(
        self, scheme: Mapping[str, Any], secret: str, where: Where
    ) -> tuple[str, dict[str, Any]] | None:
        kind = scheme.get("type")
        way = str(scheme.get("scheme", "")).lower() if kind == "http" else scheme.get("in", "")
        match kind, way:
            case "http", "bearer":
                return "bearer", {}
            case "http", "basic":
                return "basic", {}
            case "apiKey", "query":
                name = self._source.member(scheme, "name", where, str)
                return "query", {"paramName": name, "secretRef": secret}
            case (("oauth2" | "openIdConnect"), _):
                detail = "Tokens are not fetched: the secret `token` is sent as a bearer token."
                self._source.warn(where, detail)
                return "bearer", {}
            case _:
                detail = f"Left out: the gateway knows no credentials of the type {kind} {way}."
                self._source.warn(where, detail.replace(" .", "."))
                return None


RESOURCE: Final = Resource(
    "openapi_import",
    "openapi",
    (
        Route(
            "POST",
            "/import/openapi",
            "editor",
            create,
            Operation(
                ConnectorFromDocument,
                201,
                body=Import,
                etag=True,
                example={
                    "document": {
                        "openapi": "3.1.0",
                        "info": {"title": "Maps", "version": "2"},
                        "servers": [{"url": "https://maps.example.com/v2"}],
                        "paths": {"/find/{place}": {"get": {"operationId": "find"}}},
                    }
                },
                most_bytes=MOST_BYTES,
            ),
        ),
    ),
)
