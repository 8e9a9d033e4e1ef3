"""Mapped answers: the fields that the endpoint names, in the envelope or without, and all else as it is."""

from __future__ import annotations

import gzip
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
        ("GET", 200, [(b"Content-Type", b"text/plain")], b""),
        ("GET", 200, [JSON], b""),
        ("GET", 204, [JSON], b""),
        ("GET", 304, [JSON], b""),
        ("HEAD", 200, [JSON, (b"ETag", b'"1"')], b""),
    ],
)
async def test_what_has_no_body_passes_the_map(
    runtime: Runtime, method: str, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    response = await stage(runtime)(mapping(method), answered(status, *fields, body=body))

    assert (response.status, response.body) == (status, body)
    assert response.headers[: len(fields)] == list(fields)


SECRET = b'{"user": {"name": "ana"}, "secret": "hush"}'


@pytest.mark.parametrize(
    ("status", "fields", "body"),
    [
        (200, [JSON], b"{not json"),
        (200, [JSON], b'{"user": {"name": "\\ud800"}, "secret": "hush"}'),
        (200, [JSON], b'{"user": {"name": ' + b"[" * 255 + b"]" * 255 + b'}, "secret": "hush"}'),
        (200, [JSON], b'{"user": ' + b"[" * 99_999 + b"]" * 99_999 + b', "secret": "hush"}'),
        (200, [JSON], b'{"user": "\xff", "secret": "hush"}'),
        (200, [JSON], b'{"user": NaN, "secret": "hush"}'),
        (200, [JSON], b'{"user": -Infinity, "secret": "hush"}'),
        (200, [JSON], SECRET + SECRET),
        (200, [JSON], SECRET.decode().encode("utf-16")),
        (200, [JSON], SECRET.decode().encode("utf-32")),
        (200, [(b"Content-Type", b"application/x-ndjson")], SECRET + b"\n" + SECRET),
        (200, [(b"Content-Type", b"application/jsonl")], SECRET),
        (200, [(b"Content-Type", b"application/json-seq")], SECRET),
        (200, [(b"Content-Type", b"text/plain")], SECRET),
        (200, [(b"Content-Type", b"application/octet-stream")], SECRET),
        (200, [(b"Content-Type", b"text/event-stream")], b"data: " + SECRET + b"\n\n"),
        (200, [JSON, (b"Content-Type", b"text/html")], SECRET),
        (200, [], SECRET),
        (205, [], SECRET),
        (206, [JSON, (b"Content-Range", b"bytes 0-41/42")], SECRET),
        (200, [JSON, (b"Content-Encoding", b"br")], SECRET),
        (200, [JSON, (b"Content-Encoding", b"gzip")], SECRET),
        (200, [JSON, (b"Content-Encoding", b"gzip")], gzip.compress(SECRET, mtime=0)[:-4]),
        (200, [JSON, (b"Content-Encoding", b"gzip"), (b"Content-Encoding", b"gzip")], SECRET),
    ],
)
async def test_what_cannot_be_mapped_is_shown_to_nobody(
    runtime: Runtime, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    enveloped = {"response_mode": "envelope"}
    for sent, definition in ((pieces(b"", body[:5], body[5:]), {}), (body, enveloped), (body, {})):
        request = mapping(**definition)
        response = await stage(runtime)(request, answered(status, *fields, body=sent))

        assert isinstance(response.body, bytes)
        assert b"hush" not in response.body
        assert (response.status, request.outcome.error_code) == (502, "upstream_invalid")


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ([(b"Content-Type", b"text/json; charset=utf-8")], SECRET),
        ([JSON], b"\xef\xbb\xbf" + SECRET),
        ([JSON, (b"Content-Encoding", b"gzip")], gzip.compress(SECRET, mtime=0)),
        ([JSON, (b"Content-Encoding", b"identity")], SECRET),
        ([JSON], b'{"user": {"name": "bob"}, "user": {"name": "ana"}, "more": "\\ud800"}'),
        ([JSON], b'{"user": {"name": "ana"}, "more": [1e999, ' + b"9" * 9999 + b"]}"),
    ],
)
async def test_odd_but_legal_json_is_mapped(
    runtime: Runtime, fields: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    response = await stage(runtime)(mapping(), answered(200, *fields, body=body))

    assert response.body == b'{"who":"ana"}'
    assert b"content-encoding" not in {name.lower() for name, _ in response.headers}


async def test_events_pass_the_map_of_an_endpoint_that_streams(runtime: Runtime) -> None:
    own = endpoint("GET", "/x", field_map=MAP, streaming_enabled=True)
    events = pieces(b"data: 1\n\n")
    answer = answered(200, (b"Content-Type", b"text/event-stream"), body=events)

    assert (await stage(runtime)(exchange(at=connector(URL, own)), answer)).body is events


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
