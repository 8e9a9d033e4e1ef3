"""AWS Signature Version 4, in header fields, for Amazon's services and what speaks like them.

Our own, of the standard library alone; tests hold it against Amazon's published vectors and
botocore's signer.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from gateway.exchange import Exchange, Outgoing
from gateway.problems import Rejected

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
UNSIGNED_CHUNKS: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
MADE: Final = ("Authorization", "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token")
"""The fields that the signature brings along, so that the caller's own go no further."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SAFE: Final = "-_.~"
_SIGNED: Final = frozenset({b"content-type", b"content-md5"})
_OF_AMAZON: Final = b"x-amz-"

Fields = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key with its secret, for one region and service."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str
    service: str

    def signature(self, text: str, date: str) -> str:
        """The signature of a string to sign on a day (YYYYMMDD)."""
        key = f"AWS4{self.secret_key}".encode()
        for part in (date, self.region, self.service, "aws4_request", text):
            key = hmac.digest(key, part.encode("utf-8"), "sha256")
        return key.hex()


def authorization(
    method: str, target: str, fields: Fields, payload: str, stamp: str, credentials: Credentials
) -> str:
    """The value of `Authorization` for a request. All `fields` are signed, Host among them.

    `payload` is the body's SHA-256 in hexadecimal digits or one of Amazon's words for none, `stamp`
    the time as in X-Amz-Date.
    """
    path, _, query = target.partition("?")
    names, lines = canonical_fields(fields)
    encoded = canonical_path(path, credentials.service)
    request = "\n".join((method, encoded, canonical_query(query), ""))
    digest = hashlib.sha256(request.encode("ascii") + lines)
    digest.update(f"\n{names}\n{payload}".encode("ascii"))
    scope = f"{stamp[:8]}/{credentials.region}/{credentials.service}/aws4_request"
    text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest.hexdigest()}"
    signature = credentials.signature(text, stamp[:8])
    return (
        f"{_ALGORITHM} Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def canonical_path(path: str, service: str) -> str:
    """A path as it is signed. S3 takes it as its keys are named, others as it was sent.

    Others remove dot segments and empty ones, and encode what is encoded already once more.
    """
    if service == "s3":
        return quote(unquote_to_bytes(path), safe=f"/{_SAFE}")
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    end = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    return quote(f"/{'/'.join(kept)}{end}", safe=f"/{_SAFE}")


def canonical_query(query: str) -> str:
    """A query as it is signed: encoded strictly, and in the order of the encoded octets."""
    parts = [part.partition("=") for part in query.split("&") if part]
    pairs = sorted((_encoded(name), _encoded(value)) for name, _, value in parts)
    return "&".join(f"{name}={value}" for name, value in pairs)


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text), safe=_SAFE)


def canonical_fields(fields: Iterable[tuple[bytes, bytes]]) -> tuple[str, bytes]:
    """The signed names, and the fields as they are signed: one line for each name."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name.lower(), []).append(b" ".join(value.split()))
    names = sorted(found)
    lines = b"".join(b"%b:%b\n" % (name, b",".join(found[name])) for name in names)
    return b";".join(names).decode("ascii"), lines


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs requests when everything else about them is final."""

    credentials: Credentials
    session_token: bytes | None = field(repr=False)
    sign_payload: bool

    def __call__(self, exchange: Exchange, outgoing: Outgoing, host: bytes) -> None:
        """Add the signature, dated when the request came. Raises Rejected `bad_request`."""
        path, mark, query = outgoing.target.partition("?")
        # A plus is a space to one server and a plus to the next; %20 is a space to all.
        outgoing.target = f"{path}{mark}{query.replace('+', '%20')}"
        payload = self._payload(exchange, outgoing)
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(exchange.at))
        made = [
            (b"X-Amz-Date", stamp.encode("ascii")),
            (b"X-Amz-Content-Sha256", payload.encode("ascii")),
        ]
        if self.session_token is not None:
            made.append((b"X-Amz-Security-Token", self.session_token))
        passed = [
            entry
            for entry in outgoing.headers
            if (name := entry[0].lower()) in _SIGNED or name.startswith(_OF_AMAZON)
        ]
        value = authorization(
            outgoing.method,
            outgoing.target,
            [(b"Host", host), *made, *passed],
            payload,
            stamp,
            self.credentials,
        )
        outgoing.headers += [*made, (b"Authorization", value.encode("ascii"))]

    def _payload(self, exchange: Exchange, outgoing: Outgoing) -> str:
        if outgoing.body is None and _in_chunks(exchange.headers):
            return UNSIGNED_CHUNKS
        if not self.sign_payload:
            return UNSIGNED
        content = exchange.body.arrived() if outgoing.body is None else outgoing.body
        assert content is not None, "the body is read before"
        return hashlib.sha256(content).hexdigest()


def _in_chunks(headers: Mapping[str, str]) -> bool:
    """True for a body in Amazon's chunks, whose frames would else be stored as if they were in it.

    Raises Rejected `bad_request` for chunks that are signed.
    """
    said = headers.get("x-amz-content-sha256", "")
    if said.startswith("STREAMING-") and said != UNSIGNED_CHUNKS:
        raise Rejected(
            "bad_request",
            f"The body's chunks are signed by the caller: send it whole, or as {UNSIGNED_CHUNKS}.",
        )
    return said == UNSIGNED_CHUNKS or "aws-chunked" in headers.get("content-encoding", "").lower()
