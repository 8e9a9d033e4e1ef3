"""Sends answers in gzip to callers who take it. Refuses nothing.

Goes outside of `respond`, which gives answers their final bytes. What is encoded, partial, an event
stream or marked no-transform stays as it is (RFC 9110 7.7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.http.content_coding import Gzipped, gzipped, takes_gzip
from gateway.http.header_fields import joined, tokens, vary_by, without
from gateway.http.pieces import is_event_stream
from gateway.http.wire import has_no_body
from gateway.options import texts, whole
from gateway.runtime import Runtime

_USUAL_TYPES: Final = (
    "text/*", "application/json", "*+json", "application/x-ndjson", "application/javascript",
    "application/xml", "*+xml",
)  # fmt: skip
_FORBIDDING: Final = frozenset(
    b"content-digest content-encoding content-md5 content-range digest repr-digest".split()
)
"""Fields of answers that are encoded, partial, or signed as they are."""
_OF_THE_BYTES: Final = frozenset([b"accept-ranges", b"content-length", b"etag"])


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `compress`."""

    media_types: tuple[str, ...] = texts(
        _USUAL_TYPES, "The media types that are compressed; * stands for any characters."
    )
    least_bytes: int = whole(
        1024, "The smallest body that is compressed, where its size is known.", least=1
    )
    level: int = whole(5, "From 1, the fastest, to 9, the smallest.", least=1, most=9)

    def __post_init__(self) -> None:
        """A filter that compresses nothing is a mistake."""
        if not self.media_types:
            raise ValueError("media_types names no type")


class Compress:
    """Compresses what comes out of the filters inside."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"content_coding"})
    precedes: ClassVar[frozenset[str]] = frozenset({"final_answer"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._options = options
        patterns = (translate(pattern.lower()) for pattern in options.media_types)
        self._is_listed = re.compile("|".join(patterns)).match

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        response = await proceed(exchange)
        if not self._suits(response):
            return response
        vary_by(response.headers, "Accept-Encoding")
        if has_no_body(exchange.method, response.status):
            return response
        if not takes_gzip(joined(exchange.raw_headers, b"accept-encoding")):
            return response
        _mark(response)
        if isinstance(response.body, bytes):
            response.body = await gzipped(response.body, self._options.level)
        else:
            response.body = Gzipped(response.body, self._options.level)
        response.length = None
        return response

    def _suits(self, response: Response) -> bool:
        """True for an answer that is better sent in gzip, should the caller take it."""
        headers, body, size = response.headers, response.body, response.length
        if isinstance(body, bytes) and (body or size is None):
            size = len(body)
        if size is not None and size < self._options.least_bytes:
            return False
        media_type = (joined(headers, b"content-type") or "").partition(";")[0].strip().lower()
        if not media_type or not self._is_listed(media_type) or is_event_stream(headers):
            return False
        if response.status in {206, 304} or len(without(headers, _FORBIDDING)) < len(headers):
            return False
        return "no-transform" not in tokens(joined(headers, b"cache-control"))


def _mark(response: Response) -> None:
    """Say that the answer is in gzip: other bytes, so that a strong entity tag is a weak one."""
    tag = joined(response.headers, b"etag")
    response.headers = without(response.headers, _OF_THE_BYTES)
    response.headers.append((b"Content-Encoding", b"gzip"))
    if tag:
        weak = tag if tag.startswith("W/") else f"W/{tag}"
        response.headers.append((b"ETag", weak.encode("latin-1")))
