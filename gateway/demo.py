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
MOST_INTERVAL_MS: Final = 5000.0
MOST_BYTES: Final = 64 << 20
MOST_BODY_BYTES: Final = 4 << 20
MOST_TEXTS: Final = 2048
MOST_STREAMS: Final = 100
MOST_STREAM_BYTES: Final = 64 << 10
CREATED: Final = 1767225600
"""When everything here was made, as Unix time."""
MODELS: Final = ("demo-chat", "demo-embedding")
_PATTERN: Final = bytes(range(256)) * 256
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
        self._streams: dict[str, dict[str, Any]] = {}
        self._made = 0
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `self.port` is the real port from then on. OSError when it is taken."""
        app = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[self._guard])
        app.add_routes(_PLAIN)
        app.add_routes(
            [
                web.route("*", "/echo{rest:(?:/.*)?}", self._echo),
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/streams", self._create_stream),
                web.get("/v1/streams", self._list_streams),
                web.get("/v1/streams/{id}", self._get_stream),
                web.patch("/v1/streams/{id}", self._update_stream),
                web.delete("/v1/streams/{id}", self._delete_stream),
            ]
        )
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
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self._secret)

    @web.middleware
    async def _guard(self, request: web.Request, handle: Handle) -> web.StreamResponse:
        path = request.path
        if not path.startswith("/v1/") or self._is_right(request.headers.get("Authorization", "")):
            return await handle(request)
        if path.startswith("/v1/streams"):
            return _stream_fault(401, "AUTH/UNAUTHORIZED", "The API key is missing or wrong.")
        return _llm_fault(401, "Incorrect API key provided.", "invalid_api_key")

    async def _echo(self, request: web.Request) -> web.Response:
        """What came in; the secret shows nowhere, whatever field it came in."""
        path, _, query = _ascii(request.raw_path).partition("?")
        headers: dict[str, str] = {}
        for field, octets in request.raw_headers:
            name, value = field.decode("latin-1").lower(), octets.decode("latin-1")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if (given := headers.pop("authorization", None)) is not None:
            scheme = given.partition(" ")[0] if " " in given else ""
            headers["authorization"] = f"{scheme} ({'right' if self._is_right(given) else 'wrong'})"
        body = await request.read()
        seen: dict[str, Any] = {"method": request.method, "path": path, "query": query}
        seen |= {"headers": headers, "body": body.decode("utf-8", "backslashreplace")}
        return web.Response(
            body=orjson.dumps(seen).replace(self._secret, b"(secret)"),
            content_type="application/json",
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        """OpenAI's chat completions: the answer repeats the start of the last message."""
        sent = await _object(request)
        if sent is None:
            return _llm_fault(400, "We could not parse the JSON body of your request.")
        for name, kind in (("model", str), ("messages", list)):
            if not isinstance(sent.get(name), kind) or not sent[name]:
                text = f"Missing required parameter: '{name}'."
                return _llm_fault(400, text, "missing_required_parameter", name)
        if sent["model"] == "missing-model":
            text = "The model `missing-model` does not exist or you do not have access to it."
            return _llm_fault(404, text, "model_not_found")
        words = ["You said: ", *re.findall(r"\S+\s*", _last_text(sent["messages"]))]
        if sent.get("stream"):
            return await self._stream_chat(request, sent, words)
        message = {"role": "assistant", "content": "".join(words), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        head = _head("chat.completion", sent["model"])
        return _json({**head, "choices": [choice], "usage": _usage(words)})

    async def _stream_chat(
        self, request: web.Request, sent: dict[str, Any], words: list[str]
    ) -> web.StreamResponse:
        options = sent.get("stream_options")
        with_usage = isinstance(options, dict) and options.get("include_usage") is True
        head = _head("chat.completion.chunk", sent["model"]) | ({"usage": None} if with_usage else {})
        first = {"role": "assistant", "content": "", "refusal": None}
        deltas: list[dict[str, Any]] = [first, *({"content": word} for word in words), {}]
        async with sse_response(request, sep="\n", allow_all_methods=True) as answer:
            for delta in deltas:
                choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
                choice["finish_reason"] = None if delta else "stop"
                await answer.send(orjson.dumps({**head, "choices": [choice]}).decode())
                await asyncio.sleep(self._pace_s)
            if with_usage:
                last = {**head, "choices": [], "usage": _usage(words)}
                await answer.send(orjson.dumps(last).decode())
            await answer.send("[DONE]")
        return answer

    async def _create_stream(self, request: web.Request) -> web.Response:
        sent = await _object(request)
        if sent is None or not isinstance(sent.get("pipeline"), str):
            return _stream_fault(400, "STREAMS/INVALID", "A stream needs a pipeline.")
        self._made += 1
        name = f"demo{self._made:04}"
        stream = {"name": name, "params": {}, **sent}
        stream |= {"id": f"str_{name}", "stream_key": f"stk_{name}", "output_playback_id": name}
        stream |= {"whip_url": f"https://demo.invalid/live/stk_{name}/whip"}
        return self._keep(stream, 201)

    async def _update_stream(self, request: web.Request) -> web.Response:
        sent = await _object(request)
        if (stream := self._streams.get(request.match_info["id"])) is None:
            return _NO_STREAM()
        if sent is None or not isinstance(params := sent.get("params", {}), dict):
            return _stream_fault(400, "STREAMS/INVALID", "The parameters are a JSON object.")
        return self._keep({**stream, "params": {**stream["params"], **params}}, 200)

    def _keep(self, stream: dict[str, Any], status: int) -> web.Response:
        """Keep a stream and answer it; the oldest one makes room."""
        if not isinstance(stream["params"], dict):
            return _stream_fault(400, "STREAMS/INVALID", "The parameters are a JSON object.")
        answer = _json(stream, status)
        if len(answer.body) > MOST_STREAM_BYTES:
            return _stream_fault(413, "STREAMS/TOO_LARGE", "That is too large for the demo.")
        self._streams[stream["id"]] = stream
        if len(self._streams) > MOST_STREAMS:
            del self._streams[next(iter(self._streams))]
        return answer
