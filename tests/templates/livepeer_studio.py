"""Livepeer Studio's API by its reference: everything below /api."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import Operation, Seen, Stop, delete, get, reply, send, table

SECRETS = {"token": "lp-upstream"}
_ID = "de7818e7-610a-4057-8f6f-b785dc1e6f88"
_URL = {"name": "v", "url": "https://example.com/v.mp4"}
_CLIP = {"playbackId": "eaw4nk06ts2d0mzb", "startTime": 1, "endTime": 2}

CALLS = [
    send("create-stream", "/stream", {"name": "s"}, b'"streamKey"', 201),
    send("create-stream", "/stream", {"record": True}, b"name is missing", 422),
    get("list-streams", "/stream?streamsonly=1", b'"streamKey"'),
    get("get-stream", f"/stream/{_ID}", b'"playbackId"'),
    get("get-stream", "/stream/none", b"not found", 404),
    send("update-stream", f"/stream/{_ID}", {"record": True}, b"", 204, "PATCH"),
    delete("delete-stream", f"/stream/{_ID}", b"", 204),
    delete("terminate-stream", f"/stream/{_ID}/terminate", b"", 204),
    send("request-upload", "/asset/request-upload", {"name": "v"}, b'"tusEndpoint"'),
    send("upload-from-url", "/asset/upload/url", _URL, b'"task"', 201),
    get("list-assets", "/asset?limit=5", b'"ready"'),
    get("get-asset", f"/asset/{_ID}", b'"ready"'),
    send("update-asset", f"/asset/{_ID}", {"name": "w"}, b'"ready"', 200, "PATCH"),
    delete("delete-asset", f"/asset/{_ID}", b"", 204),
    get("get-playback", "/playback/eaw4nk06ts2d0mzb", b'"hls"'),
    get("list-sessions", "/session", b'"parentId"'),
    get("get-session", f"/session/{_ID}", b'"parentId"'),
    send("create-clip", "/clip", _CLIP, b'"task"', 201),
    get("get-task", f"/task/{_ID}", b'"completed"'),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [f"Bearer {SECRETS['token']}"]


def _fault(status: int, message: str) -> web.Response:
    told = 422 if status == 400 else status
    return reply({"errors": [message]}, told)


_KIND = "application/json"
_STREAM = {"id": _ID, "name": "s", "streamKey": "hgebdhhigq", "playbackId": "eaw4nk06ts2d0mzb"}
_ASSET = {"id": _ID, "name": "v", "status": {"phase": "ready"}}
_SESSION = {"id": _ID, "parentId": _ID}
_STARTED = {"asset": _ASSET, "task": {"id": _ID}}
_UPLOAD = {"url": "https://example.com/up", "tusEndpoint": "https://example.com/tus", **_STARTED}
_HLS = {"hrn": "hls", "type": "html5/application/vnd.apple.mpegurl"}
_OPERATIONS = [
    Operation("POST", "/api/stream", _STREAM, _KIND, ("name",), 201),
    Operation("GET", "/api/stream", [_STREAM]),
    Operation("GET", f"/api/stream/{_ID}", _STREAM),
    Operation("PATCH", f"/api/stream/{_ID}", None, _KIND, (), 204),
    Operation("DELETE", f"/api/stream/{_ID}(/terminate)?", None, status=204),
    Operation("POST", "/api/asset/request-upload", _UPLOAD, _KIND, ("name",)),
    Operation("POST", "/api/asset/upload/url", _STARTED, _KIND, ("name", "url"), 201),
    Operation("GET", "/api/asset", [_ASSET]),
    Operation("GET", f"/api/asset/{_ID}", _ASSET),
    Operation("PATCH", f"/api/asset/{_ID}", _ASSET, _KIND),
    Operation("DELETE", f"/api/asset/{_ID}", None, status=204),
    Operation("GET", "/api/playback/eaw4nk06ts2d0mzb", {"type": "live", "meta": {"source": [_HLS]}}),
    Operation("GET", "/api/session", [_SESSION]),
    Operation("GET", f"/api/session/{_ID}", _SESSION),
    Operation("POST", "/api/clip", _STARTED, _KIND, ("playbackId", "startTime"), 201),
    Operation("GET", f"/api/task/{_ID}", {"id": _ID, "status": {"phase": "completed"}}),
]  # fmt: skip
