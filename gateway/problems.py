"""The errors that the gateway makes: stable codes, their statuses, and problem+json (RFC 9457).

Both planes use this table; an error that is not in it does not leave the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

_SOON_S: Final = 5.0
_LONG_DETAIL: Final = 256
"""What is longer may be a caller's own text: it is not kept to be said again."""
MEDIA_TYPE: Final = "application/problem+json"
DOCUMENTATION: Final = "https://service-gateway.readthedocs.io/errors#"


def quoted(text: str) -> str:
    """A text of somebody else's in a message: as JSON and YAML write it."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


class Kind(NamedTuple):
    """What a code always means: its status, its title, and whether to try again makes sense."""

    status: int
    title: str
    retryable: bool


KINDS: Final[dict[str, Kind]] = {
    "bad_request": Kind(400, "The request is not valid HTTP or JSON", False),
    "unauthenticated": Kind(401, "A valid credential is needed", False),
    "forbidden": Kind(403, "This caller may not do this", False),
    "not_found": Kind(404, "There is no such object", False),
    "connector_not_found": Kind(404, "There is no such connector", False),
    "endpoint_not_found": Kind(404, "The connector has no such endpoint", False),
    "method_not_allowed": Kind(405, "The path does not take this method", False),
    "conflict": Kind(409, "This conflicts with what is there", False),
    "precondition_failed": Kind(412, "The object has changed since it was read", False),
    "payload_too_large": Kind(413, "The request body is too large", False),
    "uri_too_long": Kind(414, "The request's target is too long", False),
    "unsupported_media_type": Kind(415, "The media type is not taken here", False),
    "validation_failed": Kind(422, "The request breaks a rule", False),
    "rate_limited": Kind(429, "Too many requests", True),
    "quota_exceeded": Kind(429, "The quota is used up", True),
    "too_many_concurrent": Kind(429, "Too many requests at the same time", True),
    "fields_too_large": Kind(431, "The request's header fields are too large or too many", False),
    "internal": Kind(500, "The gateway has a fault", False),
    "upstream_blocked": Kind(502, "The upstream must not be connected to", False),
    "upstream_unavailable": Kind(502, "The upstream could not be reached", True),
    "upstream_invalid": Kind(502, "The upstream's answer could not be used", False),
    "secret_missing": Kind(503, "The connector's secret is not set", False),
    "circuit_open": Kind(503, "The upstream is failing and is left alone for a moment", True),
    "store_unavailable": Kind(503, "A store that the gateway needs is away", True),
    "overloaded": Kind(503, "The gateway has too much to do at the moment", True),
    "draining": Kind(503, "The gateway is shutting down", True),
    "upstream_timeout": Kind(504, "The upstream took too long", True),
    "not_cached": Kind(504, "The answer is not in the cache", False),
    "loop_detected": Kind(508, "The request came back to this gateway", False),
}

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An error that the gateway made (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "requestId", "retryable"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "Where the code is explained."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "For people; it may change."},
        "code": {"type": "string", "enum": [*KINDS], "description": "Stable."},
        "requestId": {"type": "string", "description": "It is in the gateway's log, too."},
        "retryable": {"type": "boolean"},
        "errors": {
            "type": "array",
            "description": "Which places of the request are at fault.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "A JSON pointer, or a name."},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
"""The JSON Schema of what `document` makes."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One spot in the caller's input: a JSON pointer (RFC 6901) or a field's name, and why."""

    pointer: str
    detail: str


class Rejected(Exception):
    """The request is answered here and now with an error of the table.

    `headers` are added to the answer, `retry_after_s` becomes `Retry-After` in whole seconds, rounded
    up; a 503 has one in any case. `by` is the filter that made it, where another has passed it on.
    `counted_as` is what metrics call it, where the caller is not to know as much.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = self.counted_as = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = list(headers)
        self.by = ""
        if retry_after_s is None and self.status == 503:
            retry_after_s = _SOON_S
        if retry_after_s is not None:
            seconds = max(1, int(-(-retry_after_s // 1)))
            self.headers.append((b"Retry-After", b"%d" % seconds))

    @property
    def status(self) -> int:
        """The HTTP status that belongs to the code."""
        return KINDS[self.code].status


def internal() -> Rejected:
    """What a fault of the gateway itself is answered with: the rest is in the log."""
    return Rejected("internal", "The gateway has a fault; its log has this request id.")


def answer_to(error: Exception) -> Rejected:
    """What an error is answered with: a refusal is one already, anything else is a fault of ours."""
    return error if isinstance(error, Rejected) else internal()


def document(rejected: Rejected, request_id: str) -> dict[str, Any]:
    """The problem details object of RFC 9457 section 3, with our extension members."""
    kind = KINDS[rejected.code]
    body: dict[str, Any] = {
        "type": DOCUMENTATION + rejected.code,
        "title": kind.title,
        "status": kind.status,
        "detail": rejected.detail,
        "code": rejected.code,
        "requestId": request_id,
        "retryable": kind.retryable,
    }
    if rejected.errors:
        body["errors"] = [
            {"pointer": fault.pointer, "detail": fault.detail} for fault in rejected.errors
        ]
    return body


def render(rejected: Rejected, request_id: str) -> bytes:
    """The problem document as JSON."""
    if rejected.errors or len(rejected.detail) > _LONG_DETAIL:
        return orjson.dumps(document(rejected, request_id))
    before, after = _around_id(rejected.code, rejected.detail)
    return b"".join((before, orjson.dumps(request_id), after))


@lru_cache(maxsize=1024)
def _around_id(code: str, detail: str) -> tuple[bytes, bytes]:
    """What a document has before and behind its request id: most say the same each time."""
    whole = orjson.dumps(document(Rejected(code, detail), ""))
    before, member, after = whole.partition(b'"requestId":')
    return before + member, after.removeprefix(b'""')
