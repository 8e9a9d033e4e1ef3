"""The official OpenAI client through the gateway, made from the template: events, audio, forms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.services import gateway_to_loopback, serving
from tests.templates.openai import MODEL, RECORDING, SECRETS, SPEECH, start


@pytest.fixture(scope="module")
def client(open_directory: Path) -> Iterator[openai.OpenAI]:
    with serving(start) as base_url, gateway_to_loopback(open_directory) as gateway:
        token = gateway.token()
        wanted = {"templateId": "openai", "upstreamBaseUrl": base_url, "secrets": SECRETS}
        connector = gateway.admin("POST", "/templates", wanted, token=token)
        assert connector["status"] == "published", connector
        key = gateway.admin("POST", "/keys", {"name": "k"}, token=token)["key"]
        url = f"{gateway.base}/api/v1/gw/openai/v1"
        with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=20) as made:
            yield made


def test_openai_client_completes_and_streams(client: openai.OpenAI) -> None:
    asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    whole = client.chat.completions.create(**asked)  # type: ignore[call-overload] # a plain dict
    chunks = client.chat.completions.create(**asked, stream=True)  # type: ignore[call-overload] # the same

    assert whole.choices[0].message.content == "hi"
    assert [chunk.object for chunk in chunks] == ["chat.completion.chunk"]


def test_openai_client_hears_speech_byte_for_byte(client: openai.OpenAI) -> None:
    spoken = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="hi")

    assert spoken.read() == SPEECH


def test_openai_client_sends_a_recording_as_a_form(client: openai.OpenAI) -> None:
    heard = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", RECORDING))

    assert heard.text == "hi"


def test_openai_client_keeps_files(client: openai.OpenAI) -> None:
    kept = client.files.create(file=("a.jsonl", RECORDING), purpose="batch")

    assert kept.id == "file-1"
    assert client.files.content("file-1").read() == RECORDING
    assert [entry.id for entry in client.files.list()] == ["file-1"]
    assert client.files.delete("file-1").deleted


def test_openai_client_sees_an_upstream_error_as_its_own(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve("resp_none")
