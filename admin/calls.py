"""One admin request as handlers see it: its team, its body, its preconditions; and its answer.

Statements run through a call get the team as $1, so that no handler can forget it.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson
from aiohttp import web

from admin import access
from admin.control import CONTROL, Control
from admin.problems import REQUEST_ID
from gateway import yamls
from gateway.identity.jwts import Identity
from gateway.problems import Fault, Rejected

YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
_TAGS: Final = re.compile(r'(?:W/)?"[!#-~\x80-\xff]*"').findall
_DEEPEST: Final = 64
_MUCH: Final = 64 << 10
"""From how many bytes on a body is read beside the event loop."""


class TeamRows(Protocol):
    """What reads rows of one team: a call, or a write inside its transaction."""

    async def row(self, statement: str, *values: Any) -> dict[str, Any] | None: ...
    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request of a user for a team. `team` is empty only where a route needs none."""

    request: web.Request
    control: Control
    identity: Identity
    team: str
    role: str
    request_id: str

    @classmethod
    def of(cls, request: web.Request, needed: str) -> Call:
        """The call of an authenticated request. Raises Rejected `forbidden`."""
        identity = request.get(access.IDENTITY, access.NOBODY)
        team, role = access.membership(identity, request.headers.get("x-team-id") or None, needed)
        return cls(request, request.app[CONTROL], identity, team, role, request[REQUEST_ID])

    @property
    def client_address(self) -> str:
        """Where the request came from; empty for a Unix socket."""
        return self.request.remote or ""

    def part(self, name: str) -> str:
        """A parameter of the path. Raises Rejected `not_found` for what no object is called."""
        text = self.request.match_info[name]
        if not _is_storable(text):
            raise Rejected("not_found", "There is no such object.")
        return text

    def require(self, needed: str, what: str) -> None:
        """Raises Rejected `forbidden` when the caller's role is below the one needed for `what`."""
        if not access.allows(self.role, needed):
            raise Rejected(
                "forbidden", f"{what} needs the role {needed}; the token has {self.role}."
            )

    def expect(self, version: int | str) -> None:
        """Honour If-Match (RFC 9110 13.1.1). Raises Rejected `precondition_failed`.

        Of a tag its version counts, not what else the answer showed that it was sent with.
        """
        given, tags = self._tags("If-Match")
        if given and given != "*" and str(version) not in {_version(tag) for tag in tags}:
            raise stale()

    def is_known(self, tag: str) -> bool:
        """Whether If-None-Match has this tag, compared weakly (RFC 9110 13.1.2)."""
        given, tags = self._tags("If-None-Match")
        return given == "*" or tag in {each.removeprefix("W/") for each in tags}

    def _tags(self, name: str) -> tuple[str, list[str]]:
        """A field of the request, and the entity tags in it."""
        given = ",".join(self.request.headers.getall(name, [])).strip()
        return given, _TAGS(given)

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false. Raises Rejected `validation_failed`."""
        text = self.request.query.get(name, "false")
        if text not in {"true", "false"}:
            fault = Fault(f"/{name}", "Not true or false.")
            raise Rejected("validation_failed", f"{name} is true or false.", errors=[fault])
        return text == "true"

    def parameters(self) -> dict[str, str]:
        """The query parameters, each given once. Raises Rejected."""
        given = self.request.query
        if len(set(given)) < len(given):
            raise Rejected("bad_request", "A query parameter is given twice.")
        if not all(_is_storable(part) for pair in given.items() for part in pair):
            raise Rejected("bad_request", "The query has characters that cannot be kept.")
        return dict(given)

    async def body(self, *, optional: bool = False) -> dict[str, Any]:
        """The JSON object in the body; `{}` for no body where it is optional. Raises Rejected."""
        content = await self.request.read()
        if optional and not content:
            return {}
        kind = self.request.content_type
        if kind != "application/json" and not kind.endswith("+json"):
            raise Rejected("unsupported_media_type", "The body must be application/json.")
        if len(content) < _MUCH:
            return _object(content)
        return await asyncio.to_thread(_object, content)

    async def document(self) -> dict[str, Any]:
        """The object in a body of JSON or YAML. Raises Rejected."""
        if self.request.content_type not in YAML:
            return await self.body()
        content = await self.request.read()
        try:
            document = await asyncio.to_thread(lambda: yamls.parse(content.decode("utf-8")))
        except (yamls.NotYaml, UnicodeDecodeError) as error:
            raise Rejected("bad_request", f"The body is not YAML: {error}.") from error
        return _checked(document)

    async def row(self, statement: str, *values: Any) -> dict[str, Any] | None:
        """The first row of a query on the team's rows."""
        row = await self.control.database.row(statement, self.team, *values)
        return None if row is None else dict(row)

    async def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """The rows of a query on the team's rows."""
        return list(map(dict, await self.control.database.rows(statement, self.team, *values)))


AdminHandler = Callable[[Call], Awaitable[web.StreamResponse]]


def etag(version: int | str, content: bytes) -> str:
    """The strong entity tag (RFC 9110 8.8.3) of a digest, or of a version and what is answered.

    An answer may also show what makes no new version, such as a connector's health.
    """
    return f'"{version}"' if isinstance(version, str) else f'"{version}-{zlib.crc32(content):08x}"'


def _version(tag: str) -> str:
    """The version or digest in a strong tag; empty for a weak one."""
    return tag[1:-1].partition("-")[0] if tag.startswith('"') else ""


def stale() -> Rejected:
    """The one text for a version that is not the current one any more."""
    return Rejected(
        "precondition_failed", "The object has changed: read it again, then repeat this."
    )


def answer(
    document: Any, *, status: int = 200, version: int | str | None = None, location: str = ""
) -> web.Response:
    """A JSON answer. `location` is relative to the request, so that any path prefix stays."""
    content = orjson.dumps(document)
    headers = {"ETag": etag(version, content)} if version is not None else {}
    if location:
        headers["Location"] = location
    return web.Response(
        status=status,
        body=content,
        content_type="application/json",
        headers=headers,
    )


def unless_known(call: Call, response: web.StreamResponse) -> web.StreamResponse:
    """The answer to a read: 304 when the caller has it already (RFC 9110 15.4.5)."""
    tag = response.headers.get("ETag", "")
    return (
        web.Response(status=304, headers={"ETag": tag}) if tag and call.is_known(tag) else response
    )


def nothing() -> web.Response:
    """204: done, and there is nothing to tell."""
    return web.Response(status=204)


def _object(content: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        detail = f"The body is not JSON: {error.msg} at position {error.pos}."
        raise Rejected("bad_request", detail) from error
    return _checked(document)


def _checked(document: Any) -> dict[str, Any]:
    check_storable(document)
    if not isinstance(document, dict):
        fault = Fault("", "Not an object.")
        raise Rejected("validation_failed", "The body is not an object.", errors=[fault])
    return document


def _is_storable(text: str) -> bool:
    """False for what PostgreSQL's text cannot hold: NUL, and halves of surrogate pairs."""
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def check_storable(document: Any) -> None:
    """Raises Rejected `bad_request` for what PostgreSQL can't keep, and for what is too deep.

    Without recursion, as the depth is the caller's choice.
    """
    waiting = [(document, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > _DEEPEST:
            raise Rejected("bad_request", f"The body is nested more than {_DEEPEST} levels deep.")
        if isinstance(node, str) and not _is_storable(node):
            raise Rejected("bad_request", "The body has a NUL character, which cannot be kept.")
        if isinstance(node, dict):
            waiting += [(part, depth + 1) for pair in node.items() for part in pair]
        elif isinstance(node, list):
            waiting += [(part, depth + 1) for part in node]
