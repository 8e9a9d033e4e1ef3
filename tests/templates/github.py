"""GitHub's REST API by its reference: a User-Agent and a known version are asked for."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import Call, Operation, Seen, Stop, get, reply, send, table

SECRETS = {"token": "github_pat_upstream"}
VARIABLES: dict[str, str] = {}
_REPO = "/repos/octocat/hello.world"
_DIFF = {"Accept": "application/vnd.github.diff"}
_FLOW = f"{_REPO}/actions/workflows/ci.yml/dispatches"
_FILE = f"{_REPO}/contents/docs/a%20b/notes.txt"
_NEW = {"message": "m", "content": "aGk="}

CALLS = [
    get("get-user", "/user", b'"login"'),
    get("list-repositories", "/user/repos?per_page=5", b"hello.world"),
    get("get-repository", _REPO, b'"full_name"'),
    get("get-repository", "/repos/octocat/none", b'"message":"not found"', 404),
    get("get-content", f"{_FILE}?ref=main", b'"encoding":"base64"'),
    send("put-content", _FILE, _NEW, b'"commit"', 201, "PUT"),
    get("list-commits", f"{_REPO}/commits?sha=main", b'"sha"'),
    get("list-issues", f"{_REPO}/issues?state=all", b'"number":7'),
    send("create-issue", f"{_REPO}/issues", {"title": "t"}, b'"number":7', 201),
    send("create-issue", f"{_REPO}/issues", {"body": "t"}, b"title is missing", 422),
    get("get-issue", f"{_REPO}/issues/7", b'"number":7'),
    send("update-issue", f"{_REPO}/issues/7", {"state": "closed"}, b'"number"', 200, "PATCH"),
    send("create-comment", f"{_REPO}/issues/7/comments", {"body": "b"}, b'"body"', 201),
    get("list-pull-requests", f"{_REPO}/pulls", b'"number":8'),
    get("get-pull-request", f"{_REPO}/pulls/8", b'"number":8'),
    Call("get-pull-request", "GET", f"{_REPO}/pulls/8", _DIFF, b"", 200, b"diff --git"),
    send("dispatch-workflow", _FLOW, {"ref": "main"}, b"", 204),
    get("search-repositories", "/search/repositories?q=a+language:python", b'"total_count"'),
    get("search-issues", "/search/issues?q=is:open", b'"total_count"'),
    get("get-rate-limit", "/rate_limit", b'"remaining"'),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(_answer)


def _answer(seen: Seen) -> web.Response:
    if len(seen.all("User-Agent")) != 1:
        return web.Response(text="Request forbidden by administrative rules.", status=403)
    if seen.all("X-GitHub-Api-Version") != ["2022-11-28"]:
        return _fault(400, "the version is not supported")
    return _TABLE(seen)


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [f"Bearer {SECRETS['token']}"]


def _pull(seen: Seen) -> web.Response:
    if seen.all("Accept") == [_DIFF["Accept"]]:
        return web.Response(text="diff --git a/x b/x\n", content_type=_DIFF["Accept"])
    return reply(_PULL)


def _fault(status: int, message: str) -> web.Response:
    """What is missing in a body is told with 422."""
    told = 422 if message.endswith("missing") else status
    document = {"message": message, "documentation_url": "https://docs.github.com/rest"}
    return reply({**document, "status": str(told)}, told)


_KIND = "application/json"
_DESCRIBED = {"id": 1, "name": "hello.world", "full_name": "octocat/hello.world"}
_ISSUE, _PULL, _COMMIT = {"number": 7, "title": "t"}, {"number": 8}, {"sha": "6dcb09b"}
_FOUND = {"total_count": 1, "incomplete_results": False, "items": [_ISSUE]}
_CONTENT = {"type": "file", "encoding": "base64", "content": "aGk="}
_OPERATIONS = [
    Operation("GET", "/user", {"login": "octocat"}),
    Operation("GET", "/user/repos", [_DESCRIBED]),
    Operation("GET", _REPO, _DESCRIBED),
    Operation("GET", _FILE, _CONTENT),
    Operation("PUT", _FILE, {"commit": _COMMIT}, _KIND, ("message", "content"), 201),
    Operation("GET", f"{_REPO}/commits", [_COMMIT]),
    Operation("GET", f"{_REPO}/issues", [_ISSUE]),
    Operation("POST", f"{_REPO}/issues", _ISSUE, _KIND, ("title",), 201),
    Operation("GET", f"{_REPO}/issues/7", _ISSUE),
    Operation("PATCH", f"{_REPO}/issues/7", _ISSUE, _KIND),
    Operation("POST", f"{_REPO}/issues/7/comments", {"body": "b"}, _KIND, ("body",), 201),
    Operation("GET", f"{_REPO}/pulls", [_PULL]),
    Operation("GET", f"{_REPO}/pulls/8", _pull),
    Operation("POST", _FLOW, None, _KIND, ("ref",), 204),
    Operation("GET", "/search/(repositories|issues)", _FOUND),
    Operation("GET", "/rate_limit", {"rate": {"limit": 5000, "remaining": 4999}}),
]
_TABLE = table(_OPERATIONS, _allows, _fault)
