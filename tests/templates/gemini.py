"""The Gemini API, versions v1beta and v1, with the key in its header."""

from __future__ import annotations

import re
from typing import Any

import orjson
from aiohttp import web

from tests.templates import mock
from tests.templates.mock import JSON, Call, Seen, Stop, events, reply

SECRETS = {"token": "AIza-upstream"}
MODEL = "gemini-2.5-flash"
_ASK = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
_EMBED = b'{"content":{"parts":[{"text":"hi"}]}}'
_BATCH = b'{"requests":[{"model":"models/gemini-2.5-flash","content":{"parts":[{"text":"hi"}]}}]}'
_MODELS = "/v1beta/models"
_STREAM = f"{_MODELS}/{MODEL}:streamGenerateContent"

CALLS = [
    Call("list-models", "GET", f"{_MODELS}?pageSize=5", holds=b'"models":['),
    Call("get-model", "GET", f"{_MODELS}/{MODEL}", holds=b'"inputTokenLimit"'),
    Call("get-model", "GET", f"{_MODELS}/none", status=404, holds=b"NOT_FOUND"),
    Call("generate-content", "POST", f"{_MODELS}/{MODEL}:generateContent", JSON, _ASK, 200, b"candid"),
    Call("stream-generate-content", "POST", _STREAM, JSON, _ASK, 200, b"data: {"),
    Call("stream-generate-content", "POST", f"{_STREAM}?alt=sse", JSON, _ASK, 200, b"data: {"),
    Call("stream-generate-content", "POST", f"{_STREAM}?alt=json", JSON, _ASK, 200, b"[{"),
    Call("embed-content", "POST", f"{_MODELS}/{MODEL}:embedContent", JSON, _EMBED, 200, b'"values"'),
    Call("batch-embed-contents", "POST", f"{_MODELS}/{MODEL}:batchEmbedContents", JSON, _BATCH, 200, b'"embeddings":['),
    Call("count-tokens", "POST", f"{_MODELS}/{MODEL}:countTokens", JSON, _ASK, 200, b'"totalTokens":'),
]  # fmt: skip


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(_answer)


def _answer(seen: Seen) -> web.Response:
    if seen.all("x-goog-api-key") != [SECRETS["token"]] or seen.all("Authorization"):
        return _fault(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
    model = {"name": f"models/{MODEL}", "version": "001", "inputTokenLimit": 1048576}
    path = re.sub("^/v1/", "/v1beta/", seen.path)  # both versions have these methods
    if seen.method == "GET" and path == _MODELS:
        return reply({"models": [model]})
    match = re.fullmatch(rf"{_MODELS}/([^/:]+)(?::([A-Za-z]+))?", path)
    if match is None or match[1] != MODEL:
        return _fault(404, "NOT_FOUND", "models/none is not found for API version v1beta")
    if seen.method == "GET" and match[2] is None:
        return reply(model)
    if seen.method != "POST" or not seen.is_json():
        return _fault(400, "INVALID_ARGUMENT", "Invalid JSON payload received.")
    return _made(match[2], seen)


def _made(verb: str, seen: Seen) -> web.Response:
    parts = {"role": "model", "parts": [{"text": "hi"}]}
    answer = {"candidates": [{"content": parts, "finishReason": "STOP", "index": 0}]}
    if verb == "streamGenerateContent" and seen.params("alt") == ["sse"]:
        return events(orjson.dumps(answer).decode())
    answers: dict[str, Any] = {
        "generateContent": answer,
        "streamGenerateContent": [answer],
        "embedContent": {"embedding": {"values": [0.5, 0.25]}},
        "batchEmbedContents": {"embeddings": [{"values": [0.5, 0.25]}]},
        "countTokens": {"totalTokens": 1},
    }
    if verb not in answers:
        return _fault(404, "NOT_FOUND", f"{verb} is not found")
    return reply(answers[verb])


def _fault(status: int, name: str, message: str) -> web.Response:
    return reply({"error": {"code": status, "message": message, "status": name}}, status)
