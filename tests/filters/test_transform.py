"""The outgoing request is complete, or nothing is sent."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import pytest

from filters.transform import Options, Transform
from gateway.exchange import Body, Exchange
from gateway.runtime import Runtime
from gateway.transform.compiling import compile_connector
from tests.dataplane import TEAM, answering, assert_honest, endpoint, exchange, refusal_of, snapshot
from tests.loopback import Fields

STAGE = Transform(Options(), cast("Runtime", None))


def asking(fields: Fields = (), secrets: dict[str, str] | None = None, **auth: Any) -> Exchange:
    frozen = snapshot("http://127.0.0.1/v1", [endpoint("POST", "/items/:id")], **auth)
    at = compile_connector(frozen, team=TEAM, secrets=secrets or {})
    return exchange("POST", "/up/items/7?a=%20b", fields, b"body", at)


async def test_outgoing_request_is_made_from_the_callers() -> None:
    request = asking([("Accept", "*/*"), ("Accept", "text/html"), ("x-A", "1")])
    await STAGE(request, answering())

    sent = request.outgoing
    assert (sent.method, sent.target, sent.body, sent.sent) == (
        "POST", "/v1/items/7?a=%20b", None, 0
    )  # fmt: skip
    assert sent.headers == [
        (b"Accept", b"*/*"),
        (b"Accept", b"text/html"),
        (b"x-A", b"1"),
        (b"X-Request-Id", b"request-1"),
        (b"traceparent", f"00-{'a' * 32}-{'b' * 16}-00".encode()),
        (b"Via", b"1.1 service-gateway"),
    ]


async def test_connectors_secret_takes_the_place_of_the_callers_credential() -> None:
    credentials = [("Authorization", "Bearer gw_callers"), ("X-API-Key", "gw_callers")]
    request = asking(credentials, {"token": "upstreams"}, auth_type="bearer")
    await STAGE(request, answering())

    assert (b"Authorization", b"Bearer upstreams") in request.outgoing.headers
    assert b"gw_callers" not in b"".join(value for _, value in request.outgoing.headers)


async def test_secret_that_is_not_set_stops_the_request() -> None:
    refused = await refusal_of(STAGE, asking(auth_type="bearer"))

    assert (refused.code, refused.status) == ("secret_missing", 503)
    assert '"token"' in refused.detail


class Slowly:
    """A body that comes in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)

    def is_eof(self) -> bool:
        return False

    def at_eof(self) -> bool:
        return not self.left

    async def readany(self) -> bytes:
        return self.left.pop(0)

    def read_nowait(self, n: int = -1, /) -> bytes:
        raise AssertionError("it is not here yet")


def posting(source: Slowly, own: dict[str, Any], **auth: Any) -> Exchange:
    """A request whose body is still to come."""
    frozen = snapshot("http://127.0.0.1/v1", [endpoint("POST", "/items/:id", **own)], **auth)
    at = compile_connector(frozen, team=TEAM, secrets=AWS_SECRETS)
    request = exchange("POST", "/up/items/7?q=%22", (), b"", at)
    request.body = Body(source, None)
    return request


AWS_SECRETS = {"access_key": "AKIAEXAMPLE", "secret_key": "s3cret"}
TEMPLATE = {
    "body_transform": "template",
    "upstream_static_body": '{"id": "{{params.id}}", "q": "{{query.q}}", "v": {{body.v}}}',
}


async def test_body_is_read_where_something_is_made_of_it() -> None:
    request = posting(Slowly(b'{"v": [1.1', b'0, "\\""]}'), TEMPLATE)
    await STAGE(request, answering())

    assert request.outgoing.body == b'{"id": "7", "q": "\\"", "v": [1.10,"\\""]}'
    assert (b"Content-Type", b"application/json") in request.outgoing.headers


async def test_body_that_passes_is_left_to_stream() -> None:
    source = Slowly(b"never read")
    request = posting(source, {})
    await STAGE(request, answering())

    assert (request.outgoing.body, source.left) == (None, [b"never read"])


@pytest.mark.parametrize("most", [10, None])
async def test_body_is_read_up_to_the_limit(most: int | None) -> None:
    source = Slowly(*[b"x" * 4096] * 1000)
    request = posting(source, TEMPLATE)
    if most is not None:
        request.body.limit(most)
    refused = await refusal_of(STAGE, request)

    assert (refused.code, len(source.left)) == (("payload_too_large", 999 if most else 1000 - 257))


@pytest.mark.parametrize(
    ("own", "body", "code", "pointers"),
    [
        (TEMPLATE, b"v=1", "bad_request", []),
        ({"body_transform": "form"}, b"[]", "validation_failed", [""]),
        ({"body_transform": "extract:a.b"}, b'{"a": {}}', "validation_failed", ["/a/b"]),
    ],
)
async def test_body_of_which_nothing_can_be_made_is_refused(
    own: dict[str, Any], body: bytes, code: str, pointers: list[str]
) -> None:
    refused = await refusal_of(STAGE, posting(Slowly(body), own))

    assert (refused.code, [fault.pointer for fault in refused.errors]) == (code, pointers)


async def test_signed_payload_is_the_whole_body() -> None:
    config = {"region": "us-east-1", "sign_payload": True}
    request = posting(Slowly(b"Welcome to ", b"Amazon S3."), {}, auth_type="aws-sigv4", auth_config=config)  # fmt: skip
    await STAGE(request, answering())

    digest = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest().encode()
    assert (b"X-Amz-Content-Sha256", digest) in request.outgoing.headers
    assert await request.body.read() == b"Welcome to Amazon S3."


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(STAGE, asking())
