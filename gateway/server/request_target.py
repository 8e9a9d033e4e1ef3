"""What a request is for: its target in origin form, and the one host (RFC 9112 3.2)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.http.header_fields import without
from gateway.server.aiohttp_inside import RawRequestMessage

_ABSOLUTE: Final = re.compile(r"(?is)https?://([^/?]*)(.*)").fullmatch
_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+;=%-]{1,255}|\[[0-9A-Za-z:.%_~-]{2,255}\])(?::[0-9]{0,5})?"
).fullmatch


def settle(message: RawRequestMessage) -> RawRequestMessage | None:
    """The request with its target in origin form; None when no one host is named (RFC 9112 3.2).

    The authority of an absolute target replaces `Host` (RFC 9112 3.2.2). A target that is neither
    becomes the root.
    """
    host, target = message.headers.get("host"), message.path
    if target.startswith("/"):
        return message if not host or _is_host(host) else None
    absolute = _ABSOLUTE(target)
    if absolute is None:
        return message._replace(path="/") if not host or _is_host(host) else None
    authority, rest = absolute.groups()
    if not _is_host(authority) or (host is not None and not _is_host(host)):
        return None
    headers = CIMultiDict(message.headers)
    headers["Host"] = authority
    raw = ((b"Host", authority.encode("ascii")), *without(message.raw_headers, {b"host"}))
    path = rest if rest.startswith("/") else f"/{rest}"
    return message._replace(path=path, headers=CIMultiDictProxy(headers), raw_headers=raw)


@lru_cache(maxsize=1024)
def _is_host(text: str) -> bool:
    """True for a host with or without a port; a comma could be two fields that were joined."""
    return _HOST(text) is not None
