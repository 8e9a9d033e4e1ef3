"""What the mock upstreams share: a server on loopback, and a call that a caller makes.

Each module beside this one is one service. It has `SECRETS`, `CALLS`, and `start()`, which answers
the base URL and what stops it. It is as strict as the service's public documentation.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

JSON = {"Content-Type": "application/json"}

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
        seen = Seen(request.method, path, query, request.headers, fields, await request.read())
        return answer(seen)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}", runner.cleanup
