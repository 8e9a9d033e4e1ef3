"""Amazon S3 with path-style addresses. Each request is signed anew by botocore and compared."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import zlib
from calendar import timegm
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, unquote_to_bytes
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from aiohttp import web
from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped] # it has no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped] # the same
from botocore.credentials import Credentials  # type: ignore[import-untyped] # the same

from tests.templates import mock
from tests.templates.mock import Call, Seen, Stop

SECRETS = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/EXAMPLEKEY"}
REGION = "eu-central-1"
VARIABLES = {"region": REGION}
BUCKET = "photos"
_XML = {"Content-Type": "application/xml"}
_DELETE = b"<Delete><Object><Key>a</Key></Object><Object><Key>b c</Key></Object></Delete>"

CALLS = [
    Call("list-buckets", "GET", "/", holds=b"<Name>photos</Name>"),
    Call("get-bucket", "GET", "/photos?list-type=2&prefix=cats%2F", holds=b"<Key>cats/tom &amp; co.txt</Key>"),
    Call("get-bucket", "GET", "/nowhere?list-type=2", status=404, holds=b"NoSuchBucket"),
    Call("put-bucket", "PUT", "/made", holds=b""),
    Call("delete-bucket", "DELETE", "/gone", status=204),
    Call("post-bucket", "POST", "/photos?delete", _XML, _DELETE, 200, b"<Deleted><Key>b c</Key></Deleted>"),
    Call("get-object", "GET", "/photos/cats/tom%20%26%20co.txt", holds=b"purr"),
    Call("get-object", "GET", "/photos/cats/tom%20&%20co.txt", {"Range": "bytes=1-2"}, b"", 206, b"ur"),
    Call("get-object", "GET", "/photos/nothing", status=404, holds=b"NoSuchKey"),
    Call("put-object", "PUT", "/photos/new/%C3%BC+1.txt", {"x-amz-meta-who": "me"}, b"meow", 200),
    Call("delete-object", "DELETE", "/photos/old", status=204),
    Call("post-object", "POST", "/photos/big?uploads", holds=b"<UploadId>"),
]  # fmt: skip


@dataclass
class Stored:
    """An object."""

    content: bytes
    media_type: str = "binary/octet-stream"
    told: dict[str, str] = field(default_factory=dict)

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}"'


class Refused(Exception):
    """An error of S3: its status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


async def start() -> tuple[str, Stop]:
    """Start a service with a bucket; return its base URL and what stops it."""
    return await mock.start(Service().answer)


class Service:
    """Buckets with objects, and uploads in parts."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Stored]] = {
            BUCKET: {"cats/tom & co.txt": Stored(b"purr"), "dogs/rex": Stored(b"woof")}
        }
        self.uploads: dict[str, dict[int, Stored]] = {}

    def answer(self, seen: Seen) -> web.Response:
        try:
            check_signature(seen)
            return self._answer(seen)
        except Refused as refused:
            text = f"<Error><Code>{refused.code}</Code><Message>{refused.code}</Message></Error>"
            return xml(text, refused.status)

    def _answer(self, seen: Seen) -> web.Response:
        bucket, _, key = unquote(seen.path[1:]).partition("/")
        query = dict(parse_qsl(seen.query, keep_blank_values=True))
        if not bucket:
            names = "".join(f"<Bucket><Name>{name}</Name></Bucket>" for name in self.buckets)
            return xml(
                f"<ListAllMyBucketsResult><Buckets>{names}</Buckets></ListAllMyBucketsResult>"
            )
        if not key:
            return self._of_bucket(seen, bucket, query)
        if bucket not in self.buckets:
            raise Refused(404, "NoSuchBucket")
        if "uploads" in query or "uploadId" in query:
            return self._of_upload(seen, bucket, key, query)
        return self._of_object(seen, self.buckets[bucket], key)

    def _of_bucket(self, seen: Seen, bucket: str, query: Mapping[str, str]) -> web.Response:
        if seen.method == "PUT":
            self.buckets.setdefault(bucket, {})
            return web.Response(headers={"Location": f"/{bucket}"})
        if seen.method == "DELETE":
            self.buckets.pop(bucket, None)
            return web.Response(status=204)
        if (objects := self.buckets.get(bucket)) is None:
            raise Refused(404, "NoSuchBucket")
        if seen.method == "POST" and "delete" in query:
            document = ElementTree.fromstring(seen.body)  # noqa: S314 - of a test's own client
            keys = [node.text or "" for node in document.iter() if node.tag.endswith("Key")]
            for key in keys:
                objects.pop(key, None)
            gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
            return xml(f"<DeleteResult>{gone}</DeleteResult>")
        if seen.method not in {"GET", "HEAD"}:
            raise Refused(405, "MethodNotAllowed")
        return xml(listed(objects, query))

    def _of_object(self, seen: Seen, objects: dict[str, Stored], key: str) -> web.Response:
        if seen.method == "PUT":
            objects[key] = stored = received(seen)
            return web.Response(headers={"ETag": stored.tag, **checksums(stored)})
        if seen.method == "DELETE":
            objects.pop(key, None)
            return web.Response(status=204)
        if (found := objects.get(key)) is None:
            raise Refused(404, "NoSuchKey")
        headers = {"ETag": found.tag, "Content-Type": found.media_type, **found.told}
        headers["Accept-Ranges"] = "bytes"
        content, status = found.content, 200
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", seen.headers.get("Range", "")):
            first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        elif seen.headers.get("x-amz-checksum-mode") == "ENABLED":
            headers |= checksums(found)
        return web.Response(status=status, headers=headers, body=content)

    def _of_upload(
        self, seen: Seen, bucket: str, key: str, query: Mapping[str, str]
    ) -> web.Response:
        if seen.method == "POST" and "uploads" in query:
            id_ = f"upload-{len(self.uploads)}"
            self.uploads[id_] = {}
            return xml(f"<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{id_}</UploadId></InitiateMultipartUploadResult>")  # fmt: skip
        if (parts := self.uploads.get(query["uploadId"])) is None:
            raise Refused(404, "NoSuchUpload")
        if seen.method == "PUT":
            parts[int(query["partNumber"])] = part = received(seen)
            return web.Response(headers={"ETag": part.tag, **checksums(part)})
        del self.uploads[query["uploadId"]]
        if seen.method == "DELETE":
            return web.Response(status=204)
        whole = Stored(b"".join(parts[number].content for number in sorted(parts)))
        self.buckets[bucket][key] = whole
        return xml(f"<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>{escape(whole.tag)}</ETag></CompleteMultipartUploadResult>")  # fmt: skip


def xml(text: str, status: int = 200) -> web.Response:
    whole = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'
    return web.Response(text=whole, status=status, content_type="application/xml")


def listed(objects: Mapping[str, Stored], query: Mapping[str, str]) -> str:
    """A page of ListObjectsV2."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    said: Callable[[str], str] = escape
    if query.get("encoding-type") == "url":
        said = quote
    keys, common = [], dict[str, None]()
    for key in sorted(objects):
        rest = key.removeprefix(prefix)
        if not key.startswith(prefix):
            continue
        if delimiter and delimiter in rest:
            common[prefix + rest.partition(delimiter)[0] + delimiter] = None
        else:
            keys.append(key)
    begin, most = int(query.get("continuation-token", 0)), int(query.get("max-keys", 1000))
    page, more = keys[begin : begin + most], begin + most < len(keys)
    entries = "".join(
        f"<Contents><Key>{said(key)}</Key><Size>{len(objects[key].content)}</Size>"
        f"<ETag>{escape(objects[key].tag)}</ETag></Contents>"
        for key in page
    )
    groups = "".join(f"<CommonPrefixes><Prefix>{said(p)}</Prefix></CommonPrefixes>" for p in common)
    next_ = f"<NextContinuationToken>{begin + most}</NextContinuationToken>" if more else ""
    coding = "<EncodingType>url</EncodingType>" if said is quote else ""
    return (
        f"<ListBucketResult><Prefix>{said(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>{coding}"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>{next_}{entries}{groups}</ListBucketResult>"
    )


def checksums(stored: Stored) -> dict[str, str]:
    """The checksum that clients of today ask for by themselves."""
    crc = zlib.crc32(stored.content).to_bytes(4, "big")
    return {"x-amz-checksum-crc32": base64.b64encode(crc).decode("ascii")}


def received(seen: Seen) -> Stored:
    """What is to be stored, checked against what the client says of it."""
    codings = [coding.strip() for coding in seen.headers.get("Content-Encoding", "").split(",")]
    is_chunked = "aws-chunked" in codings
    told = {n: v for n, v in seen.headers.items() if n.lower().startswith("x-amz-meta-")}
    said = seen.headers.get("x-amz-checksum-crc32")
    content = seen.body
    if is_chunked != (seen.headers["x-amz-content-sha256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"):
        raise Refused(400, "InvalidRequest")
    if is_chunked:
        content, trailers = unchunked(seen.body)
        said = trailers.get("x-amz-checksum-crc32")
        if int(seen.headers["x-amz-decoded-content-length"]) != len(content):
            raise Refused(400, "IncompleteBody")
        if seen.headers.get("x-amz-trailer", "") not in {"", *trailers}:
            raise Refused(400, "MalformedTrailerError")
    stored = Stored(content, seen.headers.get("Content-Type", "binary/octet-stream"), told)
    if said is not None and said != checksums(stored)["x-amz-checksum-crc32"]:
        raise Refused(400, "BadDigest")
    return stored


def unchunked(body: bytes) -> tuple[bytes, dict[str, str]]:
    """What is in a body in Amazon's chunks, and the trailers after it."""
    pieces, trailers = [], {}
    head, _, rest = body.partition(b"\r\n")
    while size := int(head.partition(b";")[0], 16):
        pieces.append(rest[:size])
        head, _, rest = rest[size + 2 :].partition(b"\r\n")
    for line in rest.split(b"\r\n"):
        name, _, value = line.decode().partition(":")
        trailers[name.strip().lower()] = value.strip()
    return b"".join(pieces), trailers


def check_signature(seen: Seen) -> None:
    """Sign the request as botocore does, and compare. Raises Refused."""
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, "
        r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
        seen.headers.get("Authorization", ""),
    )
    if match is None or len(seen.all("Authorization")) != 1:
        raise Refused(403, "AccessDenied")
    access_key, day, region, names, signature = match.groups()
    stamp, said = seen.headers.get("x-amz-date", ""), seen.headers.get("x-amz-content-sha256", "")
    made = timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    if abs(time.time() - made) > 900 or stamp[:8] != day or region != REGION:
        raise Refused(403, "RequestTimeTooSkewed")
    if access_key != SECRETS["access_key"]:
        raise Refused(403, "InvalidAccessKeyId")
    if said != "UNSIGNED-PAYLOAD" and not said.startswith("STREAMING-UNSIGNED"):
        raise Refused(400, "XAmzContentSHA256Mismatch")
    if {"host", *amazons(seen)} - set(names.split(";")):
        raise Refused(403, "AccessDenied")  # what is not signed could be anybody's
    if signature != signed_anew(seen, names.split(";"), stamp):
        raise Refused(403, "SignatureDoesNotMatch")


def amazons(seen: Seen) -> Iterator[str]:
    """The fields that have to be signed."""
    lower = (name.decode("ascii").lower() for name, _ in seen.fields)
    return (name for name in lower if name.startswith("x-amz-"))


def signed_anew(seen: Seen, names: list[str], stamp: str) -> str:
    """The signature that botocore makes for this request."""
    path = quote(unquote_to_bytes(seen.path), safe="/-_.~")
    pairs = [part.partition("=") for part in seen.query.split("&") if part]
    query = "&".join(f"{encoded(name)}={encoded(value)}" for name, _, value in pairs)
    request = AWSRequest(
        seen.method,
        f"http://{seen.headers['Host']}{path}?{query}",
        headers={name: ",".join(seen.all(name)) for name in names},
    )
    request.context["timestamp"] = stamp
    signer = S3SigV4Auth(Credentials(*SECRETS.values()), "s3", REGION)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    return str(signer.signature(text, request))


def encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.replace("+", " ")), safe="-_.~")
