"""The upstream of `serve --demo`: a small server on loopback, beside the gateway in its process.

Its answers are made up but shaped like real ones (OpenAI's, Daydream's), the same every time, and
bounded in size, in time and in what is kept.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import math
import re
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
from aiohttp import web
from aiohttp_sse import sse_response

MOST_SECONDS: Final = 30.0
MOST_EVENTS: Final = 1000
MOST_INTERVAL_MS: Final = 5000
MOST_BYTES: Final = 64 << 20
MOST_BODY_BYTES: Final = 4 << 20
MOST_TEXTS: Final = 2048
MOST_STREAMS: Final = 100
MOST_STREAM_BYTES: Final = 64 << 10
_CREATED: Final = 1767225600
"""When everything here was made, as Unix time."""
_MODELS: Final = ("demo-chat", "demo-embedding")
_PATTERN: Final = bytes(range(256)) * 256
_PACE_S: Final = web.AppKey("pace_s", float)
_GRACE_S: Final = 0.5

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class DemoUpstream:
    """The server; `secret` is the bearer token that its routes below `/v1/` ask for.

    `pace_s` is the pause between two pieces of a streamed chat.
    """

    def __init__(self, secret: str, *, pace_s: float = 0.02) -> None:
        if not secret:
            raise ValueError("the demo upstream needs a secret")
        self._secret = secret.encode()
        self._pace_s = pace_s
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `self.port` is the real port from then on. OSError when it is taken."""
        app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._guard])
        app[_PACE_S] = self._pace_s
        app.add_routes([web.route("*", "/echo{rest:(?:/.*)?}", self._echo)])
        app.add_routes([*_STATELESS, *Streams().routes()])
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE_S
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self.stop()
            raise
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close every connection; an answer that is under way has half a second."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _is_right(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        given = token.encode("utf-8", "surrogateescape")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, self._secret)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handle) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not request.path.startswith("/v1/") or self._is_right(given):
            return await handler(request)
        if request.path.startswith("/v1/streams"):
            return _stream_fault(401, "AUTH/UNAUTHORIZED", "The API key is missing or wrong.")
        return _llm_fault(401, "invalid_api_key", "Incorrect API key provided.")

    async def _echo(self, request: web.Request) -> web.Response:
        """What came in; the secret shows nowhere, whatever field it came in."""
        target = request.raw_path.encode("utf-8", "surrogateescape").decode("latin-1")
        path, _, query = target.partition("?")
        headers: dict[str, str] = {}
        for field, octets in request.raw_headers:
            name, value = field.decode("latin-1").lower(), octets.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if given := headers.get("authorization"):
            scheme = given.partition(" ")[0] if " " in given else "?"
            headers["authorization"] = f"{scheme} ({'right' if self._is_right(given) else 'wrong'})"
        body = (await request.read()).decode("utf-8", "backslashreplace")
        seen = {"method": request.method, "path": path, "query": query}
        content = orjson.dumps({**seen, "headers": headers, "body": body})
        hidden = content.replace(self._secret, b"(secret)")
        return web.Response(body=hidden, content_type="application/json")


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, content_type="application/json")


async def _object(request: web.Request) -> dict[str, Any] | None:
    """The body when it is a JSON object, and none nested so deeply that it can't be sent back."""
    try:
        content = orjson.loads(await request.read())
        orjson.dumps(content)
    except (ValueError, TypeError):
        return None
    return content if isinstance(content, dict) else None


def _number(text: str, most: float) -> float:
    """A number between 0 and `most`; what is beyond is cut. Raises HTTPBadRequest."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise web.HTTPBadRequest(text="that is not a number\n")
    return min(max(value, 0), most)


async def _hello(_request: web.Request) -> web.Response:
    items = [{"id": number, "name": f"item {number}"} for number in range(1, 4)]
    return _json({"message": "Hello from behind the gateway.", "items": items})


async def _status(request: web.Request) -> web.Response:
    status = int(request.match_info["code"])
    return (
        web.Response(status=status) if status in {204, 304} else _json({"status": status}, status)
    )


async def _fail(_request: web.Request) -> web.Response:
    return _json({"error": "This route always fails."}, 503)


async def _slow(request: web.Request) -> web.Response:
    seconds = _number(request.query.get("seconds", "1"), MOST_SECONDS)
    await asyncio.sleep(seconds)
    return _json({"seconds": seconds})


async def _events(request: web.Request) -> web.StreamResponse:
    count = int(_number(request.query.get("count", "10"), MOST_EVENTS))
    pause_s = _number(request.query.get("interval_ms", "100"), MOST_INTERVAL_MS) / 1000
    async with sse_response(request, sep="\n") as answer:
        for number in range(1, count + 1):
            content = orjson.dumps({"number": number, "of": count}).decode()
            await answer.send(content, id=str(number), event="tick")
            await asyncio.sleep(pause_s)
    return answer


async def _bytes(request: web.Request) -> web.StreamResponse:
    size = int(_number(request.match_info["n"], MOST_BYTES))
    answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    answer.content_length = size
    await answer.prepare(request)
    sent = size if request.method == "HEAD" else 0
    while sent < size:
        await answer.write(_PATTERN[: size - sent])
        sent += len(_PATTERN)
    return answer


def _llm_fault(status: int, code: str, text: str) -> web.Response:
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": code}
    return _json({"error": error}, status)


async def _chat(request: web.Request) -> web.StreamResponse:
    """OpenAI's chat completions: the answer repeats the start of the last message."""
    sent = await _object(request) or {}
    model, messages = sent.get("model"), sent.get("messages")
    if not isinstance(model, str) or not isinstance(messages, list) or not messages:
        return _llm_fault(400, "invalid_json", "A JSON object with model and messages is required.")
    if model == "missing-model":
        return _llm_fault(404, "model_not_found", "The model `missing-model` does not exist.")
    words = re.findall(r"\S+\s*", f"You said: {_last_text(messages)}")
    usage = {"prompt_tokens": len(words) - 2, "completion_tokens": len(words)}
    usage["total_tokens"] = sum(usage.values())
    head = {"id": "chatcmpl-demo", "created": _CREATED, "model": model}
    if sent.get("stream"):
        options = sent.get("stream_options")
        counted = isinstance(options, dict) and options.get("include_usage") is True
        return await _stream(request, head, words, usage if counted else None)
    message = {"role": "assistant", "content": "".join(words), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return _json({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _stream(
    request: web.Request, head: dict[str, Any], words: list[str], usage: dict[str, int] | None
) -> web.StreamResponse:
    head = {**head, "object": "chat.completion.chunk"} | ({"usage": None} if usage else {})
    deltas: list[dict[str, Any]] = [{"content": word} for word in words]
    deltas = [{"role": "assistant", "content": "", "refusal": None}, *deltas, {}]
    async with sse_response(request, sep="\n", allow_all_methods=True) as answer:
        for delta in deltas:
            end = None if delta else "stop"
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}
            await answer.send(orjson.dumps({**head, "choices": [choice]}).decode())
            await asyncio.sleep(request.app[_PACE_S])
        if usage:
            await answer.send(orjson.dumps({**head, "choices": [], "usage": usage}).decode())
        await answer.send("[DONE]")
    return answer


def _last_text(messages: list[Any]) -> str:
    content = messages[-1].get("content") if isinstance(messages[-1], dict) else None
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return " ".join(text for text in texts if isinstance(text, str))[:200]


async def _embeddings(request: web.Request) -> web.Response:
    """OpenAI's embeddings, of eight numbers that depend on the text alone."""
    sent = await _object(request) or {}
    given, model = sent.get("input"), sent.get("model")
    texts = given if isinstance(given, list) else [given]
    if not given or not isinstance(model, str) or len(texts) > MOST_TEXTS:
        text = f"A JSON object with a model and 1 to {MOST_TEXTS} inputs is required."
        return _llm_fault(400, "invalid_json", text)
    listed = []
    for index, text in enumerate(texts):
        numbers = struct.unpack(">8i", hashlib.sha256(orjson.dumps(text)).digest())
        packed = struct.pack("<8f", *(number / (1 << 31) for number in numbers))
        in_text = sent.get("encoding_format") == "base64"
        vector = base64.b64encode(packed).decode() if in_text else struct.unpack("<8f", packed)
        listed.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return _json({"object": "list", "data": listed, "model": model, "usage": usage})


async def _models(request: web.Request) -> web.Response:
    name = request.match_info.get("model")
    made = {"object": "model", "created": _CREATED, "owned_by": "demo"}
    if name is None:
        return _json({"object": "list", "data": [{"id": model, **made} for model in _MODELS]})
    if name not in _MODELS:
        return _llm_fault(404, "model_not_found", "There is no such model.")
    return _json({"id": name, **made})


def _stream_fault(status: int, code: str, text: str) -> web.Response:
    return _json({"success": False, "error": text, "code": code, "status": status}, status)


class Streams:
    """Daydream's streams, in memory; the oldest makes room."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}
        self._made = 0

    def routes(self) -> list[web.RouteDef]:
        """All of them are below `/v1/streams`."""
        made = [web.post("/v1/streams", self._create), web.get("/v1/streams", self._list)]
        methods = ("GET", "PATCH", "DELETE")
        return made + [web.route(method, "/v1/streams/{id}", self._one) for method in methods]

    async def _create(self, request: web.Request) -> web.Response:
        sent = await _object(request)
        if sent is None or not isinstance(sent.get("pipeline"), str):
            return _stream_fault(400, "STREAMS/INVALID", "A stream needs a pipeline.")
        self._made += 1
        name = f"demo{self._made:04}"
        made = {"id": f"str_{name}", "stream_key": f"stk_{name}", "output_playback_id": name}
        made["whip_url"] = f"https://demo.invalid/live/stk_{name}/whip"
        return self._keep({"name": name, "params": {}, **sent, **made}, 201)

    async def _list(self, _request: web.Request) -> web.Response:
        return _json(list(self._kept.values()))

    async def _one(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        sent = await _object(request) or {}
        if (stream := self._kept.get(id_)) is None:
            return _stream_fault(404, "STREAMS/NOT_FOUND", "There is no such stream.")
        if request.method == "DELETE":
            del self._kept[id_]
            return _json({"success": True, "data": {}})
        if request.method == "PATCH":
            params = sent.get("params")
            changed = {**stream["params"], **params} if isinstance(params, dict) else None
            return self._keep({**stream, "params": changed}, 200)
        return _json(stream)

    def _keep(self, stream: dict[str, Any], status: int) -> web.Response:
        fits = len(orjson.dumps(stream)) <= MOST_STREAM_BYTES
        if not fits or not isinstance(stream["params"], dict):
            text = f"The parameters are an object of at most {MOST_STREAM_BYTES} bytes."
            return _stream_fault(400, "STREAMS/INVALID", text)
        self._kept[stream["id"]] = stream
        if len(self._kept) > MOST_STREAMS:
            del self._kept[next(iter(self._kept))]
        return _json(stream, status)


_STATELESS: Final = (
    web.get("/json", _hello),
    web.get("/status/{code:[2-5][0-9][0-9]}", _status),
    web.get("/fail", _fail),
    web.get("/slow", _slow),
    web.get("/events", _events),
    web.get("/bytes/{n}", _bytes),
    web.post("/v1/chat/completions", _chat),
    web.post("/v1/embeddings", _embeddings),
    web.get("/v1/models", _models),
    web.get("/v1/models/{model}", _models),
)
