"""JSON answers in another shape: mapped to the endpoint's fields, wrapped in the envelope, or both.

The envelope is `{success, data, error?, meta}`. A map keeps what it doesn't name from callers, so what
can't be mapped is refused; of what is only wrapped, all that isn't JSON passes as it is.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.exchange import Exchange, RawHeaders, Response
from gateway.http.content_coding import decoded
from gateway.model import FieldMap
from gateway.problems import Rejected
from gateway.transform.documents import NotJson

_BODYLESS: Final = frozenset({204, 304})
_NO_CONTENT: Final = 205
_PARTIAL: Final = 206
_OF_THE_BYTES: Final = frozenset(
    b"accept-ranges content-digest content-encoding content-md5 digest etag last-modified "
    b"repr-digest".split()
)
"""Fields that speak of the very bytes, which change here."""


async def reshape(exchange: Exchange, response: Response) -> None:
    """Map a JSON answer and put it into the envelope, as the endpoint says.

    Only a success is mapped: of an upstream's error a map of something else would leave nothing.
    Raises Rejected `upstream_invalid` for what is too large, and for what can't be mapped or wrapped.
    """
    endpoint = exchange.endpoint
    if endpoint.field_map is not None and response.status < 300:
        await _map(endpoint.field_map, exchange, response)
    if endpoint.envelope:
        await wrap(exchange, response)


async def _map(field_map: FieldMap, exchange: Exchange, response: Response) -> None:
    """Map a success. What has no body passes, and so do WebSockets and events that are asked for."""
    if _is_bodyless(exchange, response):
        return
    media_type = _media_type(response)
    if exchange.endpoint.streaming and (response.tunnel or media_type == b"text/event-stream"):
        return
    if not _is_json(media_type):
        if await _has_content(response):
            raise _refused("is not JSON")
        return
    if body := await _content(exchange, response):
        try:
            response.body = field_map.apply(body)
        except NotJson:
            raise _refused("can't be mapped") from None
        response.headers = _without_digests(response.headers)


async def wrap(exchange: Exchange, response: Response) -> None:
    """Put a JSON answer into the envelope; all else passes as it is. Raises like `reshape`."""
    is_empty = _is_bodyless(exchange, response) or response.status == _NO_CONTENT
    if is_empty or not _is_json(_media_type(response)):
        return
    if not (body := await _content(exchange, response)):
        return
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _refused("says that it is JSON, and isn't") from None
    response.body = _envelope(exchange, response.status, body)
    response.headers = [
        (name, b"application/json" if name.lower() == b"content-type" else value)
        for name, value in _without_digests(response.headers)
    ]


def _refused(why: str) -> Rejected:
    return Rejected("upstream_invalid", f"The upstream's answer {why}.")


def _is_bodyless(exchange: Exchange, response: Response) -> bool:
    return response.body == b"" or exchange.method == "HEAD" or response.status in _BODYLESS


def _media_type(response: Response) -> bytes:
    names = {name.lower(): value for name, value in response.headers}
    return names.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _is_json(media_type: bytes) -> bool:
    return media_type in {b"application/json", b"text/json"} or media_type.endswith(b"+json")


async def _has_content(response: Response) -> bool:
    """True when a body has any bytes; what it begins with is gone then."""
    if isinstance(response.body, bytes):
        return bool(response.body)
    async for piece in response.body:
        if piece:
            return True
    response.body, response.length = b"", None
    return False


async def _content(exchange: Exchange, response: Response) -> bytes:
    """The JSON of an answer, read whole and without its coding. Raises Rejected `upstream_invalid`."""
    if response.status == _PARTIAL:
        raise _refused("is only a part")
    most = exchange.endpoint.most_response_bytes(exchange.caller.plan)
    if not isinstance(response.body, bytes):
        response.body, response.length = await _whole(response.body, most), None
    codings = [value for name, value in response.headers if name.lower() == b"content-encoding"]
    try:
        body = await decoded(response.body, b",".join(codings), most)
    except ValueError as error:
        raise _refused(f"has a coding that can't be undone: {error}") from None
    return body.removeprefix(BOM_UTF8)


async def _whole(pieces: AsyncIterator[bytes], most: int) -> bytes:
    """A body that comes in pieces, up to the size limit: one that streams has no other."""
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
