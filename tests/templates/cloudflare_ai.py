"""Cloudflare's Workers AI by its reference: one account, models with slashes in their names."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import Call, Operation, Seen, Stop, events, get, reply, send, table

SECRETS = {"token": "cf-upstream"}
VARIABLES = {"accountId": "0123456789abcdef0123456789abcdef"}
CHAT = "@cf/meta/llama-3.1-8b-instruct"
_ASK = {"messages": [{"role": "user", "content": "hi"}]}
_SOUND = {"Content-Type": "application/octet-stream"}
_HEARD = bytes(range(16))

CALLS = [
    send("run-model", f"/run/{CHAT}", _ASK, b'"response":"hi"'),
    send("run-model", f"/run/{CHAT}", {**_ASK, "stream": True}, b"data: [DONE]"),
    Call("run-model", "POST", "/run/@cf/openai/whisper", _SOUND, _HEARD, 200, b'"text"'),
    send("run-model", "/run/@cf/meta/none", _ASK, b'"code":7003', 404),
    get("list-models", "/models?search=llama", b'"result":[{"name"'),
    get("get-model-schema", f"/models/schema?model={CHAT}", b'"input":'),
    send("chat-completions", "/v1/chat/completions", {"model": CHAT, **_ASK}, b"chat.completion"),
    send("embeddings", "/v1/embeddings", {"model": "@cf/baai/bge-m3", "input": "x"}, b'"embedding"'),
]  # fmt: skip


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [f"Bearer {SECRETS['token']}"]


def _run(seen: Seen) -> web.Response:
    if seen.said().get("stream"):
        return events('{"response":"hi"}', "[DONE]")
    return _result({"response": "hi"})


def _schema(seen: Seen) -> web.Response:
    return _result({"input": {}, "output": {}}) if seen.params("model") == [CHAT] else _result({})


def _heard(seen: Seen) -> web.Response:
    return _result({"text": "hi"}) if seen.body == _HEARD else _fault(400, "broken audio")


def _result(content: object) -> web.Response:
    return reply({"result": content, "success": True, "errors": [], "messages": []})


def _fault(status: int, message: str) -> web.Response:
    code = {401: 10000, 404: 7003}.get(status, 5006)
    error = {"code": code, "message": message}
    return reply({"result": None, "success": False, "errors": [error], "messages": []}, status)


_KIND = "application/json"
_AI = f"/client/v4/accounts/{VARIABLES['accountId']}/ai"
_LISTED = {"result": [{"name": CHAT}], "success": True, "errors": []}
_DONE = {"object": "chat.completion", "choices": [{"message": {"content": "hi"}}]}
_OPERATIONS = [
    Operation("POST", f"{_AI}/run/{CHAT}", _run, _KIND),
    Operation("POST", f"{_AI}/run/@cf/openai/whisper", _heard, _SOUND["Content-Type"]),
    Operation("GET", f"{_AI}/models/search", _LISTED),
    Operation("GET", f"{_AI}/models/schema", _schema),
    Operation("POST", f"{_AI}/v1/chat/completions", _DONE, _KIND, ("model", "messages")),
    Operation("POST", f"{_AI}/v1/embeddings", {"data": [{"embedding": [0.5]}]}, _KIND, ("input",)),
]
