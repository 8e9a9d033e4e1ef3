"""The official Anthropic client through the gateway, unchanged but for the base URL and the key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import orjson
import pytest
from aiohttp import web
from anthropic.types import MessageParam, TextBlock

from tests.e2e.services import gateway_to_loopback, serving
from tests.templates import mock
from tests.templates.mock import Seen, Stop, reply

SECRET = "sk-ant-upstream"
MODEL = "some-model"
HELLO: list[MessageParam] = [{"role": "user", "content": "Hello"}]
USAGE = {"input_tokens": 3, "output_tokens": 2}
EMPTY: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL,
    "content": [], "stop_reason": None, "stop_sequence": None, "usage": USAGE,
}  # fmt: skip
MESSAGE = EMPTY | {"content": [{"type": "text", "text": "Good day"}], "stop_reason": "end_turn"}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": EMPTY},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Good "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "day"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
    {"type": "message_stop"},
]


async def start() -> tuple[str, Stop]:
    """The Messages API; return its base URL and what stops it."""
    return await mock.start(_answer)


def _answer(seen: Seen) -> web.Response:
    if seen.all("x-api-key") != [SECRET] or seen.all("Authorization"):
        return _fault(401, "authentication_error", "invalid x-api-key")
    versions = seen.all("anthropic-version")  # the client's, passed through
    if len(versions) != 1 or not re.fullmatch(r"\d{4}-\d\d-\d\d", versions[0]):
        return _fault(400, "invalid_request_error", "anthropic-version: header is required")
    if (seen.method, seen.path) != ("POST", "/v1/messages") or not seen.is_json():
        return _fault(404, "not_found_error", "Not Found")
    asked = orjson.loads(seen.body)
    if asked["model"] != MODEL:
        return _fault(404, "not_found_error", f"model: {asked['model']}")
    if not asked.get("stream"):
        return reply(MESSAGE)
    events = [
        f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n\n" for event in EVENTS
    ]
    return web.Response(text="".join(events), content_type="text/event-stream")


def _fault(status: int, kind: str, message: str) -> web.Response:
    return reply({"type": "error", "error": {"type": kind, "message": message}}, status)


@pytest.fixture(scope="module")
def client(open_directory: Path) -> Iterator[anthropic.Anthropic]:
    with serving(start) as base_url, gateway_to_loopback(open_directory) as gateway:
        token = gateway.token()
        wanted = {
            "slug": "anthropic", "upstreamBaseUrl": base_url,
            "authType": "header", "authConfig": {"headers": {"x-api-key": "{{secrets.token}}"}},
            "secrets": {"token": SECRET},
            "endpoints": [{"name": "messages", "method": "POST", "path": "/v1/messages"}],
        }  # fmt: skip
        gateway.admin("POST", "/connectors", wanted, token=token)
        gateway.admin("POST", "/connectors/anthropic/publish", token=token)
        key = gateway.admin("POST", "/keys", {"name": "k"}, token=token)["key"]
        url = f"{gateway.base}/api/v1/gw/anthropic"
        with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20) as made:
            yield made


def test_anthropic_client_completes_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model=MODEL, max_tokens=9, messages=HELLO)

    assert [part.text for part in message.content if isinstance(part, TextBlock)] == ["Good day"]
    assert message.usage.output_tokens == 2


def test_anthropic_client_streams_a_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model=MODEL, max_tokens=9, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        whole = stream.get_final_message()

    assert pieces == ["Good ", "day"]
    assert whole.stop_reason == "end_turn"


def test_anthropic_client_sees_an_upstream_error_as_its_own(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: none"):
        client.messages.create(model="none", max_tokens=9, messages=HELLO)


def test_anthropic_client_sees_a_refused_key_as_its_own(client: anthropic.Anthropic) -> None:
    stranger = client.with_options(api_key="gw_nobody")

    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
