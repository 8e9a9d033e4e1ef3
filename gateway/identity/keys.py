"""The format of gateway keys: made, taken apart, and compared.

`gw_` + 8 base62 characters (the public id, which logs and the UI may show) + `_` + 43 base62
characters (256 random bits) + 6 base62 characters of CRC-32, so that a typing error is refused
without a look-up. Only the SHA-256 of what follows the public id is stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from typing import Final, NamedTuple

from gateway.ids import base62

PREFIX: Final = "gw_"
_FORMAT: Final = re.compile(r"gw_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}").fullmatch
NO_DIGEST: Final = bytes(32)
"""Compared with when a key is unknown, so that it takes as long as a known one."""


class NewKey(NamedTuple):
    """A fresh key: its value for the caller, once, and what is stored."""

    value: str
    public_id: str
    digest: bytes

    def __repr__(self) -> str:
        return f"NewKey({self.public_id!r})"


class ParsedKey(NamedTuple):
    """A key taken apart: the id to look it up by and the digest to compare."""

    public_id: str
    digest: bytes
    value: str

    def __repr__(self) -> str:
        return f"ParsedKey({self.public_id!r})"

    @property
    def is_intact(self) -> bool:
        """False for a typing error: the checksum doesn't fit. Asked before a look-up only."""
        return _checksum(self.value[:-6]) == self.value[-6:]


def make(public_id: str | None = None) -> NewKey:
    """A new key, or a new value for the key with this public id."""
    public_id = public_id or base62(secrets.randbits(64), 8)
    secret = base62(secrets.randbits(256), 43)
    body = f"{PREFIX}{public_id}_{secret}"
    value = body + _checksum(body)
    return NewKey(value, public_id, _digest(value[12:]))


def parse(value: str) -> ParsedKey | None:
    """Take a key apart; None when it is malformed."""
    if not _FORMAT(value):
        return None
    return ParsedKey(value[3:11], _digest(value[12:]), value)


def same(left: bytes, right: bytes) -> bool:
    """Compare two digests in constant time."""
    return hmac.compare_digest(left, right)


def _checksum(body: str) -> str:
    return base62(zlib.crc32(body.encode("ascii")), 6)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("ascii")).digest()
