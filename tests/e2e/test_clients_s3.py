"""Amazon's client through the gateway, made from the template: it has a gateway key and none of Amazon."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped] # it has no types
import pytest
from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped] # the same
from botocore import UNSIGNED  # type: ignore[import-untyped] # the same
from botocore.config import Config  # type: ignore[import-untyped] # the same
from botocore.exceptions import ClientError  # type: ignore[import-untyped] # the same

from tests.e2e.process import Gateway
from tests.e2e.services import gateway_to_loopback, serving
from tests.e2e.tls import https_to
from tests.templates.s3 import BUCKET, SECRETS, VARIABLES, start

PLAN = {"rateLimit": 10_000, "dailyQuota": None, "monthlyQuota": None}
SIZES = {"maxRequestSize": 64 << 20, "maxResponseSize": 64 << 20}
MUCH = bytes(range(256)) * 4096 * 11  # eleven MiB: more than two parts
KEYS = [
    "plain", "a b", "a+b", "a%20b", "a%2Fb", "\u00fc/\u732b\U0001f408", "tom & co?=#;:@$,'!*().txt", "~-._", "a/b/c/d",
    "{{x}}", "a&b=c", "\"<>^`|[]", "...", "a..b", "e\u0301",
]  # fmt: skip


def connect(url: str, key: str, **more: Any) -> Any:
    """Amazon's client, which signs nothing and shows a gateway key."""
    unsigned = Config(
        signature_version=UNSIGNED, s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
    )  # fmt: skip
    client = boto3.client("s3", endpoint_url=url, region_name="any", config=unsigned, **more)

    def show_key(request: Any, **_: Any) -> None:
        request.headers["X-API-Key"] = key

    client.meta.events.register("before-sign.s3", show_key)
    return client


@pytest.fixture(scope="module")
def made(open_directory: Path) -> Iterator[tuple[Gateway, str]]:
    with serving(start) as base_url, gateway_to_loopback(open_directory) as gateway:
        token = gateway.token()
        plan = gateway.admin("POST", "/plans", {"name": "wide", **PLAN, **SIZES}, token=token)
        template = {"templateId": "s3", "upstreamBaseUrl": base_url, "variables": VARIABLES}
        wanted = {**template, "secrets": SECRETS, "publish": True}
        connector = gateway.admin("POST", "/templates", wanted, token=token)
        assert connector["status"] == "published", connector
        wanted = {"name": "k", "planId": plan["id"]}
        yield gateway, gateway.admin("POST", "/keys", wanted, token=token)["key"]


@pytest.fixture(scope="module", params=["http", "https"])
def client(
    request: pytest.FixtureRequest, made: tuple[Gateway, str], tmp_path_factory: Any
) -> Iterator[Any]:
    """By https, bodies come in Amazon's chunks, with a checksum behind them."""
    gateway, key = made
    if request.param == "http":
        with closing(connect(f"{gateway.base}/api/v1/gw/s3", key)) as client:
            yield client
        return
    folder = tmp_path_factory.mktemp("tls")
    with ExitStack() as stack:
        base_url, certificate = stack.enter_context(https_to(gateway.port, folder))
        client = connect(f"{base_url}/api/v1/gw/s3", key, verify=certificate)
        yield stack.enter_context(closing(client))


def test_buckets_are_listed_made_and_deleted(client: Any) -> None:
    client.create_bucket(Bucket="made")
    client.head_bucket(Bucket="made")
    assert {"made", BUCKET} <= {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    client.delete_bucket(Bucket="made")

    with pytest.raises(ClientError, match="404"):
        client.head_bucket(Bucket="made")


@pytest.mark.parametrize("key", KEYS)
def test_object_of_any_name_is_written_read_and_deleted(client: Any, key: str) -> None:
    at = {"Bucket": BUCKET, "Key": key}
    client.put_object(**at, Body=b"meow, meow", ContentType="text/x-cat", Metadata={"who": "me"})
    head, got = client.head_object(**at), client.get_object(**at)

    assert (got["Body"].read(), got["ContentType"]) == (b"meow, meow", "text/x-cat")
    assert (head["ContentLength"], head["Metadata"]) == (10, {"who": "me"})
    part = client.get_object(**at, Range="bytes=2-5")
    assert (part["Body"].read(), part["ContentRange"]) == (b"ow, ", "bytes 2-5/10")
    assert key in {entry["Key"] for entry in client.list_objects_v2(Bucket=BUCKET)["Contents"]}
    client.delete_object(**at)
    with pytest.raises(ClientError, match="404"):
        client.head_object(**at)


@pytest.mark.parametrize("body", [b"", b"x", MUCH[: 1 << 20]], ids=len)
@pytest.mark.parametrize("wrap", [bytes, io.BytesIO])
def test_body_of_any_size_is_stored_as_it_is(
    client: Any, body: bytes, wrap: Callable[[bytes], Any]
) -> None:
    client.put_object(Bucket=BUCKET, Key="body", Body=wrap(body))

    assert client.get_object(Bucket=BUCKET, Key="body")["Body"].read() == body


@pytest.mark.parametrize(
    "prefix", ["p q/", "p+q/", "p%q/", "p&q=r/", "\u00fc~/", "p:q@/", "p*'()/"]
)
def test_objects_are_listed_by_prefix_and_delimiter_page_by_page(client: Any, prefix: str) -> None:
    keys = [f"{prefix}{name}" for name in ("a", "b/1", "b/2", "c c", "d+d")]
    for key in keys:
        client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    pages = client.get_paginator("list_objects_v2")
    every = [
        entry["Key"]
        for page in pages.paginate(Bucket=BUCKET, Prefix=prefix, PaginationConfig={"PageSize": 2})
        for entry in page["Contents"]
    ]
    level = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix, Delimiter="/")

    assert every == sorted(keys)
    assert [entry["Key"] for entry in level["Contents"]] == [keys[0], *keys[3:]]
    assert [entry["Prefix"] for entry in level["CommonPrefixes"]] == [f"{prefix}b/"]


def test_body_comes_in_amazons_chunks_by_https(client: Any) -> None:
    """So that the other tests are of both."""
    said: list[Any] = []

    def note(request: Any, **_: Any) -> None:
        said.append((request.headers.get("Content-Encoding"), request.headers.get("X-Amz-Trailer")))

    client.meta.events.register("before-send.s3", note)
    client.put_object(Bucket=BUCKET, Key="chunks", Body=b"meow")
    client.meta.events.unregister("before-send.s3", note)

    by_https = client.meta.endpoint_url.startswith("https:")
    assert said == [(b"aws-chunked", b"x-amz-checksum-crc32") if by_https else (None, None)]


def test_several_objects_are_deleted_at_once(client: Any) -> None:
    for key in ("x y", "x&y"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"x")
    objects = [{"Key": "x y"}, {"Key": "x&y"}]
    gone = client.delete_objects(Bucket=BUCKET, Delete={"Objects": objects})

    assert gone["Deleted"] == objects
    assert client.list_objects_v2(Bucket=BUCKET, Prefix="x")["KeyCount"] == 0


def test_large_file_goes_in_parts_and_comes_back_in_ranges(client: Any) -> None:
    parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    client.upload_fileobj(io.BytesIO(MUCH), BUCKET, "much", Config=parts)
    got = io.BytesIO()
    client.download_fileobj(BUCKET, "much", got, Config=parts)

    assert got.getvalue() == MUCH


def test_upload_in_parts_is_given_up(client: Any) -> None:
    at = {"Bucket": BUCKET, "Key": "half"}
    upload = client.create_multipart_upload(**at)["UploadId"]
    client.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"half of it")
    client.abort_multipart_upload(**at, UploadId=upload)

    with pytest.raises(ClientError, match="NoSuchUpload"):
        client.upload_part(**at, UploadId=upload, PartNumber=2, Body=b"the other half")


def test_error_of_the_service_is_the_clients_own(client: Any) -> None:
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket=BUCKET, Key="nothing")
    with pytest.raises(client.exceptions.NoSuchBucket):
        client.list_objects_v2(Bucket="nowhere")


@pytest.mark.parametrize("key", ["a//b", "/a", "a/", "a/../b", "a/./b", "..", "a\\b", "a\x01b"])
def test_name_that_could_be_read_in_two_ways_is_refused(client: Any, key: str) -> None:
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket=BUCKET, Key=key, Body=b"x")

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_unknown_key_is_refused(made: tuple[Gateway, str]) -> None:
    url = f"{made[0].base}/api/v1/gw/s3"
    with closing(connect(url, "gw_nobody")) as client, pytest.raises(ClientError) as caught:
        client.get_object(Bucket=BUCKET, Key="plain")

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 401


def curl(made: tuple[Gateway, str], path: str, *options: str) -> tuple[str, str]:
    """The body and the status of a request by curl with a gateway key."""
    gateway, key = made
    command = ["curl", "-sS", "--max-time", "20", "--path-as-is", "-w", "\n%{http_code}"]
    done = subprocess.run(
        [*command, "-H", f"X-API-Key: {key}", *options, f"{gateway.base}/api/v1/gw/s3{path}"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return body, status


SIGNED = ("--aws-sigv4", "aws:amz:any:s3", "--user", "AKIANOBODY:of-nobody")


@pytest.mark.parametrize("signed", [(), SIGNED], ids=["plain", "signed by somebody"])
def test_curl_needs_a_gateway_key_and_what_it_signs_itself_is_replaced(
    made: tuple[Gateway, str], signed: tuple[str, ...]
) -> None:
    path = f"/{BUCKET}/by%20curl/%C3%BC.txt"

    assert curl(made, path, *signed, "-T", str(Path(__file__))) == ("", "200")
    assert curl(made, path, *signed) == (Path(__file__).read_text(), "200")
    listed, _ = curl(made, f"/{BUCKET}?list-type=2&prefix=by%20curl/", *signed)
    assert "<Key>by curl/\u00fc.txt</Key>" in listed
    assert curl(made, path, *signed, "-X", "DELETE") == ("", "204")
