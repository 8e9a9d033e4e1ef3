"""What the mock upstreams share: a server on loopback, and a call that a caller makes.

Each module beside this one is one service. It has `SECRETS`, `CALLS`, `VARIABLES` where its template
has some, and `start()`, which answers the base URL and what stops it. It is as strict as the
service's public documentation.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PARTS = {"Content-Type": "multipart/form-data; boundary=b"}

Stop = Callable[[], Awaitable[None]]


class Call(NamedTuple):
    """One call: the endpoint it reaches, what the caller sends, what comes back.

    `path` is the path below the connector with its query, `holds` a part of the answer's body.
    """

    endpoint: str
    method: str
    path: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    status: int = 200
    holds: bytes = b""


def get(endpoint: str, path: str, holds: bytes, status: int = 200) -> Call:
    """A call without a body."""
    return Call(endpoint, "GET", path, {}, b"", status, holds)


def send(
    endpoint: str, path: str, document: Any, holds: bytes, status: int = 200, method: str = "POST"
) -> Call:
    """A call with JSON."""
    return Call(endpoint, method, path, JSON, orjson.dumps(document), status, holds)


def form(endpoint: str, path: str, body: bytes, holds: bytes, status: int = 200) -> Call:
    """A call with a form."""
    return Call(endpoint, "POST", path, FORM, body, status, holds)


def delete(endpoint: str, path: str, holds: bytes, status: int = 200) -> Call:
    """A call that deletes."""
    return Call(endpoint, "DELETE", path, {}, b"", status, holds)


class Seen(NamedTuple):
    """A request as the service got it; `path` and `query` are raw."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of a header field."""
        wanted = name.lower().encode("ascii")
        return [value.decode("latin-1") for field, value in self.fields if field.lower() == wanted]

    def params(self, name: str) -> list[str]:
        """Every value of a query parameter, decoded."""
        return [
            value for key, value in parse_qsl(self.query, keep_blank_values=True) if key == name
        ]

    def is_json(self) -> bool:
        """True for exactly one Content-Type, that of JSON, and a body that is JSON."""
        if [kind.partition(";")[0] for kind in self.all("Content-Type")] != ["application/json"]:
            return False
        try:
            orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return False
        return True

    def kinds(self) -> list[str]:
        """The media types that it says its body has, without their parameters."""
        return [kind.partition(";")[0] for kind in self.all("Content-Type")]

    def form(self) -> dict[str, str]:
        """The body as a form."""
        return dict(parse_qsl(self.body.decode("ascii"), strict_parsing=True))

    def said(self) -> Mapping[str, Any]:
        """The body's members: those of a JSON object, or of a form."""
        if self.kinds() == ["application/x-www-form-urlencoded"]:
            return self.form()
        document = orjson.loads(self.body)
        return document if isinstance(document, dict) else {}


class Operation(NamedTuple):
    """One operation of a service: the media type and members it takes, and what it gives.

    `path` is a pattern for the whole path; `gives` is JSON, or makes the answer.
    """

    method: str
    path: str
    gives: Any
    takes: str = ""
    needs: tuple[str, ...] = ()
    status: int = 200


Refuse = Callable[[int, str], web.Response]


def table(
    operations: Sequence[Operation], allows: Callable[[Seen], bool], refuse: Refuse
) -> Callable[[Seen], web.Response]:
    """A service that is its operations, and refuses 401, 404, 415 and 400 in its own words."""

    def answer(seen: Seen) -> web.Response:
        if not allows(seen):
            return refuse(401, "unauthorized")
        found = [
            operation
            for operation in operations
            if operation.method == seen.method and re.fullmatch(operation.path, seen.path)
        ]
        return _given(found[0], seen, refuse) if found else refuse(404, "not found")

    return answer


def _given(operation: Operation, seen: Seen, refuse: Refuse) -> web.Response:
    if operation.takes:
        known = "json" not in operation.takes or _is_lines(operation) or seen.is_json()
        if seen.kinds() != [operation.takes] or not known or not seen.body:
            return refuse(415, f"the body must be {operation.takes}")
        if operation.needs and (missing := {*operation.needs} - seen.said().keys()):
            return refuse(400, f"{min(missing)} is missing")
    elif seen.body:
        return refuse(400, "no body is taken here")
    if callable(operation.gives):
        made: web.Response = operation.gives(seen)
        return made
    if operation.gives is None:
        return web.Response(status=operation.status)
    return reply(operation.gives, operation.status)


def _is_lines(operation: Operation) -> bool:
    return operation.takes.endswith("ndjson")


def reply(content: Any, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")


def events(*pieces: str) -> web.Response:
    """Server-sent events with these data."""
    text = "".join(f"data: {piece}\n\n" for piece in pieces)
    return web.Response(text=text, content_type="text/event-stream")


def basic(username: str, password: str) -> str:
    """The value of Authorization for Basic (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")


async def start(answer: Callable[[Seen], web.Response]) -> tuple[str, Stop]:
    """Serve on a free port of loopback; return the base URL and what stops it."""

    async def handle(request: web.BaseRequest) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        fields = tuple(request.raw_headers)
        seen = Seen(
            request.method, path, query, request.headers, fields, await request.content.read()
        )
        return answer(seen)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}", runner.cleanup
