"""Daydream's API for streams, by its published OpenAPI description."""

from __future__ import annotations

import re
from typing import Any

import orjson
from aiohttp import web

from tests.templates import mock
from tests.templates.mock import JSON, Call, Seen, Stop, reply

SECRETS = {"token": "sk_daydream"}
STREAM = "str_9UQrn8an2tWzfWm"
_CREATE = b'{"pipeline":"streamdiffusion","params":{"prompt":"neon anime"}}'
_UPDATE = b'{"pipeline":"streamdiffusion","params":{"prompt":"watercolour"}}'

CALLS = [
    Call("create-stream", "POST", "/streams", JSON, _CREATE, 201, b'"output_playback_id"'),
    Call("create-stream", "POST", "/streams", JSON, b'{"name":"x"}', 400, b'"success":false'),
    Call("list-streams", "GET", "/streams", holds=STREAM.encode()),
    Call("get-stream", "GET", f"/streams/{STREAM}", holds=b'"whip_url"'),
    Call("get-stream", "GET", "/streams/str_none", status=404, holds=b"STREAMS/NOT_FOUND"),
    Call("get-stream-status", "GET", f"/streams/{STREAM}/status", holds=b'"whep_url"'),
    Call("update-stream", "PATCH", f"/streams/{STREAM}", JSON, _UPDATE, 200, b"watercolour"),
    Call("stop-stream", "DELETE", f"/streams/{STREAM}", holds=b'"success":true'),
    Call("stop-stream-by-query", "DELETE", f"/streams?id={STREAM}", holds=b'"success":true'),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(_answer)


def _answer(seen: Seen) -> web.Response:
    if seen.all("Authorization") != [f"Bearer {SECRETS['token']}"]:
        return _fault(401, "AUTH/UNAUTHORIZED")
    if seen.path == "/v1/streams":
        return _collection(seen)
    if not (match := re.fullmatch(r"/v1/streams/([^/]+)(/status)?", seen.path)):
        return _fault(404, "ROUTE/NOT_FOUND")
    if match[1] != STREAM:
        return _fault(404, "STREAMS/NOT_FOUND")
    if match[2]:
        state = {"state": "ONLINE", "gateway_status": {"whep_url": "https://example.org/whep"}}
        return reply({"success": True, "error": None, "data": state})
    return _one(seen)


def _collection(seen: Seen) -> web.Response:
    match seen.method:
        case "POST":
            sent = orjson.loads(seen.body) if seen.is_json() else {}
            if not {"pipeline", "params"} <= sent.keys():
                return _fault(400, "STREAMS/INVALID")
            return reply(_stream(sent), 201)
        case "GET":
            return reply([_stream({})])
        case "DELETE" if seen.params("id") == [STREAM]:
            return reply({"success": True, "data": {}})
    return _fault(404, "STREAMS/NOT_FOUND")


def _one(seen: Seen) -> web.Response:
    match seen.method:
        case "GET":
            return reply(_stream({}))
        case "PATCH" if seen.is_json():
            return reply(_stream(orjson.loads(seen.body)))
        case "DELETE":
            return reply({"success": True, "data": {}})
    return _fault(400, "STREAMS/INVALID")


def _stream(sent: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": STREAM,
        "stream_key": "stk_5DAHk3GL8aHsZDVq",
        "output_playback_id": "4d6b2vhcwkbyyhg7",
        "whip_url": "https://example.org/live/whip",
        "created_at": "2026-01-01T00:00:00.000Z",
        "pipeline": "streamdiffusion",
        "params": {"model_id": "stabilityai/sd-turbo"},
        "name": "a stream",
        **sent,
    }


def _fault(status: int, code: str) -> web.Response:
    return reply({"success": False, "error": code.lower(), "code": code, "status": status}, status)
