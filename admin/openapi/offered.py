"""What a connector offers to its callers, as OpenAPI 3.1: for their code generators and consoles.

It is what callers get now, the published version; of a connector that is not published, the draft.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web

import sql
from admin import endpoints, hosts
from admin.calls import Call
from admin.fields import Wire, choice, text
from admin.references import connector
from admin.routes import Operation, Resource, Route
from admin.shapes import OBJECT, TEXT, record, several
from gateway import yamls
from gateway.model import EndpointDefinition
from gateway.problems import KINDS, MEDIA_TYPE, SCHEMA
from gateway.transform.compiling import definition_of
from gateway.transform.definitions import alone
from gateway.transform.routes import Pattern, parse

_SCHEMAS: Final = "#/components/schemas/"
_PUBLISHED: Final = sql.query("connectors.published")
_YAML: Final = "application/yaml"
"""RFC 9512; browsers and older programs say text/yaml or application/x-yaml."""
_ALWAYS: Final = frozenset(
    {
        *("bad_request", "unauthenticated", "forbidden", "connector_not_found"),
        *("endpoint_not_found", "rate_limited", "quota_exceeded", "too_many_concurrent"),
        *("secret_missing", "circuit_open", "store_unavailable", "overloaded", "draining"),
        *("upstream_blocked", "upstream_unavailable", "upstream_invalid", "upstream_timeout"),
        "internal",
    }
)
_ENVELOPE: Final[dict[str, Any]] = {
    "type": "object",
    "description": "The upstream's answer in the gateway's envelope.",
    "required": ["success", "data", "meta"],
    "properties": {
        "success": {"type": "boolean"},
        "data": {"description": "What the upstream answered."},
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        },
        "meta": {
            "type": "object",
            "properties": {
                "connector": {"type": "string"},
                "upstreamStatus": {"type": "integer"},
                "latencyMs": {"type": "number"},
                "cached": {"type": "boolean"},
                "timestamp": {"type": "string", "format": "date-time"},
                "requestId": {"type": "string"},
            },
        },
    },
}
_SECURITY: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A gateway key (`gw_…`), or a JWT with the team in `x-team-id`.",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A gateway key (`gw_…`).",
    },
}


class DocumentQuery(Wire):
    """In which form, and where callers reach the gateway: its URL without the connector."""

    format = choice(("json", "yaml"))
    server = text(2048, least=1, rules=(hosts.check_base_url,))


OPENAPI: Final = record(
    "An OpenAPI 3.1 document.",
    may=("externalDocs",),
    openapi=TEXT,
    info=OBJECT,
    servers=several(OBJECT),
    security=several(OBJECT),
    paths=OBJECT,
    components=OBJECT,
    externalDocs=OBJECT,
)
_QUERY: Final = DocumentQuery()


async def show(call: Call) -> web.Response:
    """GET: the OpenAPI document of what a connector offers to callers."""
    given = _QUERY.load(call.parameters())
    row = await connector(call, call.part("connector"))
    published = await call.row(_PUBLISHED, row["id"])
    if published is None:
        own = [entry for entry in await endpoints.every(call, row["id"]) if entry["enabled"]]
        definition: Mapping[str, Any] = row
    else:
        snapshot = published["snapshot"]
        definition = snapshot["definition"]
        own = [{**entry["definition"], **entry} for entry in snapshot["endpoints"]]
        own = [entry for entry in own if entry.get("enabled", True)]
    # Relative to where the document is read, so that any path prefix stays.
    server = given["server"].rstrip("/") if "server" in given else "../../.."
    document = described(row, definition, own, f"{server}/{row['slug']}")
    if given.get("format", _asked_for(call.request)) == "yaml":
        written = await asyncio.to_thread(yamls.render, document)
        return web.Response(text=written, content_type=_YAML)
    return web.Response(body=orjson.dumps(document), content_type="application/json")


def _asked_for(request: web.Request) -> str:
    """The form that Accept names first; JSON unless it is YAML (RFC 9110 12.5.1)."""
    for part in request.headers.get("Accept", "").lower().split(","):
        subtype = part.partition(";")[0].strip().rpartition("/")[2]
        if subtype in {"json", "*"}:
            return "json"
        if subtype.removeprefix("x-").removeprefix("vnd.oai.openapi+") == "yaml":
            return "yaml"
    return "json"


def described(
    row: Mapping[str, Any],
    definition: Mapping[str, Any],
    own: Sequence[Mapping[str, Any]],
    server: str,
) -> dict[str, Any]:
    """The document of a connector's row, with the definition and endpoints that callers get."""
    paths: dict[str, dict[str, Any]] = {}
    components = _Components(definition.get("schemas", {}))
    codes: set[str] = set()
    patterns: dict[Any, Pattern] = {}
    for entry in sorted(own, key=lambda entry: (entry["path"], entry["method"])):
        pattern = parse(entry["path"])
        # Paths that differ in nothing but the names of parameters are one path there.
        pattern = patterns.setdefault(pattern.shape, pattern)
        stated = definition_of(EndpointDefinition, entry)
        mode = stated.response_mode or definition.get("response_mode", "raw")
        writer = _Writer(entry, stated, pattern, mode, components)
        paths.setdefault(_template(pattern), {})[entry["method"].lower()] = writer.operation()
        codes |= writer.codes
    info = {
        "title": row["display_name"],
        "version": str(row["published_version"] or f"draft-{row['version']}"),
        "description": definition.get("description", ""),
    }
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {name: value for name, value in info.items() if value},
        "servers": [{"url": server}],
        "security": [{name: []} for name in _SECURITY],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "schemas": components.schemas,
            "responses": {
                _name(status): _problem(status, group) for status, group in _by_status(codes)
            },
        },
    }
    if url := definition.get("documentation_url"):
        document["externalDocs"] = {"url": url}
    return document


def _by_status(codes: set[str]) -> Iterator[tuple[int, list[str]]]:
    """The codes of each status, in the order of the statuses."""
    statuses = sorted({KINDS[code].status for code in codes})
    for status in statuses:
        yield status, sorted(code for code in codes if KINDS[code].status == status)


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def _problem(status: int, group: list[str]) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    headers: dict[str, Any] = {"X-Request-Id": {"schema": {"type": "string"}}}
    if status in {429, 503}:
        about = "Seconds until it may work again."
        headers["Retry-After"] = {"description": about, "schema": {"type": "integer"}}
    return {
        "headers": headers,
        "description": " ".join(f"`{code}`: {KINDS[code].title}." for code in group),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


class _Components:
    """The schemas of a document: the gateway's own, those of bodies, and what these lead to."""

    def __init__(self, shared: Mapping[str, Any]) -> None:
        self._shared = shared
        self._names: dict[str, str] = {}
        self._waiting: list[str] = []
        self.schemas: dict[str, Any] = {"Problem": SCHEMA, "Envelope": _ENVELOPE}

    def body(self, name: str, schema: Any) -> dict[str, Any]:
        """Where the schema of an endpoint's body is, with its own references made to lead there."""
        if (known := alone(schema)) in self._shared:
            place = self._place(str(known))
        else:
            base = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
            own = schema.get("$defs", {}) if isinstance(schema, dict) else {}
            place = self._add(self._free(f"{base}.body"), schema, self._shared.keys() - own.keys())
        while self._waiting:
            known = self._waiting.pop()
            self._add(self._names[known], self._shared[known], self._shared.keys())
        return {"$ref": place}

    def _add(self, name: str, schema: Any, shared: Collection[str]) -> str:
        place = f"{_SCHEMAS}{name}"
        self.schemas[name] = self._relocated(schema, place, shared)
        return place

    def _place(self, known: str) -> str:
        """Where one of the connector's will be, which comes along when it is first named."""
        if known not in self._names:
            self._names[known] = name = self._free(known)
            self.schemas[name] = {}
            self._waiting.append(known)
        return f"{_SCHEMAS}{self._names[known]}"

    def _free(self, base: str) -> str:
        names = (f"{base}{number or ''}" for number in itertools.count())
        return next(name for name in names if name not in self.schemas)

    def _relocated(self, schema: Any, root: str, shared: Collection[str]) -> Any:
        """A JSON Schema for another place: what was its root is there. One with an `$id` may stay."""
        if isinstance(schema, list):
            return [self._relocated(part, root, shared) for part in schema]
        if not isinstance(schema, dict) or "$id" in schema:
            return schema
        return {
            name: self._led(value, root, shared)
            if _is_pointer(name, value)
            else self._relocated(value, root, shared)
            for name, value in schema.items()
        }

    def _led(self, reference: str, root: str, shared: Collection[str]) -> str:
        _, _, path = reference.partition("#/$defs/")
        name, slash, rest = path.partition("/")
        return f"{self._place(name)}{slash}{rest}" if name in shared else root + reference[1:]


class _Writer:
    """Writes the operation object of one endpoint."""

    def __init__(
        self,
        entry: Mapping[str, Any],
        stated: EndpointDefinition,
        pattern: Pattern,
        response_mode: str,
        components: _Components,
    ) -> None:
        self._entry = entry
        self._stated = stated
        self._pattern = pattern
        self._response_mode = response_mode
        self._components = components
        self.codes = set(_ALWAYS)
        self._takes_body = entry["method"] not in {"GET", "HEAD", "DELETE"} or bool(
            stated.media_types or stated.body_schema is not None
        )
        if self._takes_body:
            self.codes.add("payload_too_large")
        if stated.media_types:
            self.codes.add("unsupported_media_type")
        if stated.required_headers or self._checks_body:
            self.codes.add("validation_failed")

    @property
    def _checks_body(self) -> bool:
        stated = self._stated
        return bool(
            stated.body_schema is not None
            or stated.body_pattern is not None
            or stated.body_blacklist
            or stated.body_transform not in {"passthrough", "static"}
        )

    def operation(self) -> dict[str, Any]:
        """The whole of it."""
        made: dict[str, Any] = {
            "operationId": self._entry["name"],
            "summary": self._entry["name"],
            "description": self._stated.description,
            "parameters": [*self._parameters()],
            "responses": self._responses(),
        }
        if self._takes_body:
            made["requestBody"] = self._body()
        return {name: value for name, value in made.items() if value not in ("", [])}

    def _parameters(self) -> Iterator[dict[str, Any]]:
        many = {segment.parameter for segment in self._pattern.segments if segment.many}
        for name in self._pattern.parameters:
            text = {"type": "string", "minLength": 1}
            made = {"name": name, "in": "path", "required": True, "schema": text}
            yield {**made, "description": "One segment or several."} if name in many else made
        for name, default in self._stated.default_query_params.items():
            yield {"name": name, "in": "query", "schema": {"type": "string", "default": default}}
        for name in self._stated.required_headers:
            # Accept, Content-Type and Authorization are told elsewhere (OpenAPI 3.1, 4.8.12.1).
            if name.lower() not in {"accept", "authorization", "content-type"}:
                yield {
                    "name": name,
                    "in": "header",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1},
                }

    def _body(self) -> dict[str, Any]:
        stated = self._stated
        content: dict[str, Any] = {}
        if stated.body_schema is not None:
            content["schema"] = self._components.body(self._entry["name"], stated.body_schema)
        examples = {
            f"example{number}": {"value": example.get("body", example)}
            for number, example in enumerate(stated.examples, 1)
        }
        if examples:
            content["examples"] = examples
        usual = "application/json" if self._checks_body else "*/*"
        return {
            "required": self._checks_body,
            "content": dict.fromkeys(stated.media_types or (usual,), content),
        }

    def _responses(self) -> dict[str, Any]:
        good: dict[str, Any] = {"description": "What the upstream answers."}
        if self._response_mode == "envelope":
            schema = {"$ref": "#/components/schemas/Envelope"}
            good["content"] = {"application/json": {"schema": schema}}
        made: dict[str, Any] = {"2XX": good}
        for status, _ in _by_status(self.codes):
            made[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}
        return {**made, "default": {"description": "What else the upstream answers."}}


def _template(pattern: Pattern) -> str:
    """The path with its parameters as OpenAPI writes them."""
    parts = [
        f"{{{segment.parameter}}}{segment.literal}" if segment.parameter else segment.literal
        for segment in pattern.segments
    ]
    return "/" + "/".join(parts)


def _is_pointer(name: str, value: Any) -> bool:
    """True for a reference to a place of the same document."""
    return name == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/"))


RESOURCE: Final = Resource(
    "connector_openapi",
    "openapi",
    (
        Route(
            "GET",
            "/connectors/{connector}/openapi",
            "viewer",
            show,
            Operation(OPENAPI, query=DocumentQuery, media_types=("application/json", _YAML)),
        ),
    ),
)
