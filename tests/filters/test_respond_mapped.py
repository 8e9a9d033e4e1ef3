"""Mapped answers: the fields that the endpoint names, in the envelope or without, and all else as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from filters.respond import Options, Respond
from gateway.exchange import Exchange, Proceed, Response
from gateway.options import load
from gateway.runtime import Runtime
from tests.dataplane import connector, endpoint, exchange

URL = "http://127.0.0.1"
JSON = (b"Content-Type", b"application/json")


def stage(runtime: Runtime) -> Respond:
    return Respond(load(Options, {}), runtime)


def answered(
    status: int, *fields: tuple[bytes, bytes], body: bytes | AsyncIterator[bytes] = b""
) -> Proceed:
    async def proceed(request: Exchange) -> Response:
        request.outcome.source = "upstream"
        return Response(status, list(fields), body)

    return proceed


async def pieces(*these: bytes) -> AsyncIterator[bytes]:
    for piece in these:
        yield piece


MAP = {"who": "user.name", "ids": "items[].id"}
MAPPABLE = b'{"user": {"name": "ana", "mail": "x"}, "items": [{"id": 1.10}, {}]}'
MAPPED = b'{"who":"ana","ids":[1.10,null]}'


def mapping(method: str = "GET", **definition: Any) -> Exchange:
    own = endpoint("GET", "/x", field_map=MAP)
    return exchange(method, at=connector(URL, own, **definition))


async def test_json_is_mapped_where_the_endpoint_says_so(runtime: Runtime) -> None:
    fields = [(b"Content-Type", b"application/hal+json"), (b"ETag", b'"1"'), (b"X-A", b"1")]
    response = await stage(runtime)(
        mapping(), answered(200, *fields, body=pieces(MAPPABLE[:9], MAPPABLE[9:]))
    )

    assert (response.body, response.length) == (MAPPED, None)
    assert response.headers[:2] == [fields[0], fields[2]]


async def test_what_is_mapped_is_wrapped(runtime: Runtime) -> None:
    response = await stage(runtime)(
        mapping(response_mode="envelope"), answered(200, JSON, body=MAPPABLE)
    )

    assert isinstance(response.body, bytes)
    assert b'"success":true,"data":' + MAPPED in response.body


async def test_upstreams_error_is_not_mapped_away(runtime: Runtime) -> None:
    error = b'{"error": {"message": "no such song"}}'
    messages = {"404": "No such song."}
    raw = await stage(runtime)(mapping(error_mapping=messages), answered(404, JSON, body=error))
    wrapped = await stage(runtime)(
        mapping(error_mapping=messages, response_mode="envelope"), answered(404, JSON, body=error)
    )

    assert raw.body == error  # a raw answer is the upstream's own, whatever errorMapping says
    assert isinstance(wrapped.body, bytes)
    assert orjson.loads(wrapped.body)["data"] == orjson.loads(error)
    assert orjson.loads(wrapped.body)["error"]["message"] == "No such song."


@pytest.mark.parametrize(
    ("method", "status", "fields", "body"),
    [
        ("GET", 200, [(b"Content-Type", b"text/event-stream")], b"data: {}\n\n"),
        ("GET", 200, [JSON, (b"Content-Encoding", b"br")], b"\x1f\x8b"),
        ("GET", 200, [JSON], b"{not json"),
        ("GET", 200, [JSON], b'{"user": {"name": "\\ud800"}}'),
        ("GET", 204, [JSON], b""),
        ("GET", 206, [JSON, (b"Content-Range", b"bytes 0-1/9")], b"{}"),
        ("HEAD", 200, [JSON, (b"ETag", b'"1"')], b""),
    ],
)
async def test_all_else_passes_the_map_as_it_is(
    runtime: Runtime, method: str, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    response = await stage(runtime)(mapping(method), answered(status, *fields, body=body))

    assert response.body == body
    assert response.headers[: len(fields)] == list(fields)


@pytest.mark.parametrize(("most", "status"), [(len(MAPPABLE), 200), (len(MAPPABLE) - 1, 502)])
async def test_answer_that_is_read_keeps_to_the_endpoints_limit(
    runtime: Runtime, most: int, status: int
) -> None:
    own = endpoint("GET", "/x", field_map=MAP, max_response_size=most, streaming_enabled=True)
    request = exchange(at=connector(URL, own))
    response = await stage(runtime)(
        request, answered(200, JSON, body=pieces(MAPPABLE[:9], MAPPABLE[9:]))
    )

    assert response.status == status
    assert request.outcome.error_code == ("" if status == 200 else "upstream_invalid")
