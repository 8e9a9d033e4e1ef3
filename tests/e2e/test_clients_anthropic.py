"""The official Anthropic client through the gateway, made from the template."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
from anthropic.types import MessageParam, TextBlock

from tests.e2e.services import gateway_to_loopback, serving
from tests.templates.anthropic import MODEL, SECRETS, start

HELLO: list[MessageParam] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(open_directory: Path) -> Iterator[anthropic.Anthropic]:
    with serving(start) as base_url, gateway_to_loopback(open_directory) as gateway:
        token = gateway.token()
        wanted = {"templateId": "anthropic", "upstreamBaseUrl": base_url, "secrets": SECRETS}
        connector = gateway.admin("POST", "/templates", wanted, token=token)
        assert connector["status"] == "published", connector
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


def test_anthropic_client_counts_tokens_and_lists_models(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=HELLO)

    assert counted.input_tokens == 3
    assert [model.id for model in client.models.list()] == [MODEL]


def test_anthropic_client_handles_batches(client: anthropic.Anthropic) -> None:
    assert client.messages.batches.retrieve("msgbatch_1").processing_status == "ended"
    assert client.messages.batches.cancel("msgbatch_1").processing_status == "canceling"
    assert [batch.id for batch in client.messages.batches.list()] == ["msgbatch_1"]


def test_anthropic_client_sees_an_upstream_error_as_its_own(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: none"):
        client.messages.create(model="none", max_tokens=9, messages=HELLO)


def test_anthropic_client_sees_a_refused_key_as_its_own(client: anthropic.Anthropic) -> None:
    stranger = client.with_options(api_key="gw_nobody")

    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model=MODEL, max_tokens=9, messages=HELLO)
