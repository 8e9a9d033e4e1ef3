"""JSON answers in another shape: mapped to the endpoint's fields, wrapped in the envelope, or both.

The envelope is `{success, data, error?, meta}`. All other answers pass as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.exchange import Exchange, RawHeaders, Response
from gateway.http.content_coding import ungzipped
from gateway.http.header_fields import without
from gateway.model import FieldMap
from gateway.problems import Rejected
from gateway.transform.documents import NotJson

_NOT_WHOLE: Final = frozenset({204, 205, 206, 304})
_GZIP: Final = frozenset([b"gzip", b"x-gzip"])
_READABLE: Final = _GZIP | {b"identity"}
_OF_THE_BYTES: Final = frozenset(
    b"accept-ranges content-digest content-md5 digest etag last-modified repr-digest".split()
)
"""Fields that speak of the very bytes, which change here."""


async def reshape(exchange: Exchange, response: Response) -> None:
    """Map a JSON answer and put it into the envelope, as the endpoint says.

    Gzip is unwrapped. Event streams, binary, otherwise encoded, partial and bodyless answers pass, and so does a
    body that says it is JSON and isn't. Only a success is mapped: of an upstream's error a map of
    something else would leave nothing. Raises Rejected `upstream_invalid` for what is too large.
    """
    endpoint = exchange.endpoint
    if endpoint.field_map is not None and response.status < 300:
        await _map(endpoint.field_map, exchange, response)
    if endpoint.envelope:
        await wrap(exchange, response)


async def _map(field_map: FieldMap, exchange: Exchange, response: Response) -> None:
    if (body := await _json(exchange, response)) is None:
        return
    with suppress(NotJson):
        response.body = field_map.apply(body)
        response.headers = _without_digests(response.headers)


async def wrap(exchange: Exchange, response: Response) -> None:
    """Put a JSON answer into the envelope; all else passes as it is. Raises like `reshape`."""
    if (body := await _json(exchange, response)) is None:
        return
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    response.body = _envelope(exchange, response.status, body)
    response.headers = [
        (name, b"application/json" if name.lower() == b"content-type" else value)
        for name, value in _without_digests(response.headers)
    ]


async def _json(exchange: Exchange, response: Response) -> bytes | None:
    """The body of an answer that says it is JSON, read whole; None for any other answer."""
    names = {name.lower(): value for name, value in response.headers}
    media_type = names.get(b"content-type", b"").partition(b";")[0].strip().lower()
    is_json = media_type == b"application/json" or media_type.endswith(b"+json")
    bodyless = exchange.method == "HEAD" or response.status in _NOT_WHOLE
    coding = names.get(b"content-encoding", b"identity").strip().lower()
    if not is_json or bodyless or coding not in _READABLE:
        return None
    if not isinstance(response.body, bytes):
        response.body, response.length = await _whole(exchange, response.body), None
    if coding in _GZIP:
        response.body = await _unwrapped(exchange, response.body)
    response.headers = without(response.headers, {b"content-encoding"})
    return response.body


async def _unwrapped(exchange: Exchange, body: bytes) -> bytes:
    """The body of an answer in gzip, from an upstream that was asked for none."""
    most = exchange.endpoint.most_response_bytes(exchange.caller.plan)
    if (content := await ungzipped(body, most)) is None:
        raise Rejected("upstream_invalid", f"The answer is not gzip of at most {most} bytes.")
    return content


async def _whole(exchange: Exchange, pieces: AsyncIterator[bytes]) -> bytes:
    """A body that comes in pieces, up to the size limit: one that streams has no other."""
    most = exchange.endpoint.most_response_bytes(exchange.caller.plan)
    found, size = [], 0
    async for piece in pieces:
        size += len(piece)
        if size > most:
            raise Rejected("upstream_invalid", f"The answer has more than {most} bytes.")
        found.append(piece)
    return b"".join(found)


def _without_digests(headers: RawHeaders) -> RawHeaders:
    return [field for field in headers if field[0].lower() not in _OF_THE_BYTES]


def _envelope(exchange: Exchange, status: int, body: bytes) -> bytes:
    document: dict[str, Any] = {
        "success": status < 400,
        "data": orjson.Fragment(body),
        "meta": {
            "connector": exchange.connector.slug,
            "upstreamStatus": status,
            "latencyMs": round(exchange.elapsed_s() * 1000, 3),
            "cached": exchange.outcome.cached,
            "timestamp": datetime.fromtimestamp(exchange.at, UTC).isoformat(
                timespec="milliseconds"
            ),
            "requestId": exchange.request_id,
        },
    }
    if status >= 400:
        mapping = exchange.endpoint.error_mapping
        message = mapping.get(str(status)) or f"The upstream answered with status {status}."
        document["error"] = {"code": f"upstream_{status}", "message": message}
    return orjson.dumps(document)
