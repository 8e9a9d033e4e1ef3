"""The description of the admin API: OpenAPI 3.1, made from the schemas that check its requests.

What a route takes and answers stands beside its handler, whose words are the summary; what all
routes share stands here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from aiohttp import web
from marshmallow import fields

from admin.access import ANYONE, CSRF, EVERYONE
from admin.openapi.json_schemas import Components
from admin.routes import Resource, Route, Shape
from gateway.http.origin import SECURE_COOKIE, SESSION_COOKIE
from gateway.problems import DOCUMENTATION, KINDS, MEDIA_TYPE, SCHEMA

DESCRIPTION: Final[web.AppKey[Callable[[], bytes]]] = web.AppKey("description")
"""Gives an application's description."""

INTRODUCTION: Final = """\
Everything that can be done with the gateway's connectors, keys and plans.

**Credentials.** `Authorization: Bearer` with a JWT, and `x-team-id` with the team that the request is
for (it may be left out when the token holds one team). Gateway keys (`gw_…`) are refused here.

**Writes.** Send the `ETag` of what you have read as `If-Match`: when somebody was faster, the answer is
412 and nothing has changed. PUT replaces everything, PATCH what is given; null clears a field.
`?dryRun=true` does everything but keep it.

**Reads** that have an `ETag` answer 304 when `If-None-Match` has it.

**Lists** come in pages: ask again with `nextCursor` as `cursor` until it is null.

**Errors** are `application/problem+json` (RFC 9457) with a stable `code`; `errors` points into the body.
"""
_REQUEST_ID: Final = {
    "description": "The request's id, in every log line and audit row.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
}
_ETAG: Final = {
    "description": "The version of what is answered, for If-Match.",
    "schema": {"type": "string"},
    "example": '"7"',
}
_LOCATION: Final = {
    "description": "Where the new object is, relative to this request.",
    "schema": {"type": "string"},
}
_IF_MATCH: Final = {
    "name": "If-Match",
    "in": "header",
    "description": "The ETag of the version that this shall change.",
    "schema": {"type": "string"},
    "example": '"7"',
}
_IF_NONE_MATCH: Final = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of what is there already: when one is still right, the answer is 304.",
    "schema": {"type": "string"},
    "example": '"7"',
}
_TEAM: Final = {
    "name": "x-team-id",
    "in": "header",
    "description": "The team that the request is for; needed when the token holds several.",
    "schema": {"type": "string", "minLength": 1},
    "example": "acme",
}
_SECURITY: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A JWT of the identity provider, or of `service-gateway token`.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": SESSION_COOKIE,
        "description": f"The admin UI's own, {SECURE_COOKIE} under https; "
        f"writes need a request of the same origin, or {CSRF}.",
    },
}
_NEEDS: Final = {EVERYONE: "No token is needed.", ANYONE: "Any valid token will do."}
_DRY_RUN: Final = "Do everything but keep it."
_PARTS: Final = {
    "connector": "A connector's id or slug.",
    "name": "A secret's name.",
}
TAGS: Final[Mapping[str, str]] = {
    "connectors": "Upstream APIs of a team. "
    "Callers get what was published last; edits are a draft until then.",
    "endpoints": "The routes of a connector, their rules and their mapping.",
    "secrets": "What a connector shows its upstream: written, never read.",
    "versions": "What each publish froze, how two differ, and the way back.",
    "trials": "Whether an upstream answers as it should, and why a request is answered as it is.",
    "keys": "The credentials of callers. A value is told once.",
    "plans": "Rates and quotas that keys are put on.",
    "templates": "Connectors from templates, and back.",
    "openapi": "Connectors from OpenAPI documents, and a document of each connector.",
    "usage": "What was called: as a whole, over time, and call by call.",
    "health": "How upstreams do, and how they did.",
    "audit": "Who changed what, and when.",
    "state": "Everything that a team has, as one document.",
    "session": "Who asks, and the session of a browser.",
}
"""What resources are grouped by, with a sentence on each group."""


def written(resources: Sequence[Resource]) -> bytes:
    """The description of resources, as JSON."""
    return orjson.dumps(described(resources), option=orjson.OPT_INDENT_2)


def described(resources: Sequence[Resource]) -> dict[str, Any]:
    """The description of resources."""
    components = Components()
    responses: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    routes = [route for resource in resources for route in resource.routes]
    for resource in resources:
        for route in resource.routes:
            writer = _Writer(components, responses, resource, route)
            paths.setdefault(route.path, {})[route.method.lower()] = writer.operation()
    for route in routes:
        answers = paths[route.path][route.method.lower()]["responses"]
        if "201" in answers and (links := _links(route, routes, paths)):
            answers["201"]["links"] = links
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Service Gateway admin API",
            "version": "1",
            "description": INTRODUCTION,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "../admin", "description": "This gateway."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "responses": dict(sorted(responses.items())),
            "schemas": {**components.schemas(), "Problem": SCHEMA},
        },
    }


def _links(
    created: Route, routes: Sequence[Route], paths: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Where one can go from a new object: to the routes right below the list that it is in."""
    if created.method != "POST":
        return {}
    own = re.compile(re.escape(created.path) + r"/\{(\w+)\}(?:/[^{}]+)?").fullmatch
    outer = {name: f"$request.path.{name}" for name in re.findall(r"\{(\w+)\}", created.path)}
    return {
        operation["operationId"].replace(".", "_"): {
            "operationId": operation["operationId"],
            "parameters": {**outer, found[1]: "$response.body#/id"},
        }
        for route in routes
        if (found := own(route.path)) is not None
        for operation in [paths[route.path][route.method.lower()]]
    }


def _paragraph(documented: Any) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())


class _Writer:
    """Writes the operation object of one route."""

    def __init__(
        self,
        components: Components,
        responses: dict[str, Any],
        resource: Resource,
        route: Route,
    ) -> None:
        self._components = components
        self._shared = responses
        self._resource = resource
        self._route = route
        self._said = route.operation

    def operation(self) -> dict[str, Any]:
        """The whole of it."""
        route, said = self._route, self._said
        summary = re.sub(r"^[A-Z]+: ", "", _paragraph(route.handler))
        needs = _NEEDS.get(route.role, f"Needs the role `{route.role}`.")
        made: dict[str, Any] = {
            "operationId": f"{self._resource.name}.{route.handler.__name__}",
            "tags": [self._resource.tag],
            "summary": f"{summary[:1].upper()}{summary[1:]}",
            "description": f"{said.about} {needs}".strip(),
            "security": [] if route.role == EVERYONE else [{"token": []}, {"session": []}],
            "parameters": self._parameters(),
            "responses": self._responses(),
        }
        if said.body is not None:
            content = {"schema": self._body(said.body)}
            if said.example is not None:
                content["example"] = said.example
            required = not said.body_optional
            made["requestBody"] = {"required": required, "content": {"application/json": content}}
        return made

    def _parameters(self) -> list[dict[str, Any]]:
        route, said = self._route, self._said
        made: list[dict[str, Any]] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": _PARTS.get(name, f"The id of the {name}."),
                "schema": {"type": "string", "minLength": 1},
            }
            for name in re.findall(r"\{(\w+)\}", route.path)
        ]
        if said.query is not None:
            made += self._components.parameters(said.query)
        if route.method != "GET":
            for flag, about in sorted({"dryRun": _DRY_RUN, **said.flags}.items()):
                switch = {"type": "boolean", "default": False}
                made.append({"name": flag, "in": "query", "description": about, "schema": switch})
        if said.if_match:
            made.append(_IF_MATCH)
        if said.etag and route.method == "GET":
            made.append(_IF_NONE_MATCH)
        return [*made, _TEAM]

    def _body(self, of: Any) -> dict[str, Any]:
        if isinstance(of, dict):
            return of
        if isinstance(of, fields.Field):
            return self._components.field(of)
        use = "patch" if self._route.method == "PATCH" else "body"
        return self._components.reference(of, use)

    def _answer(self, of: Shape) -> dict[str, Any]:
        schema = of if isinstance(of, dict) else self._components.reference(of, "answer")
        if not self._said.many:
            return schema
        cursor = {"type": ["string", "null"], "description": "The cursor of the next page."}
        return {
            "type": "object",
            "required": ["items", "nextCursor"],
            "properties": {"items": {"type": "array", "items": schema}, "nextCursor": cursor},
        }

    def _responses(self) -> dict[str, Any]:
        said = self._said
        headers: dict[str, Any] = {"X-Request-Id": _REQUEST_ID}
        if said.etag:
            headers["ETag"] = _ETAG
        if said.status == 201:
            headers["Location"] = _LOCATION
        good: dict[str, Any] = {"description": HTTPStatus(said.status).phrase, "headers": headers}
        if said.status != 204:
            schema = {} if said.answer is None else {"schema": self._answer(said.answer)}
            good["content"] = dict.fromkeys(said.media_types, schema)
        made = {str(said.status): good}
        if said.etag and self._route.method == "GET":
            phrase = HTTPStatus(304).phrase
            made["304"] = {"description": phrase, "headers": headers}
        for status, shape in said.also:
            content = {"application/json": {"schema": self._answer(shape)}}
            phrase = HTTPStatus(status).phrase
            made[str(status)] = {
                "description": phrase,
                "headers": {"X-Request-Id": _REQUEST_ID},
                "content": content,
            }
        by_status: dict[int, list[str]] = {}
        for code in sorted(self._codes()):
            by_status.setdefault(KINDS[code].status, []).append(code)
        for status, codes in sorted(by_status.items()):
            made[str(status)] = self._problem(status, codes)
        return made

    def _codes(self) -> set[str]:
        """The codes of the errors that this route may give."""
        route, said = self._route, self._said
        codes = {"bad_request", "forbidden", "internal", "store_unavailable", "unauthenticated"}
        codes.update(said.codes)
        if "{" in route.path:
            codes.add("not_found")
        if said.query is not None or route.method != "GET":
            codes.add("validation_failed")
        if said.if_match:
            codes.add("precondition_failed")
        if said.body is not None:
            codes |= {"payload_too_large", "unsupported_media_type"}
        if route.method != "GET":
            codes.add("conflict")
        return codes

    def _problem(self, status: int, codes: list[str]) -> dict[str, Any]:
        """The answer of a status; one for all operations that give the same codes with it."""
        name = "".join(word.capitalize() for code in codes for word in code.split("_"))
        if name not in self._shared:
            example = {
                "type": DOCUMENTATION + codes[0],
                "title": KINDS[codes[0]].title,
                "status": status,
                "detail": KINDS[codes[0]].title + ".",
                "code": codes[0],
                "requestId": "01a20fb8-a448-7b99-b300-81468b18847a",
                "retryable": KINDS[codes[0]].retryable,
            }
            schema = {
                "$ref": "#/components/schemas/Problem",
                "properties": {"code": {"enum": codes}},
            }
            headers: dict[str, Any] = {"X-Request-Id": _REQUEST_ID}
            if status == 503:
                headers["Retry-After"] = {"schema": {"type": "integer", "minimum": 1}}
            if status == 401:
                headers["WWW-Authenticate"] = {"schema": {"type": "string"}}
            self._shared[name] = {
                "description": " ".join(f"`{code}`: {KINDS[code].title}." for code in codes),
                "headers": headers,
                "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
            }
        return {"$ref": f"#/components/responses/{name}"}


async def show(request: web.Request) -> web.Response:
    """GET: the description of this API."""
    return web.Response(body=request.app[DESCRIPTION](), content_type="application/json")
