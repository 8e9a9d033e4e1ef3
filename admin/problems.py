"""Every answer's frame: its request id, and whatever goes wrong as problem+json (RFC 9457).

This is the outermost middleware: nothing leaves the admin API without passing here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from marshmallow import ValidationError

from gateway import problems
from gateway.database import DatabaseAway
from gateway.ids import Random, is_request_id
from gateway.problems import Fault, Rejected
from gateway.transform.rules import pointer

log = logging.getLogger(__name__)

REQUEST_ID: Final = web.RequestKey("request_id", str)
_RETRY_AFTER_S: Final = 2
_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "Server": "service-gateway",
    "X-Content-Type-Options": "nosniff",
}


@web.middleware
async def framed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, turn exceptions into problems, and mark the answer."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if is_request_id(given) else Random().request_id()
    request[REQUEST_ID] = request_id
    try:
        response = await handler(request)
    except Exception as error:  # whatever it is, it is answered, and logged when it is ours
        response = _problem(rejection(error), request_id)
        if response.status == 500:
            log.exception("an admin request failed", extra={"request_id": request_id})
    frame(response, request_id)
    return response


def frame(response: web.StreamResponse, request_id: str) -> None:
    """Mark an answer; one that is streamed is marked before it begins."""
    if not response.prepared:
        response.headers.update(_ALWAYS)
        response.headers["X-Request-Id"] = request_id


def rejection(error: Exception) -> Rejected:
    """What an exception is to the caller."""
    match error:
        case Rejected():
            return error
        case ValidationError():
            errors = list(faults(error.messages))
            return Rejected("validation_failed", _first_of(errors), errors=errors)
        case DatabaseAway():
            return Rejected(
                "store_unavailable", "The database does not answer.", retry_after_s=_RETRY_AFTER_S
            )
        case web.HTTPException():
            return _from_http(error)
        case web.RequestPayloadError() | ConnectionError():
            return Rejected("bad_request", "The body did not arrive whole.")
        case _:
            return Rejected("internal", "The gateway has a fault; its log has the request id.")


def _from_http(error: web.HTTPException) -> Rejected:
    match error:
        case web.HTTPMethodNotAllowed():
            allow = ", ".join(sorted(error.allowed_methods))
            headers = [(b"Allow", allow.encode("ascii"))]
            return Rejected("method_not_allowed", f"This path takes {allow}.", headers=headers)
        case web.HTTPRequestEntityTooLarge():
            return Rejected("payload_too_large", "The body is larger than the admin API takes.")
        case web.HTTPNotFound():
            return Rejected("not_found", "The admin API has nothing at this path.")
        case _ if error.status < 500:
            return Rejected("bad_request", error.reason)
        case _:
            return Rejected("internal", "The gateway has a fault; its log has the request id.")


def faults(messages: Any, path: tuple[str | int, ...] = ()) -> Iterator[Fault]:
    """Marshmallow's nested messages as faults with JSON pointers (RFC 6901)."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from faults(inner, path if name == "_schema" else (*path, name))
    elif isinstance(messages, list):
        for inner in messages:
            yield from faults(inner, path)
    else:
        yield Fault(pointer(path), str(messages))


def _first_of(errors: list[Fault]) -> str:
    more = f" There are {len(errors)} faults." if len(errors) > 1 else ""
    return f"{errors[0].pointer or 'The body'}: {errors[0].detail}{more}"


def _problem(rejected: Rejected, request_id: str) -> web.Response:
    response = web.Response(
        status=rejected.status,
        body=problems.render(rejected, request_id),
        content_type=problems.MEDIA_TYPE,
    )
    for name, value in rejected.headers:
        response.headers[name.decode("ascii")] = value.decode("ascii")
    return response
