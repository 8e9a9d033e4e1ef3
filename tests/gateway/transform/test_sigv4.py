"""Signatures: Amazon's published vectors to the digit, botocore's signer, and paths and queries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth  # type: ignore[import-untyped] # it has no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped] # the same
from botocore.credentials import Credentials as BotoCredentials  # type: ignore[import-untyped] # the same
from hypothesis import given
from hypothesis import strategies as st

from gateway.transform.sigv4 import (
    Credentials,
    authorization,
    canonical_path,
    canonical_query,
)

EMPTY = hashlib.sha256(b"").hexdigest()
SUITE = Credentials(
    "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service"
)
SUITE_STAMP = "20150830T123600Z"
S3 = Credentials(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1", "s3"
)
S3_STAMP = "20130524T000000Z"
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = b"application/x-www-form-urlencoded"
TOKEN = b"6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
Fields = Sequence[tuple[bytes, bytes]]

VANILLA = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
HOSTED: Fields = [(b"Host", b"example.amazonaws.com"), (b"X-Amz-Date", SUITE_STAMP.encode())]


@pytest.mark.parametrize(
    ("method", "target", "fields", "body", "signature"),
    [
        pytest.param("GET", "/", [], b"", VANILLA, id="get-vanilla"),
        pytest.param("GET", "/?", [], b"", VANILLA, id="get-vanilla-query"),
        pytest.param(
            "GET", "/?Param1=value1", [], b"",
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
            id="get-vanilla-empty-query-key",
        ),
        pytest.param(
            "GET", "/?Param2=value2&Param1=value1", [], b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            id="get-vanilla-query-order-key-case",
        ),
        pytest.param(
            "GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", [], b"",
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
            id="get-vanilla-query-order-encoded",
        ),
        pytest.param(
            "GET", f"/?-._~{LETTERS}=-._~{LETTERS}", [], b"",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            id="get-vanilla-query-unreserved",
        ),
        pytest.param(
            "GET", "/?ሴ=bar", [], b"",
            "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            id="get-vanilla-utf8-query",
        ),
        pytest.param(
            "GET", "/ሴ", [], b"",
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            id="get-utf8",
        ),
        pytest.param(
            "GET", f"/-._~{LETTERS}", [], b"",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            id="get-unreserved",
        ),
        pytest.param("GET", "/example/..", [], b"", VANILLA, id="normalize-path/get-relative"),
        pytest.param(
            "GET", "/example1/example2/../..", [], b"", VANILLA,
            id="normalize-path/get-relative-relative",
        ),
        pytest.param("GET", "//", [], b"", VANILLA, id="normalize-path/get-slash"),
        pytest.param("GET", "/./", [], b"", VANILLA, id="normalize-path/get-slash-dot-slash"),
        pytest.param(
            "GET", "//example//", [], b"",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
            id="normalize-path/get-slashes",
        ),
        pytest.param(
            "GET", "/./example", [], b"",
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
            id="normalize-path/get-slash-pointless-dot",
        ),
        pytest.param(
            "GET", "/example space/", [], b"",
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
            id="normalize-path/get-space",
        ),
        pytest.param(
            "GET", "/",
            [(b"My-Header1", b"value2"), (b"My-Header1", b"value2"), (b"My-Header1", b"value1")],
            b"", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            id="get-header-key-duplicate",
        ),
        pytest.param(
            "GET", "/", [(b"My-Header1", b"value%d" % n) for n in (4, 1, 3, 2)], b"",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
            id="get-header-value-order",
        ),
        pytest.param(
            "GET", "/", [(b"My-Header1", b" value1"), (b"My-Header2", b' "a   b   c"')], b"",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            id="get-header-value-trim",
        ),
        pytest.param(
            "GET", "/", [(b"X-Amz-Security-Token", TOKEN)], b"",
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            id="get-vanilla-with-session-token",
        ),
        pytest.param(
            "POST", "/", [(b"My-Header1", b"value1")], b"",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            id="post-header-key-sort",
        ),
        pytest.param(
            "POST", "/", [(b"Content-Type", FORM)], b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            id="post-x-www-form-urlencoded",
        ),
        pytest.param(
            "POST", "/", [(b"Content-Type", FORM + b"; charset=utf8")], b"Param1=value1",
            "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe",
            id="post-x-www-form-urlencoded-parameters",
        ),
    ],
)  # fmt: skip
def test_vector_of_amazons_suite_is_reproduced(
    method: str, target: str, fields: Fields, body: bytes, signature: str
) -> None:
    payload = hashlib.sha256(body).hexdigest()
    value = authorization(method, target, [*HOSTED, *fields], payload, SUITE_STAMP, SUITE)
    names = ";".join(sorted({name.decode().lower() for name, _ in [*HOSTED, *fields]}))

    assert value == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()


@pytest.mark.parametrize(
    ("method", "target", "fields", "payload", "signature"),
    [
        pytest.param(
            "GET", "/test.txt", [(b"Range", b"bytes=0-9")], EMPTY,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="GET Object",
        ),
        pytest.param(
            "PUT", "/test$file.text",
            [
                (b"Date", b"Fri, 24 May 2013 00:00:00 GMT"),
                (b"x-amz-storage-class", b"REDUCED_REDUNDANCY"),
            ],
            WELCOME, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            id="PUT Object",
        ),
        pytest.param(
            "GET", "/?lifecycle", [], EMPTY,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            id="GET Bucket Lifecycle",
        ),
        pytest.param(
            "GET", "/?max-keys=2&prefix=J", [], EMPTY,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="GET Bucket (List Objects)",
        ),
    ],
)  # fmt: skip
def test_example_of_the_s3_documentation_is_reproduced(
    method: str, target: str, fields: Fields, payload: str, signature: str
) -> None:
    given = [
        (b"Host", b"examplebucket.s3.amazonaws.com"),
        (b"x-amz-content-sha256", payload.encode()),
        (b"x-amz-date", S3_STAMP.encode()),
        *fields,
    ]

    assert authorization(method, target, given, payload, S3_STAMP, S3).endswith(signature)


SEGMENT = st.text(st.characters(exclude_characters="/"), min_size=1, max_size=8)
SEGMENTS = st.lists(SEGMENT.filter(lambda text: text not in {".", ".."}), max_size=3)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(SEGMENTS, st.lists(st.tuples(WORDS, WORDS), max_size=4), st.sampled_from(["s3", "dynamodb"]))
def test_signature_is_botocores(
    segments: list[str], pairs: list[tuple[str, str]], service: str
) -> None:
    path = "/" + "/".join(
        quote(segment.encode("utf-8", "replace"), safe="") for segment in segments
    )
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    target = f"{path}?{query}" if query else path
    credentials = Credentials(S3.access_key, S3.secret_key, "eu-west-3", service)
    fields = [
        (b"host", b"h.example"),
        (b"x-amz-date", S3_STAMP.encode()),
        (b"x-amz-content-sha256", EMPTY.encode()),
        (b"x-amz-meta-a", b"b  c"),
    ]

    ours = authorization("GET", target, fields, EMPTY, S3_STAMP, credentials)

    assert ours == botocores(service, f"https://h.example{target}", fields)


def botocores(service: str, url: str, fields: Fields) -> str:
    """What botocore's signer puts into Authorization, from its own steps."""
    request = AWSRequest("GET", url)
    for name, value in fields:
        request.headers[name.decode()] = value.decode()
    request.context.update(timestamp=S3_STAMP, payload_signing_enabled=True)
    credentials = BotoCredentials(S3.access_key, S3.secret_key)
    signer: Any = (S3SigV4Auth if service == "s3" else SigV4Auth)(credentials, service, "eu-west-3")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signature = signer.signature(text, request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    scope = signer.scope(request)
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"


@pytest.mark.parametrize(
    ("path", "of_s3", "of_others"),
    [
        ("/a!'()*b", "/a%21%27%28%29%2Ab", "/a%21%27%28%29%2Ab"),  # which encodeURIComponent leaves
        ("/a%20b", "/a%20b", "/a%2520b"),
        ("/a%2fb", "/a/b", "/a%252fb"),
        ("/a+b", "/a%2Bb", "/a%2Bb"),
        ("/a//b/", "/a//b/", "/a/b/"),
        ("/a%7e", "/a~", "/a%257e"),
        ("/../a/./", "/../a/./", "/a/"),
        ("/a/..", "/a/..", "/"),
    ],
)
def test_path_is_signed_as_the_service_reads_it(path: str, of_s3: str, of_others: str) -> None:
    assert canonical_path(path, "s3") == of_s3
    assert canonical_path(path, "execute-api") == of_others


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", ""),
        ("acl", "acl="),
        ("b=1&a=2&a=1&A=3", "A=3&a=1&a=2&b=1"),
        ("a=%7e%2f!&&=", "=&a=~%2F%21"),
        ("a=b=c", "a=b%3Dc"),
        ("a=%zz", "a=%25zz"),
    ],
)
def test_query_is_signed_sorted_and_strictly_encoded(query: str, canonical: str) -> None:
    assert canonical_query(query) == canonical
