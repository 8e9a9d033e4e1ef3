"""A caller's request as someone describes it in a body, and the exchange that it would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from marshmallow import ValidationError, fields, validates_schema
from multidict import CIMultiDict

from admin.auth_config import header_value
from admin.fields import Wire, matches, pairs, text
from gateway.exchange import Body, Exchange
from gateway.http.header_fields import TCHARS
from gateway.ids import Random

MOST_BODY: Final = 1 << 20
_JSON: Final = ("Content-Type", "application/json")


def path_field(**options: Any) -> fields.String:
    """The path of a request below its connector, percent-encoded."""
    rule = matches(r"/[!\"$-<>@-~]*", "Not a path: a slash and printable ASCII, no ? and no #.")
    return text(8192, rules=(rule,), **options)


class DescribedRequest(Wire):
    """What a request has besides its method and path. A body is JSON, or text as it is."""

    query = text(
        8192,
        rules=(matches(r"[!\"$-~]*", "Not a query: printable ASCII, percent-encoded."),),
        load_default="",
    )
    headers = pairs(
        text(128, rules=(matches(TCHARS, "Not a header's name."),)),
        text(4096, rules=(header_value,)),
    )
    body = fields.Raw(allow_none=True)
    body_text = text(MOST_BODY)

    @validates_schema
    def _one_body(self, item: Mapping[str, Any], **_: Any) -> None:
        if "body" in item and "body_text" in item:
            raise ValidationError("A request has one body: body or bodyText.", "bodyText")


def exchange_of(
    given: Mapping[str, Any],
    method: str,
    path: str,
    *,
    client_address: str,
    request_id: str,
    more: Sequence[tuple[str, str]] = (),
) -> Exchange:
    """The exchange of a described request; `path` begins with the connector, `more` are headers."""
    headers = [*given["headers"].items(), *more]
    body = Body(None)
    if "body" in given:
        body = Body.of(orjson.dumps(given["body"]))
        if "content-type" not in {name.lower() for name, _ in headers}:
            headers.append(_JSON)
    elif "body_text" in given:
        body = Body.of(given["body_text"].encode("utf-8"))
    return Exchange(
        method,
        path,
        given["query"],
        CIMultiDict(headers),
        tuple((name.encode("ascii"), value.encode("utf-8")) for name, value in headers),
        body,
        client_address=client_address,
        request_id=request_id,
        traceparent=Random().traceparent(),
    )
