"""Anthropic's API by its reference, with its errors and its server-sent events."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from tests.templates import mock
from tests.templates.mock import JSON, Call, Operation, Seen, Stop, delete, get, reply, send, table

SECRETS = {"token": "sk-ant-upstream"}
VARIABLES: dict[str, str] = {}
MODEL = "some-model"
_USAGE = {"input_tokens": 3, "output_tokens": 2}
_EMPTY: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL,
    "content": [], "stop_reason": None, "stop_sequence": None, "usage": _USAGE,
}  # fmt: skip
_MESSAGE = _EMPTY | {"content": [{"type": "text", "text": "Good day"}], "stop_reason": "end_turn"}
_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": _EMPTY},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Good "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "day"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": _USAGE},
    {"type": "message_stop"},
]
_ASKED = {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
_BATCH = {"requests": [{"custom_id": "first", "params": _ASKED}]}
_PATH = "/v1/messages/batches"
_OLD = {**JSON, "anthropic-version": "2023-01-01", "anthropic-beta": "some-beta"}

CALLS = [
    send("create-message", "/v1/messages", _ASKED, b"Good day"),
    send("create-message", "/v1/messages", {**_ASKED, "stream": True}, b"event: message_stop"),
    send("create-message", "/v1/messages", {**_ASKED, "model": "none"}, b"not_found_error", 404),
    Call("create-message", "POST", "/v1/messages", _OLD, orjson.dumps(_ASKED), 200, b"Good day"),
    send("count-tokens", "/v1/messages/count_tokens", _ASKED, b'"input_tokens":3'),
    send("create-batch", _PATH, _BATCH, b'"in_progress"'),
    get("list-batches", f"{_PATH}?limit=5", b'"has_more":false'),
    get("get-batch", f"{_PATH}/msgbatch_1", b'"msgbatch_1"'),
    get("get-batch", f"{_PATH}/msgbatch_none", b"not_found_error", 404),
    Call("cancel-batch", "POST", f"{_PATH}/msgbatch_1/cancel", {}, b"", 200, b'"canceling"'),
    delete("delete-batch", f"{_PATH}/msgbatch_1", b"message_batch_deleted"),
    get("get-batch-results", f"{_PATH}/msgbatch_1/results", b'"custom_id":"first"'),
    get("list-models", "/v1/models", b'"has_more":false'),
    get("get-model", f"/v1/models/{MODEL}", b'"type":"model"'),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    """The key in its own field alone, and the version that is meant."""
    key, version = seen.all("x-api-key"), seen.all("anthropic-version")
    is_right = (key, version) == ([SECRETS["token"]], ["2023-06-01"])
    return is_right and not seen.all("Authorization")


def _message(seen: Seen) -> web.Response:
    asked = seen.said()
    if asked["model"] != MODEL:
        return _fault(404, f"model: {asked['model']}")
    if not asked.get("stream"):
        return reply(_MESSAGE)
    text = "".join(
        f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n\n" for event in _EVENTS
    )
    return web.Response(text=text, content_type="text/event-stream")


def _results(seen: Seen) -> web.Response:
    line = {"custom_id": "first", "result": {"type": "succeeded", "message": _MESSAGE}}
    return web.Response(body=orjson.dumps(line) + b"\n", content_type="application/x-jsonl")


def _fault(status: int, message: str) -> web.Response:
    kinds = {401: "authentication_error", 404: "not_found_error"}
    error = {"type": kinds.get(status, "invalid_request_error"), "message": message}
    return reply({"type": "error", "error": error}, status)


def _batch(status: str) -> dict[str, Any]:
    return {"id": "msgbatch_1", "type": "message_batch", "processing_status": status}


def _page(entry: dict[str, Any]) -> dict[str, Any]:
    return {"data": [entry], "has_more": False, "first_id": entry["id"], "last_id": entry["id"]}


_KIND, _ID = "application/json", f"{_PATH}/msgbatch_1"
_MODEL = {"id": MODEL, "type": "model", "display_name": "Claude", "created_at": "2025-01-01"}
_OPERATIONS = [
    Operation("POST", "/v1/messages", _message, _KIND, ("model", "max_tokens", "messages")),
    Operation("POST", "/v1/messages/count_tokens", {"input_tokens": 3}, _KIND, ("model",)),
    Operation("POST", _PATH, _batch("in_progress"), _KIND, ("requests",)),
    Operation("GET", _PATH, _page(_batch("ended"))),
    Operation("GET", _ID, _batch("ended")),
    Operation("POST", f"{_ID}/cancel", _batch("canceling")),
    Operation("DELETE", _ID, {"id": "msgbatch_1", "type": "message_batch_deleted"}),
    Operation("GET", f"{_ID}/results", _results),
    Operation("GET", "/v1/models", _page(_MODEL)),
    Operation("GET", f"/v1/models/{MODEL}", _MODEL),
]
