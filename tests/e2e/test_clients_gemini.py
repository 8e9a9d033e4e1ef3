"""The official Google Gen AI client through the gateway, made from the template."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google import genai
from google.genai import errors, types

from tests.e2e.services import gateway_to_loopback, serving
from tests.templates.gemini import MODEL, SECRETS, start


@pytest.fixture(scope="module")
def made(open_directory: Path) -> Iterator[tuple[str, str]]:
    with serving(start) as base_url, gateway_to_loopback(open_directory) as gateway:
        token = gateway.token()
        template = {"templateId": "gemini", "upstreamBaseUrl": base_url}
        wanted = {**template, "secrets": SECRETS, "publish": True}
        connector = gateway.admin("POST", "/templates", wanted, token=token)
        assert connector["status"] == "published"
        key = gateway.admin("POST", "/keys", {"name": "k"}, token=token)["key"]
        yield f"{gateway.base}/api/v1/gw/gemini", key


def connect(url: str, key: str) -> genai.Client:
    """Nothing but another base URL and a gateway key."""
    options = types.HttpOptions(base_url=url, timeout=20_000)
    return genai.Client(api_key=key, vertexai=False, http_options=options)


@pytest.fixture
def client(made: tuple[str, str]) -> Iterator[genai.Client]:
    with connect(*made) as client:
        yield client


def test_gemini_client_generates(client: genai.Client) -> None:
    answer = client.models.generate_content(model=MODEL, contents="Hello")

    assert answer.text == "hi"


def test_gemini_client_streams(client: genai.Client) -> None:
    pieces = list(client.models.generate_content_stream(model=MODEL, contents="Hello"))

    assert [piece.text for piece in pieces] == ["hi"]


def test_gemini_client_counts_and_lists(client: genai.Client) -> None:
    counted = client.models.count_tokens(model=MODEL, contents="Hello")

    assert counted.total_tokens == 1
    assert [model.name for model in client.models.list()] == [f"models/{MODEL}"]


def test_gemini_client_sees_an_upstream_error_as_its_own(client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="NOT_FOUND") as caught:
        client.models.generate_content(model="none", contents="Hello")

    assert caught.value.code == 404


def test_gemini_client_sees_a_refused_key_as_its_own(made: tuple[str, str]) -> None:
    with connect(made[0], "gw_nobody") as stranger, pytest.raises(errors.ClientError) as caught:
        stranger.models.generate_content(model=MODEL, contents="Hello")

    assert caught.value.code == 401
