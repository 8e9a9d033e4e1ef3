"""The envelope: a JSON answer wrapped as `{success, data, error?, meta}`; all else passes as it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import orjson

from gateway.exchange import Exchange, Response

_BODYLESS: Final = frozenset({204, 205, 304})
_OF_THE_BYTES: Final = frozenset(
    b"accept-ranges content-digest content-md5 digest etag last-modified repr-digest".split()
)
"""Fields that speak of the very bytes, which the envelope changes."""


async def wrap(exchange: Exchange, response: Response) -> None:
    """Put a JSON answer into the envelope.

    Event streams, binary, encoded and bodyless answers pass as they are, and so does a body that
    says it is JSON and isn't.
    """
    names = {name.lower(): value for name, value in response.headers}
    media_type = names.get(b"content-type", b"").partition(b";")[0].strip().lower()
    is_json = media_type == b"application/json" or media_type.endswith(b"+json")
    bodyless = exchange.method == "HEAD" or response.status in _BODYLESS
    if not is_json or bodyless or b"content-encoding" in names:
        return
    body = response.body
    if not isinstance(body, bytes):
        body = b"".join([piece async for piece in body])
        response.body, response.length = body, None
    if not body:
        return
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    response.body = _envelope(exchange, response.status, body)
    response.headers = [
        (name, b"application/json" if name.lower() == b"content-type" else value)
        for name, value in response.headers
        if name.lower() not in _OF_THE_BYTES
    ]


def _envelope(exchange: Exchange, status: int, body: bytes) -> bytes:
    document: dict[str, Any] = {
        "success": status < 400,
        "data": orjson.Fragment(body),
        "meta": {
            "connector": exchange.connector.slug,
            "upstreamStatus": status,
            "latencyMs": round(exchange.elapsed_s() * 1000, 3),
            "cached": exchange.cached,
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
