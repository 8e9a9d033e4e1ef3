"""Programs of others against the gateway, unchanged but for the base URL and the key."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.e2e.process import Gateway

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def client(demo: Gateway) -> openai.OpenAI:
    token = demo.token("demo")
    template = {"templateId": "ai-llm", "upstreamBaseUrl": upstream(demo)}
    connector = demo.admin("POST", "/templates", template, token=token)
    assert connector["status"] == "published", connector
    made = {"name": "llm", "connectorId": connector["id"]}
    key = demo.admin("POST", "/keys", made, token=token)["key"]
    return openai.OpenAI(
        base_url=f"{demo.base}/api/v1/gw/ai-llm", api_key=key, max_retries=0, timeout=20
    )


def upstream(demo: Gateway) -> str:
    connector = demo.admin("GET", "/connectors/demo", token=demo.token("demo"))
    return str(connector["upstreamBaseUrl"])


def test_openai_client_completes_a_chat(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model="demo-chat", messages=HELLO)

    assert completion.choices[0].message.content == "You said: Hello"
    assert completion.usage is not None


def test_openai_client_streams_a_chat(client: openai.OpenAI) -> None:
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(model="demo-chat", messages=HELLO, stream=True)
        if chunk.choices
    ]

    assert "".join(pieces) == "You said: Hello"
    assert len([piece for piece in pieces if piece]) > 1


def test_openai_client_sees_an_upstream_error_as_its_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="missing-model"):
        client.chat.completions.create(model="missing-model", messages=HELLO)


def test_openai_client_sees_a_refused_key_as_its_own(client: openai.OpenAI) -> None:
    stranger = client.with_options(api_key="gw_nobody")

    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_openai_client_lists_models_and_embeds(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    vectors = client.embeddings.create(model="demo-embedding", input=["a", "b"]).data

    assert "demo-chat" in names
    assert len(vectors) == 2
