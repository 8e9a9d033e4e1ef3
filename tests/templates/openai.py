"""OpenAI's API by its reference: JSON, forms with files, audio, and server-sent events."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import (
    PARTS,
    Call,
    Operation,
    Seen,
    Stop,
    delete,
    events,
    get,
    reply,
    send,
    table,
)

SECRETS = {"token": "sk-proj-upstream"}
MODEL = "gpt-4o-mini"
SPEECH = bytes(range(256))
RECORDING = b"\xff\x00"
_ASKED = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
_FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\xff\x00\r\n--b--\r\n'
_KINDS = "application/json", "multipart/form-data"

CALLS = [
    send("chat-completions", "/v1/chat/completions", _ASKED, b'"chat.completion"'),
    send("chat-completions", "/v1/chat/completions", {**_ASKED, "stream": True}, b"data: [DONE]"),
    send("chat-completions", "/v1/chat/completions", {"model": MODEL}, b"messages is mis", 400),
    send("create-response", "/v1/responses", {"model": MODEL, "input": "hi"}, b'"resp_1"'),
    get("get-response", "/v1/responses/resp_1", b'"response"'),
    get("get-response", "/v1/responses/resp_none", b"invalid_request_error", 404),
    delete("delete-response", "/v1/responses/resp_1", b'"deleted":true'),
    send("embeddings", "/v1/embeddings", {"model": "e", "input": "hi"}, b'"embedding":[0.5,'),
    get("list-models", "/v1/models", b'"object":"list"'),
    get("get-model", f"/v1/models/{MODEL}", b'"object":"model"'),
    send("create-image", "/v1/images/generations", {"prompt": "x"}, b'"b64_json"'),
    send("create-speech", "/v1/audio/speech", {"input": "x", "voice": "alloy"}, SPEECH),
    Call("create-transcription", "POST", "/v1/audio/transcriptions", PARTS, _FILE, 200, b'"text"'),
    send("create-moderation", "/v1/moderations", {"input": "x"}, b'"flagged":false'),
    Call("upload-file", "POST", "/v1/files", PARTS, _FILE, 200, b'"file-1"'),
    get("list-files", "/v1/files?purpose=batch", b'"file-1"'),
    get("get-file", "/v1/files/file-1", b'"bytes":2'),
    delete("delete-file", "/v1/files/file-1", b'"deleted":true'),
    get("get-file-content", "/v1/files/file-1/content", b"\xff\x00"),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [f"Bearer {SECRETS['token']}"]


def _chat(seen: Seen) -> web.Response:
    head = {"id": "chatcmpl-1", "model": MODEL, "created": 0}
    if seen.said().get("stream"):
        return events('{"object":"chat.completion.chunk","choices":[]}', "[DONE]")
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}}
    return reply({**head, "object": "chat.completion", "choices": [choice]})


def _speech(seen: Seen) -> web.Response:
    return web.Response(body=SPEECH, content_type="audio/mpeg")


def _file_content(seen: Seen) -> web.Response:
    return web.Response(body=RECORDING, content_type="application/octet-stream")


def _upload(seen: Seen) -> web.Response:
    """What a form with a file gives, if every byte of it came between its boundaries."""
    (kind,) = seen.all("Content-Type")
    boundary = kind.partition("boundary=")[2].encode()
    parts = seen.body.split(b"--" + boundary)
    if parts[0] or parts[-1] != b"--\r\n" or RECORDING not in [_content(p) for p in parts[1:-1]]:
        return _fault(400, "Could not parse multipart form")
    return reply(_FILE_OBJECT if seen.path == "/v1/files" else {"text": "hi"})


def _content(part: bytes) -> bytes:
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def _fault(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return reply({"error": error}, status)


_JSON, _PARTS = _KINDS
_RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
_FILE_OBJECT = {"id": "file-1", "object": "file", "bytes": 2, "purpose": "batch"}
_MODEL = {"id": MODEL, "object": "model", "created": 0, "owned_by": "system"}
_VECTOR = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
_OPERATIONS = [
    Operation("POST", "/v1/chat/completions", _chat, _JSON, ("model", "messages")),
    Operation("POST", "/v1/responses", _RESPONSE, _JSON, ("model",)),
    Operation("GET", "/v1/responses/resp_1", _RESPONSE),
    Operation("DELETE", "/v1/responses/resp_1", {"id": "resp_1", "deleted": True}),
    Operation("POST", "/v1/embeddings", {"data": [_VECTOR]}, _JSON, ("model", "input")),
    Operation("GET", "/v1/models", {"object": "list", "data": [_MODEL]}),
    Operation("GET", f"/v1/models/{MODEL}", _MODEL),
    Operation(
        "POST", "/v1/images/generations", {"data": [{"b64_json": "aGk="}]}, _JSON, ("prompt",)
    ),
    Operation("POST", "/v1/audio/speech", _speech, _JSON, ("input", "voice")),
    Operation("POST", "/v1/audio/transcriptions", _upload, _PARTS),
    Operation("POST", "/v1/moderations", {"results": [{"flagged": False}]}, _JSON, ("input",)),
    Operation("POST", "/v1/files", _upload, _PARTS),
    Operation("GET", "/v1/files", {"object": "list", "data": [_FILE_OBJECT], "has_more": False}),
    Operation("GET", "/v1/files/file-1", _FILE_OBJECT),
    Operation("DELETE", "/v1/files/file-1", {"id": "file-1", "deleted": True}),
    Operation("GET", "/v1/files/file-1/content", _file_content),
]
