"""A server that speaks OpenAI's API, with Anthropic's messages beside it as local servers have them."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from tests.templates import mock
from tests.templates.mock import JSON, Call, Seen, Stop, events, reply

SECRETS = {"token": "sk-upstream"}
MODELS = ("gpt-4o-mini", "meta-llama/Llama-3.1-8B")
_CHAT = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}'
_STREAM = b'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}'
_MISSING = b'{"model":"gpt-none","messages":[{"role":"user","content":"hi"}]}'
_TEXT = b'{"model":"gpt-4o-mini","prompt":"hi","input":"hi","max_tokens":5,"messages":[]}'


def _calls(mark: str, prefix: str) -> list[Call]:
    chat = f"{prefix}/chat/completions"
    return [
        Call(f"{mark}chat-completions", "POST", chat, JSON, _CHAT, 200, b'"chat.completion"'),
        Call(f"{mark}chat-completions", "POST", chat, JSON, _STREAM, 200, b"data: [DONE]"),
        Call(f"{mark}chat-completions", "POST", chat, JSON, _MISSING, 404, b"model_not_found"),
        Call(f"{mark}completions", "POST", f"{prefix}/completions", JSON, _TEXT, 200, b"text_com"),
        Call(f"{mark}responses", "POST", f"{prefix}/responses", JSON, _TEXT, 200, b'"response"'),
        Call(f"{mark}embeddings", "POST", f"{prefix}/embeddings", JSON, _TEXT, 200, b'"embedding"'),
        Call(f"{mark}list-models", "GET", f"{prefix}/models", holds=b'"object":"list"'),
        Call(f"{mark}get-model", "GET", f"{prefix}/models/{MODELS[0]}", holds=b'"object":"model"'),
        Call(f"{mark}get-model", "GET", f"{prefix}/models/{MODELS[1]}", holds=b"meta-llama"),
        # the openai client encodes the slash of an id
        Call(
            f"{mark}get-model", "GET", f"{prefix}/models/meta-llama%2FLlama-3.1-8B", holds=b"meta"
        ),
    ]


CALLS = [
    *_calls("", ""),
    *_calls("v1-", "/v1"),
    Call("messages", "POST", "/v1/messages", JSON, _TEXT, 200, b'"type":"message"'),
]


async def start() -> tuple[str, Stop]:
    """Start the server; return its base URL and what stops it."""
    return await mock.start(_answer)


def _answer(seen: Seen) -> web.Response:
    if seen.all("Authorization") != [f"Bearer {SECRETS['token']}"]:
        return _fault(401, "invalid_api_key", "Incorrect API key provided.")
    if seen.method == "GET":
        return _models(seen.path.removeprefix("/v1/models").removeprefix("/").replace("%2F", "/"))
    if not seen.is_json() or seen.method != "POST":
        return _fault(400, None, "We could not parse the JSON body of your request.")
    sent = orjson.loads(seen.body)
    if sent["model"] not in MODELS:
        return _fault(404, "model_not_found", f"The model `{sent['model']}` does not exist.")
    made = _made(seen.path, sent)
    return made or _fault(404, None, f"Invalid URL (POST {seen.path})")


def _models(name: str) -> web.Response:
    models = [{"id": model, "object": "model", "created": 0, "owned_by": "us"} for model in MODELS]
    if not name:
        return reply({"object": "list", "data": models})
    for model in models:
        if model["id"] == name:
            return reply(model)
    return _fault(404, "model_not_found", f"The model '{name}' does not exist")


def _made(path: str, sent: dict[str, Any]) -> web.Response | None:
    head = {"id": "x-1", "created": 0, "model": sent["model"]}
    choice = {"index": 0, "finish_reason": "stop"}
    message = {"role": "assistant", "content": "hi"}
    if path == "/v1/chat/completions" and sent.get("stream"):
        chunk = {
            **head,
            "object": "chat.completion.chunk",
            "choices": [{**choice, "delta": message}],
        }
        return events(orjson.dumps(chunk).decode(), "[DONE]")
    answers: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {
            "object": "chat.completion",
            "choices": [{**choice, "message": message}],
        },
        "/v1/completions": {"object": "text_completion", "choices": [{**choice, "text": "hi"}]},
        "/v1/responses": {"object": "response", "status": "completed", "output": []},
        "/v1/embeddings": {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        },
        "/v1/messages": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "hi"}],
        },
    }
    return reply({**head, **answers[path]}) if path in answers else None


def _fault(status: int, code: str | None, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return reply({"error": error}, status)
