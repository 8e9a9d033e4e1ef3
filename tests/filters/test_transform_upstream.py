"""Transforms as an upstream sees them: the whole gateway, real connections, botocore as the verifier."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped] # it has no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped] # the same
from botocore.credentials import Credentials  # type: ignore[import-untyped] # the same

from tests.dataplane import Gateway, endpoint
from tests.loopback import Call, Upstream

Start = Callable[..., Awaitable[Gateway]]
AWS = {"access_key": "AKIAEXAMPLE", "secret_key": "s3cret"}
JSON = [("Content-Type", "application/json")]


def botocores(call: Call) -> str:
    """The Authorization that botocore would have sent with this very request."""
    names = [(n.decode(), v.decode()) for n, v in call.fields if n.lower() != b"authorization"]
    sent = str(call.field("authorization"))
    covered = sent.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest(call.method, f"http://{call.field('host')}{call.target}")
    for name, value in names:
        if name.lower() in covered:
            request.headers[name] = value
    request.context.update(timestamp=call.field("x-amz-date"))
    signer: Any = S3SigV4Auth(Credentials(*AWS.values()), "s3", "eu-west-3")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    scope, signature = signer.scope(request), signer.signature(text, request)
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={';'.join(covered)}, Signature={signature}"


@pytest.mark.parametrize("sign_payload", [True, False])
@pytest.mark.parametrize("query", ["", "?partNumber=1&uploadId=a%2Fb%20c", "?acl"])
async def test_upstream_finds_the_signature_right(
    gateway: Start, upstream: Upstream, sign_payload: bool, query: str
) -> None:
    started = await gateway()
    config = {"region": "eu-west-3", "sign_payload": sign_payload}
    await started.rows.connector(
        upstream.url, secrets=AWS, auth_type="aws-sigv4", auth_config=config
    )
    fields = [
        ("X-API-Key", await started.rows.key()), ("Content-Type", "text/plain"),
        ("Authorization", "AWS4-HMAC-SHA256 Credential=of/the/caller"), ("X-Amz-Meta-A", "b"),
    ]  # fmt: skip
    answer = await started.call("PUT", f"/up/bucket/a%20b%21{query}", fields, b"content")

    assert (answer.status, upstream.call.body) == (200, b"content")
    assert upstream.call.target == f"/bucket/a%20b%21{query}"
    assert upstream.call.field("authorization") == botocores(upstream.call)
    assert str(upstream.call.field("authorization")).count("x-amz-meta-a") == 1


async def test_callers_credential_for_the_upstream_passes_and_the_gateways_never_does(
    gateway: Start, upstream: Upstream
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url, auth_type="passthrough")
    key = await started.rows.key()
    beside = [("X-API-Key", key)]
    passed = await started.call(fields=[*beside, ("Authorization", "Bearer the.callers.own")])
    refused = [
        await started.call(fields=[("Authorization", f"Bearer {key}")]),
        await started.call(fields=beside),
    ]

    assert passed.status == 200
    assert upstream.call.all("authorization") == ["Bearer the.callers.own"]
    assert upstream.call.all("x-api-key") == []
    assert [(answer.status, answer.code) for answer in refused] == [(422, "validation_failed")] * 2


async def test_upstream_gets_the_made_body_and_the_caller_the_mapped_answer(
    gateway: Start, upstream: Upstream
) -> None:
    own: dict[str, Any] = {"body_transform": "form", "field_map": {"who": "customer.name"}}
    started = await gateway()
    await started.rows.connector(
        upstream.url, endpoint("POST", "/charges", response_mode="envelope", **own)
    )

    async def charge(call: Call) -> None:
        await call.answer(201, b'{"id": 1, "customer": {"name": "ana"}}', JSON)

    upstream.script = charge
    answer = await started.call(
        "POST", "/up/charges", JSON, b'{"amount": 5, "meta": {"k": ["v&w"]}}',
        key=await started.rows.key(),
    )  # fmt: skip

    assert upstream.call.body == b"amount=5&meta%5Bk%5D%5B0%5D=v%26w"
    assert upstream.call.all("content-type") == ["application/x-www-form-urlencoded"]
    assert answer.status == 201
    assert (answer.json()["data"], answer.json()["meta"]["upstreamStatus"]) == ({"who": "ana"}, 201)


async def test_refused_body_is_not_sent_and_the_connection_goes_on(
    gateway: Start, upstream: Upstream
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url, endpoint("POST", "/x", body_transform="extract:a"))
    client = await started.client()
    fields = [("Authorization", f"Bearer {await started.rows.key()}")]
    codes = []
    for body in (b"{}", b"not JSON"):
        await client.request("POST", "/api/v1/gw/up/x", fields, body)
        codes.append((await client.answer("POST")).code)

    assert codes == ["validation_failed", "bad_request"]
    assert upstream.calls == []
