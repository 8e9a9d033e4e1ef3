"""The forms in which a secret travels: in URLs, in HTML and XML, in JSON as several languages write it, coded.

Whoever looks for a secret in what an upstream sends looks for each of them.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, quote_plus

_ESCAPE: Final = re.compile("%[0-9A-F]{2}")
_CODE_UNIT: Final = re.compile(r"\\u[0-9a-f]{4}")
_FOR_HTML: Final = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}
"""How some write JSON that may stand in HTML."""
_OTHER_QUOTES: Final = ({"&#x27;": "&#39;"}, {"&#x27;": "&apos;"}, {"&#x27;": "'"})
_SHORTEST_PART: Final = 6
"""How many characters of base64 are the least that tell anything."""


def forms(secret: str) -> set[str]:
    """A secret, and what becomes of it on the way."""
    return {form for form in _forms(secret) if form}


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield secret.strip(" \t")  # as header fields have it
    yield from in_urls(secret)
    for quotes in _OTHER_QUOTES:
        escaped = html.escape(secret)
        yield escaped
        for sign, other in quotes.items():
            escaped = escaped.replace(sign, other)
        yield escaped
        yield escaped.replace("&quot;", "&#34;")
    yield html.escape(secret, quote=False)
    for encoded in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        for written in (encoded, encoded.replace("/", r"\/"), encoded.translate(_FOR_HTML)):
            yield from (written, _CODE_UNIT.sub(_upper, written))
    yield from _coded(secret.encode("utf-8", "surrogatepass"))


def _upper(match: re.Match[str]) -> str:
    r"""`\u00E9` for `\u00e9`."""
    return f"\\u{match.group()[2:].upper()}"


def in_urls(secret: str) -> Iterator[str]:
    """Percent-encoded, as several write it; also twice, as in a URL within another one."""
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield from (encoded, _ESCAPE.sub(lambda match: match.group().lower(), encoded))
        yield quote(encoded, safe="")


def _coded(octets: bytes) -> Iterator[str]:
    """In hexadecimal digits, and in base64 with whatever stands around."""
    yield octets.hex()
    yield octets.hex().upper()
    for code in (base64.b64encode, base64.urlsafe_b64encode):
        yield code(octets).decode("ascii").rstrip("=")
        for before in (0, 1, 2):
            whole = code(bytes(before) + octets).decode("ascii").rstrip("=")
            # Of the first and the last character some bits are the neighbours'.
            part = whole[(before * 8 + 5) // 6 : (before + len(octets)) * 8 // 6]
            if len(part) >= _SHORTEST_PART:
                yield part
