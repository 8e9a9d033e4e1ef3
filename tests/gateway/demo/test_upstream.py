"""The demo upstream: its routes by HTTP, its LLM by the official client, and its bounds."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from gateway.demo import upstream as demo
from gateway.demo.upstream import DemoUpstream

SECRET = "demo-secret"
BEARER = {"Authorization": f"Bearer {SECRET}"}
STREAM = {"pipeline": "streamdiffusion", "params": {"prompt": "neon anime"}}
HI: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello there"}]


@pytest.fixture
async def base() -> AsyncIterator[str]:
    upstream = DemoUpstream(SECRET, pace_s=0)
    await upstream.start()
    yield f"http://127.0.0.1:{upstream.port}"
    await upstream.stop()


@pytest.fixture
async def http(base: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base) as session:
        yield session


@pytest.fixture
async def llm(base: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=SECRET, max_retries=0) as client:
        yield client


async def test_json_is_the_same_every_time(http: aiohttp.ClientSession) -> None:
    answers = []
    for _ in range(2):
        async with http.get("/json") as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            answers.append(await answer.read())

    assert answers[0] == answers[1]
    assert json.loads(answers[0])["items"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_echo_takes_any_method(http: aiohttp.ClientSession, method: str) -> None:
    async with http.request(method, "/echo/a%20b?x=1&y=%2F", data=b"caf\xc3\xa9") as answer:
        seen = await answer.json()

    assert seen["method"] == method
    assert (seen["path"], seen["query"]) == ("/echo/a%20b", "x=1&y=/")
    assert seen["body"] == "café"
    assert seen["headers"]["content-length"] == "5"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"Bearer {SECRET}", "Bearer (right)"),
        (f"bearer {SECRET}", "bearer (right)"),
        ("Bearer other", "Bearer (wrong)"),
        (f"Basic {SECRET}", "Basic (wrong)"),
        (SECRET, "? (wrong)"),
    ],
)
async def test_echo_tells_of_a_credential_only_whether_it_is_right(
    http: aiohttp.ClientSession, given: str, shown: str
) -> None:
    fields = {"Authorization": given, "X-Other": SECRET}
    async with http.get("/echo", params={"key": SECRET}, headers=fields) as answer:
        text = await answer.text()

    assert json.loads(text)["headers"]["authorization"] == shown
    assert SECRET not in text


async def test_echo_joins_repeated_fields_and_shows_what_is_no_text(
    http: aiohttp.ClientSession,
) -> None:
    fields = [("X-Many", "1"), ("X-Many", "2")]
    async with http.post("/echo", headers=fields, data=b"\xff\x00") as answer:
        seen = await answer.json()

    assert seen["headers"]["x-many"] == "1, 2"
    assert seen["body"] == "\\xff\x00"


@pytest.mark.parametrize("code", [200, 204, 302, 304, 404, 429, 500, 503, 599])
async def test_status_is_the_one_asked_for(http: aiohttp.ClientSession, code: int) -> None:
    async with http.get(f"/status/{code}", allow_redirects=False) as answer:
        assert answer.status == code


@pytest.mark.parametrize("code", ["100", "600", "20", "abc", "2000"])
async def test_status_that_is_none_is_not_found(http: aiohttp.ClientSession, code: str) -> None:
    async with http.get(f"/status/{code}") as answer:
        assert answer.status == 404


async def test_slow_answers_after_its_time(http: aiohttp.ClientSession) -> None:
    async with http.get("/slow?seconds=0.02") as answer:
        assert await answer.json() == {"seconds": 0.02}


@pytest.mark.parametrize(
    ("text", "number"),
    [("5", 5), ("31", 30), ("-1", 0), ("1e400", 30), ("0.5", 0.5)],
)
def test_numbers_are_cut_at_their_bounds(text: str, number: float) -> None:
    assert demo._number(text, demo.MOST_SECONDS) == number  # noqa: SLF001 - 30 s are not waited for


@pytest.mark.parametrize(
    "path", ["/slow?seconds=nan", "/slow?seconds=x", "/events?count=", "/bytes/many"]
)
async def test_what_is_no_number_is_a_bad_request(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as answer:
        assert answer.status == 400


async def test_fail_fails(http: aiohttp.ClientSession) -> None:
    async with http.get("/fail") as answer:
        assert answer.status == 503


async def test_events_are_server_sent_events(http: aiohttp.ClientSession) -> None:
    async with http.get("/events?count=3&interval_ms=1") as answer:
        assert answer.content_type == "text/event-stream"
        text = await answer.text()

    assert text.split("\n\n") == [
        'id: 1\nevent: tick\ndata: {"number":1,"of":3}',
        'id: 2\nevent: tick\ndata: {"number":2,"of":3}',
        'id: 3\nevent: tick\ndata: {"number":3,"of":3}',
        "",
    ]


async def test_events_come_one_by_one(http: aiohttp.ClientSession) -> None:
    async with http.get("/events?count=2&interval_ms=5000") as answer:
        first = await answer.content.readuntil(b"\n\n")

    assert b'"number":1' in first


async def test_number_of_events_is_bounded(http: aiohttp.ClientSession) -> None:
    async with http.get("/events?count=1000000&interval_ms=0") as answer:
        text = await answer.text()

    assert text.count("event: tick") == demo.MOST_EVENTS


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 1 << 20])
async def test_bytes_are_as_many_as_asked_for(http: aiohttp.ClientSession, size: int) -> None:
    async with http.get(f"/bytes/{size}") as answer:
        content = await answer.read()

    assert answer.headers["Content-Length"] == str(size)
    assert content == (bytes(range(256)) * (size // 256 + 1))[:size]


async def test_bytes_are_bounded(http: aiohttp.ClientSession) -> None:
    async with http.head(f"/bytes/{1 << 40}") as answer:
        assert answer.headers["Content-Length"] == str(demo.MOST_BYTES)


async def test_large_body_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.post("/echo", data=io.BytesIO(bytes(demo.MOST_BODY_BYTES + 1))) as answer:
        assert answer.status == 413


async def test_openai_client_completes(llm: openai.AsyncOpenAI) -> None:
    made = await llm.chat.completions.create(model="demo-chat", messages=HI)

    assert made.choices[0].message.content == "You said: hello there"
    assert made.choices[0].finish_reason == "stop"
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (2, 4)


async def test_openai_client_streams(llm: openai.AsyncOpenAI) -> None:
    stream = await llm.chat.completions.create(
        model="demo-chat", messages=HI, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert words == ["", "You ", "said: ", "hello ", "there", ""]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 6


async def test_openai_client_finds_no_missing_model(llm: openai.AsyncOpenAI) -> None:
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as caught:
            await llm.chat.completions.create(model="missing-model", messages=HI, stream=stream)

        assert caught.value.code == "model_not_found"


async def test_openai_client_is_refused_with_another_key(base: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="other", max_retries=0) as llm:
        with pytest.raises(openai.AuthenticationError) as caught:
            await llm.chat.completions.create(model="demo-chat", messages=HI)

    assert caught.value.code == "invalid_api_key"


async def test_openai_client_embeds(llm: openai.AsyncOpenAI) -> None:
    packed = await llm.embeddings.create(model="demo-embedding", input=["a", "b", "a"])
    plain = await llm.embeddings.create(model="demo-embedding", input="a", encoding_format="float")

    first, second, third = (entry.embedding for entry in packed.data)
    assert first == third == pytest.approx(plain.data[0].embedding)
    assert first != second
    assert len(first) == 8


async def test_openai_client_lists_models(llm: openai.AsyncOpenAI) -> None:
    listed = [model.id async for model in llm.models.list()]

    assert listed == ["demo-chat", "demo-embedding"]
    assert (await llm.models.retrieve("demo-chat")).owned_by == "demo"
    with pytest.raises(openai.NotFoundError):
        await llm.models.retrieve("other")


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/chat/completions", b"{"),
        ("/v1/chat/completions", b"[]"),
        ("/v1/chat/completions", b"[" * 500 + b"]" * 500),
        ("/v1/chat/completions", b'{"model": "m", "messages": []}'),
        ("/v1/chat/completions", b'{"messages": [{}]}'),
        ("/v1/embeddings", b'{"model": "m"}'),
        ("/v1/embeddings", json.dumps({"model": "m", "input": ["x"] * 2049}).encode()),
        ("/v1/streams", b'{"params": {}}'),
        ("/v1/streams", b'{"pipeline": "p", "params": 1}'),
        ("/v1/streams", json.dumps({"pipeline": "x" * 70_000}).encode()),
    ],
)
async def test_request_that_makes_no_sense_is_a_bad_request(
    http: aiohttp.ClientSession, path: str, sent: bytes
) -> None:
    async with http.post(path, data=sent, headers=BEARER) as answer:
        assert answer.status == 400
        assert "error" in await answer.json()


@pytest.mark.parametrize("content", [7, None, [{"type": "text", "text": "hello"}, 7], "x" * 10_000])
async def test_chat_takes_any_content_and_repeats_a_bounded_part(
    http: aiohttp.ClientSession, content: Any
) -> None:
    sent = {"model": "m", "messages": [{"role": "user", "content": content}]}
    async with http.post("/v1/chat/completions", json=sent, headers=BEARER) as answer:
        made = await answer.json()

    text = made["choices"][0]["message"]["content"]
    assert text.startswith("You said: ")
    assert len(text) <= 210


async def test_stream_is_created_read_changed_and_deleted(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/streams", json=STREAM, headers=BEARER) as answer:
        assert answer.status == 201
        made = await answer.json()
    path = f"/v1/streams/{made['id']}"
    async with http.patch(path, json={"params": {"seed": 1}}, headers=BEARER) as answer:
        changed = await answer.json()
    async with http.get(path, headers=BEARER) as answer:
        read = await answer.json()
    async with http.get("/v1/streams", headers=BEARER) as answer:
        listed = await answer.json()
    async with http.delete(path, headers=BEARER) as answer:
        assert await answer.json() == {"success": True, "data": {}}
    async with http.get(path, headers=BEARER) as answer:
        assert answer.status == 404

    assert made["pipeline"] == "streamdiffusion"
    assert made["output_playback_id"]
    assert read == changed == {**made, "params": {"prompt": "neon anime", "seed": 1}}
    assert listed == [read]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_streams_need_the_bearer(http: aiohttp.ClientSession, method: str) -> None:
    async with http.request(method, "/v1/streams", json=STREAM) as answer:
        assert answer.status == 401
        assert (await answer.json())["code"] == "AUTH/UNAUTHORIZED"


async def test_streams_are_bounded_and_the_oldest_makes_room(http: aiohttp.ClientSession) -> None:
    for _ in range(demo.MOST_STREAMS + 2):
        async with http.post("/v1/streams", json=STREAM, headers=BEARER) as answer:
            assert answer.status == 201
    async with http.get("/v1/streams", headers=BEARER) as answer:
        kept = [stream["id"] for stream in await answer.json()]

    assert len(kept) == demo.MOST_STREAMS
    assert kept[0] == "str_demo0003"


async def test_stream_cannot_grow_by_changes(http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/streams", json=STREAM, headers=BEARER) as answer:
        path = f"/v1/streams/{(await answer.json())['id']}"
    grown = []
    for number in range(3):
        sent = {"params": {f"p{number}": "x" * 30_000}}
        async with http.patch(path, json=sent, headers=BEARER) as answer:
            grown.append(answer.status)

    assert grown == [200, 200, 400]


async def test_client_that_hangs_up_ends_the_answer(base: str) -> None:
    """A slow answer nobody waits for must not keep the demo from stopping."""
    before = asyncio.all_tasks()
    async with aiohttp.ClientSession(base) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await session.get("/slow?seconds=30")
    _, running = await asyncio.wait(asyncio.all_tasks() - before, timeout=5)

    assert running == set()


async def test_stop_ends_what_runs() -> None:
    upstream = DemoUpstream(SECRET)
    await upstream.start()
    events = f"http://127.0.0.1:{upstream.port}/events?interval_ms=5000"
    async with aiohttp.ClientSession() as session, session.get(events) as answer:
        await answer.content.readuntil(b"\n\n")
        async with asyncio.timeout(5):
            await upstream.stop()
    await upstream.stop()


async def test_taken_port_is_an_error_and_nothing_is_left_open(base: str) -> None:
    second = DemoUpstream(SECRET)

    with pytest.raises(OSError, match="address already in use"):
        await second.start(port=int(base.rpartition(":")[2]))


def test_demo_without_a_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a secret"):
        DemoUpstream("")
