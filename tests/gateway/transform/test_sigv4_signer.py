"""The last step of a request that is signed: what is covered, and which payload is said to be sent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from multidict import CIMultiDict

from gateway.exchange import Body, Exchange, Outgoing
from gateway.problems import Rejected
from gateway.transform.sigv4 import UNSIGNED, UNSIGNED_CHUNKS, Credentials, Signer, authorization

S3 = Credentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3"
)
S3_STAMP = "20130524T000000Z"
Fields = Sequence[tuple[bytes, bytes]]
AT = datetime(2013, 5, 24, tzinfo=UTC).timestamp()


def signed(
    target: str = "/b/k",
    passed: Fields = (),
    body: bytes | None = None,
    content: bytes = b"",
    *,
    fields: Sequence[tuple[str, str]] = (),
    token: bytes | None = None,
    sign_payload: bool = False,
) -> Outgoing:
    """An upstream request after it was signed."""
    exchange = Exchange(
        "PUT", target, "", CIMultiDict(fields), (), Body.of(content),
        client_address="", request_id="r", at=AT,
    )  # fmt: skip
    outgoing = Outgoing("PUT", target, list(passed), body)
    Signer(S3, token, sign_payload)(exchange, outgoing, b"h.example:9000")
    return outgoing


def value(outgoing: Outgoing, name: bytes) -> bytes:
    (found,) = [value for entry, value in outgoing.headers if entry.lower() == name]
    return found


def test_signature_is_over_the_request_that_is_sent() -> None:
    passed = [(b"Content-Type", b"text/plain"), (b"X-Amz-Acl", b"private"), (b"Via", b"1.1 x")]
    outgoing = signed("/b/k?x=1", passed, token=b"t")
    own = [
        (b"X-Amz-Date", b"20130524T000000Z"),
        (b"X-Amz-Content-Sha256", UNSIGNED.encode()),
        (b"X-Amz-Security-Token", b"t"),
    ]
    covered = [(b"Host", b"h.example:9000"), *own, *passed[:2]]

    assert outgoing.headers[:-1] == [*passed, *own]
    assert value(outgoing, b"authorization").decode() == authorization(
        "PUT", "/b/k?x=1", covered, UNSIGNED, S3_STAMP, S3
    )


@pytest.mark.parametrize(("body", "content"), [(None, b"the caller's"), (b"made", b"other")])
def test_payload_that_is_signed_is_the_body_that_is_sent(
    body: bytes | None, content: bytes
) -> None:
    outgoing = signed(body=body, content=content, sign_payload=True)
    sent = content if body is None else body

    assert value(outgoing, b"x-amz-content-sha256") == hashlib.sha256(sent).hexdigest().encode()


def test_plus_in_a_query_is_sent_as_the_space_that_was_signed() -> None:
    assert signed("/b?prefix=a+b&c=%2B").target == "/b?prefix=a%20b&c=%2B"
    assert signed("/a+b").target == "/a+b"


@pytest.mark.parametrize(
    "fields",
    [
        [("x-amz-content-sha256", UNSIGNED_CHUNKS)],
        [("Content-Encoding", "aws-chunked"), ("x-amz-content-sha256", UNSIGNED)],
        [("Content-Encoding", "AWS-chunked, gzip")],
    ],
)
@pytest.mark.parametrize("sign_payload", [True, False])
def test_chunks_of_amazons_kind_are_not_taken_for_the_object(
    fields: list[tuple[str, str]], sign_payload: bool
) -> None:
    outgoing = signed(fields=fields, sign_payload=sign_payload)

    assert value(outgoing, b"x-amz-content-sha256") == UNSIGNED_CHUNKS.encode()


@pytest.mark.parametrize(
    "said", ["STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"]
)
def test_chunks_that_the_caller_signed_are_refused(said: str) -> None:
    with pytest.raises(Rejected) as caught:
        signed(fields=[("x-amz-content-sha256", said)])
    assert caught.value.code == "bad_request"


def test_what_the_caller_says_of_its_own_body_is_not_said_of_a_made_one() -> None:
    fields = [("x-amz-content-sha256", UNSIGNED_CHUNKS), ("Content-Encoding", "aws-chunked")]

    assert (
        value(signed(body=b"made", fields=fields), b"x-amz-content-sha256") == b"UNSIGNED-PAYLOAD"
    )


def test_no_repr_shows_a_secret() -> None:
    shown = repr(Signer(S3, b"session-token", sign_payload=False))

    assert S3.secret_key not in shown
    assert "session-token" not in shown
