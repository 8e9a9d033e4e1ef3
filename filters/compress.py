"""Sends answers in gzip to callers who take it. Refuses nothing.

Goes outside of `respond`, which gives answers their final bytes. What is encoded, partial, an event
stream or marked no-transform stays as it is (RFC 9110 7.7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, RawHeaders, Response
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
_PARTIAL: Final = 206
_NOT_MODIFIED: Final = 304
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
        takes = takes_gzip(joined(exchange.raw_headers, b"accept-encoding"))
        if response.status == _NOT_MODIFIED:
            self._confirm(exchange, response, takes=takes)
            return response
        if not self._suits(response):
            return response
        vary_by(response.headers, "Accept-Encoding")
        if not takes or (
            has_no_body(exchange.method, response.status) and exchange.method != "HEAD"
        ):
            return response
        _mark(response)
        if exchange.method == "HEAD":
            response.body = b""
        elif isinstance(response.body, bytes):
            response.body = await gzipped(response.body, self._options.level)
        else:
            response.body = Gzipped(response.body, self._options.level)
        response.length = None
        return response

    def _confirm(self, exchange: Exchange, response: Response, *, takes: bool) -> None:
        """Give a 304 the Vary and the entity tag of its 200 (RFC 9110 15.4.5).

        Where it has no media type, the caller's tag tells whether that was compressed.
        """
        headers = response.headers
        media_type = joined(headers, b"content-type")
        if (media_type is not None and not self._is_of_listed(media_type)) or not _may_code(
            headers
        ):
            return
        vary_by(headers, "Accept-Encoding")
        response.length = None
        tag = joined(headers, b"etag") or ""
        had = joined(exchange.raw_headers, b"if-none-match") or ""
        if takes and tag and (media_type is not None or f"W/{tag}" in had):
            response.headers = [*without(headers, {b"etag"}), _weak(tag)]

    def _is_of_listed(self, content_type: str) -> bool:
        media_type = content_type.partition(";")[0].strip().lower()
        return bool(media_type and self._is_listed(media_type))

    def _suits(self, response: Response) -> bool:
        """True for an answer that is better sent in gzip, should the caller take it."""
        headers, body, size = response.headers, response.body, response.length
        if isinstance(body, bytes) and (body or size is None):
            size = len(body)
        if size is not None and size < self._options.least_bytes:
            return False
        if not self._is_of_listed(joined(headers, b"content-type") or ""):
            return False
        return response.status != _PARTIAL and not is_event_stream(headers) and _may_code(headers)


def _may_code(headers: RawHeaders) -> bool:
    """True when nothing in an answer says that its bytes are to stay as they are."""
    if len(without(headers, _FORBIDDING)) < len(headers):
        return False
    return "no-transform" not in tokens(joined(headers, b"cache-control"))


def _mark(response: Response) -> None:
    """Say that the answer is in gzip: other bytes, so that a strong entity tag is a weak one."""
    tag = joined(response.headers, b"etag")
    response.headers = without(response.headers, _OF_THE_BYTES)
    response.headers.append((b"Content-Encoding", b"gzip"))
    if tag:
        response.headers.append(_weak(tag))


def _weak(tag: str) -> tuple[bytes, bytes]:
    weak = tag if tag.startswith("W/") else f"W/{tag}"
    return b"ETag", weak.encode("latin-1")
