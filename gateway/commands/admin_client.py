"""A client of the admin API for the command line: one request at a time, over TCP or a Unix socket.

What goes wrong is told in lines that say what to do; the token is in none of them.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import orjson

from gateway.planes import ADMIN_PLANE
from gateway.problems import quoted

_TIMEOUT_S: Final = 600.0
"""A document with thousands of objects takes a minute."""
_UNIX: Final = "unix:"


class CallFault(Exception):
    """The admin API can't be used or refuses; the lines say what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Answer(NamedTuple):
    """What came back: the body, and the entity tag of what it shows."""

    content: bytes
    etag: str

    @property
    def document(self) -> Any:
        """The body as JSON. Raises CallFault."""
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError:
            raise CallFault("the answer is not JSON: is this the gateway's admin API?") from None


class AdminClient:
    """Calls the admin API at `http://host:port/prefix`, `https://…` or `unix:/path`.

    `place` tells where in the user's own files a JSON pointer of a refusal leads.
    """

    def __init__(
        self, url: str, token: str, team: str = "", place: Callable[[str], str] = str
    ) -> None:
        self._url = url.rstrip("/")
        self._place = place
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "service-gateway"}
        if team:
            self._headers["x-team-id"] = team
        if not all(value.isascii() and value.isprintable() for value in self._headers.values()):
            raise CallFault("the token and the team are printable ASCII: look at --token, --team")

    def get(self, path: str, query: Mapping[str, str]) -> Answer:
        """Read something. Raises CallFault."""
        return self._call("GET", path, query, None, {})

    def post(self, path: str, query: Mapping[str, str], body: Any, *, if_match: str = "") -> Answer:
        """Write something, if it is still what `if_match` says. Raises CallFault."""
        headers = {"Content-Type": "application/json"}
        if if_match:
            headers["If-Match"] = if_match
        return self._call("POST", path, query, orjson.dumps(body), headers)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> Answer:
        connection, prefix = _connection(self._url)
        target = f"{prefix}{ADMIN_PLANE}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            connection.request(method, target, body, {**self._headers, **headers})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CallFault(
                f"{self._url} does not answer ({reason}): start the gateway, or say where it is "
                "with --url"
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise self._refusal(response.status, content)
        return Answer(content, response.headers.get("ETag", ""))

    def _refusal(self, status: int, content: bytes) -> CallFault:
        try:
            problem = orjson.loads(content)
            detail, errors = str(problem["detail"]), problem.get("errors", [])
            spots = [f"{self._place(e['pointer'])}: {e['detail']}" for e in errors]
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return CallFault(f"{self._url} answers {status}: is it the gateway's admin API?")
        if status == 412:
            return CallFault("the state has changed meanwhile: run the command again")
        if status == 401:
            detail = "the token is refused: give another one (service-gateway token mints it)"
        return CallFault(*spots) if spots else CallFault(detail)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def _connection(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not yet made, and the path in front of the API's. Raises CallFault."""
    if url.startswith(_UNIX):
        return _UnixConnection(url.removeprefix(_UNIX)), ""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    if not host or parts.scheme not in kinds or parts.query or parts.fragment or "@" in url:
        raise CallFault(
            f"{quoted(url)} is no URL such as http://127.0.0.1:8080 or unix:/path: see --url"
        )
    return kinds[parts.scheme](host, port, timeout=_TIMEOUT_S), parts.path


def local_url(listen: str, base_path: str) -> str:
    """Where a listener of this machine is reached: an address of all interfaces by loopback."""
    if listen.startswith(_UNIX):
        return listen
    host, _, port = listen.rpartition(":")
    loopback = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - looked for, not bound
    return f"http://{loopback.get(host, host)}:{port}{base_path}"
