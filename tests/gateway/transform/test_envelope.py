"""The envelope: JSON is wrapped byte for byte, all else passes untouched."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Body, Exchange, RawHeaders, Response
from gateway.model import Caller, Plan
from gateway.problems import Rejected
from gateway.transform.compiling import compile_connector
from gateway.transform.envelope import wrap

JSON = (b"Content-Type", b"application/json")


def exchange(method: str = "GET", **definition: Any) -> Exchange:
    own = {"id": "e", "name": "e", "method": "GET", "path": "/", "definition": definition}
    snapshot = {"id": "c", "slug": "maps", "definition": {"upstream_base_url": "https://h"}}
    connector = compile_connector({**snapshot, "endpoints": [own]}, team="t", secrets={})
    made = Exchange(
        method, "/maps/", "", {}, (), Body(None), client_address="", request_id="an-id", at=1767225600.25
    )  # fmt: skip
    made.caller = Caller("key", "k", "k", "t", Plan("p", "p", max_response_size=100))
    made.connector, made.endpoint = connector, connector.router.match("GET", "/").route
    return made


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


async def wrapped(
    body: bytes | AsyncIterator[bytes] = b"{}",
    status: int = 200,
    headers: RawHeaders | None = None,
    **asked: Any,
) -> tuple[Any, Response]:
    """The document that a JSON answer becomes, and the answer."""
    response = Response(status, [JSON] if headers is None else headers, body, 2)
    await wrap(exchange(**asked), response)
    assert isinstance(response.body, bytes)
    return orjson.loads(response.body), response


async def test_envelope_has_the_members_of_the_contract() -> None:
    document, response = await wrapped(b'{"a": [1]}')
    latency = document["meta"].pop("latencyMs")

    assert document == {
        "success": True,
        "data": {"a": [1]},
        "meta": {
            "connector": "maps", "upstreamStatus": 200, "cached": False,
            "timestamp": "2026-01-01T00:00:00.250+00:00", "requestId": "an-id",
        },
    }  # fmt: skip
    assert 0 <= latency < 5000
    assert response.status == 200


@pytest.mark.parametrize(("status", "success"), [(200, True), (201, True), (302, True), (399, True), (400, False), (404, False), (500, False), (599, False)])  # fmt: skip
async def test_error_is_told_where_the_status_is_one(status: int, success: bool) -> None:
    document, response = await wrapped(b'"what it said"', status)
    told = {"code": f"upstream_{status}", "message": f"The upstream answered with status {status}."}

    assert document["success"] is success
    assert document["data"] == "what it said"
    assert document.get("error") == (None if success else told)
    assert document["meta"]["upstreamStatus"] == response.status == status


async def test_error_has_the_message_that_the_endpoint_gives_it() -> None:
    document, _ = await wrapped(b"{}", 404, error_mapping={"404": "No such place.", "500": "Else."})

    assert document["error"] == {"code": "upstream_404", "message": "No such place."}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1.0, "a": 1e2}', b"123456789012345678901234567890", b'"\\u00e9 \\/"', b" [ ]\n", b"null",
        b"0.1000", b'{"b": 1, "a": 2}', b"true", '"é"'.encode(),
    ],
)  # fmt: skip
async def test_json_is_kept_byte_for_byte(body: bytes) -> None:
    for sent in (body, pieces(body[:1], body[1:])):
        _, response = await wrapped(sent)

        assert b'"data":' + body in bytes(response.body)  # type: ignore[arg-type] # it was read whole
        assert response.length is None or isinstance(sent, bytes)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=4),
        lambda s: st.lists(s) | st.dictionaries(st.text(max_size=3), s),
        max_leaves=6,
    )
)
def test_any_json_value_is_wrapped(value: Any) -> None:
    document, _ = asyncio.run(wrapped(json.dumps(value).encode()))

    assert document["data"] == value


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/problem+json", "application/vnd.api+json;v=1"],
)  # fmt: skip
async def test_every_kind_of_json_becomes_plain_json(media_type: str) -> None:
    _, response = await wrapped(headers=[(b"content-type", media_type.encode())])

    assert response.headers == [(b"content-type", b"application/json")]


async def test_fields_that_speak_of_the_bytes_are_taken_out_and_others_stay() -> None:
    gone = [
        b"ETag",
        b"Last-Modified",
        b"Digest",
        b"Content-Digest",
        b"Repr-Digest",
        b"Content-MD5",
        b"Accept-Ranges",
    ]
    kept = [(b"X-A", b"1"), JSON, (b"X-A", b"2"), (b"Cache-Control", b"no-store")]
    _, response = await wrapped(headers=[*kept, *((name, b"x") for name in gone)])

    assert response.headers == kept


@pytest.mark.parametrize(
    ("method", "status", "headers", "body"),
    [
        pytest.param(
            "GET", 200, [(b"Content-Type", b"text/event-stream")], b"data: {}\n\n", id="events"
        ),
        pytest.param("GET", 200, [(b"Content-Type", b"image/png")], b"\x89PNG", id="binary"),
        pytest.param("GET", 200, [(b"Content-Type", b"text/html")], b"{}", id="text"),
        pytest.param("GET", 200, [(b"Content-Type", b"application/jsonl")], b"{}\n{}", id="lines"),
        pytest.param("GET", 200, [], b"{}", id="no type"),
        pytest.param("GET", 200, [JSON], b"", id="empty"),
        pytest.param("HEAD", 200, [JSON], b"{}", id="HEAD"),
        pytest.param("GET", 204, [JSON], b"", id="204"),
        pytest.param("GET", 205, [JSON], b"{}", id="205"),
        pytest.param("GET", 304, [JSON], b"", id="304"),
    ],
)
async def test_all_else_passes_as_it_is(
    method: str, status: int, headers: RawHeaders, body: bytes
) -> None:
    headers = [*headers, (b"ETag", b'"x"')]
    response = Response(status, list(headers), body, 7)
    await wrap(exchange(method), response)

    assert response == Response(status, headers, body, 7)


NESTED = b"[" * 1025 + b"]" * 1025


@pytest.mark.parametrize(
    "body",
    [
        b"{", b'{"a": NaN}', b"[Infinity]", b"[-Infinity]", b"{}{}", b"{}\n{}", b"<html>", b"\xff",
        b'"\xff"', '{"a": 1}'.encode("utf-16"), '{"a": 1}'.encode("utf-16-le"), b'"\\ud800"',
        b'{"\\udc00": 1}', NESTED, b"01", b"'a'", b"[1,]", b"\x00",
    ],
    ids=lambda body: str(body[:12]),
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 404, 502])
async def test_json_that_is_none_is_refused(body: bytes, status: int) -> None:
    for sent in (body, pieces(body[:1], body[1:])):
        with pytest.raises(Rejected) as caught:
            await wrap(exchange(), Response(status, [JSON], sent))
        assert (caught.value.code, caught.value.status) == ("upstream_invalid", 502)


async def test_part_of_a_document_is_refused() -> None:
    with pytest.raises(Rejected) as caught:
        await wrap(exchange(), Response(206, [JSON], b"{}"))
    assert caught.value.code == "upstream_invalid"


@pytest.mark.parametrize("body", [b'\xef\xbb\xbf{"a": [1]}', b'{"a": [1]}'])
async def test_byte_order_mark_is_no_part_of_the_document(body: bytes) -> None:
    document, _ = await wrapped(body, headers=[(b"Content-Type", b"text/json")])
    assert document["data"] == {"a": [1]}


async def test_coded_answer_is_wrapped_without_its_coding() -> None:
    coded = gzip.compress(b'{"a": [1]}', mtime=0)
    document, response = await wrapped(coded, headers=[JSON, (b"Content-Encoding", b"gzip")])

    assert document["data"] == {"a": [1]}
    assert response.headers == [JSON]


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        (b"br", b"{}"), (b"gzip", b"{}"), (b"gzip", gzip.compress(b"{}", mtime=0)[:-1]), (b"gzip, gzip", b"{}"),
        (b"gzip", gzip.compress(b"{}", mtime=0) + b"{}"), (b"gzip", gzip.compress(b'"' + b"a" * 99 + b'"', mtime=0)),
    ],
)  # fmt: skip
async def test_coding_that_cannot_be_undone_is_refused(coding: bytes, body: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        await wrap(exchange(), Response(200, [JSON, (b"Content-Encoding", coding)], body))
    assert caught.value.code == "upstream_invalid"


async def test_stream_that_is_not_json_is_not_read() -> None:
    stream = pieces(b"data: 1\n\n", b"data: 2\n\n")
    response = Response(200, [(b"Content-Type", b"text/event-stream")], stream)
    await wrap(exchange(), response)

    assert response.body is stream
    assert [piece async for piece in stream] == [b"data: 1\n\n", b"data: 2\n\n"]


async def test_json_without_an_end_is_not_held_in_memory() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 10
            yield b"[1,2,3,4, "

    with pytest.raises(Rejected) as caught:
        await wrap(exchange(), Response(200, [JSON], endless()))
    assert caught.value.code == "upstream_invalid"
    assert read == 110
