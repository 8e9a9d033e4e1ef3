"""Secrets kept out of what a person is shown of a request and its answer, in every form they travel.

An upstream that sends back what it was sent must not tell anybody a secret.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

from gateway.exchange import RawHeaders
from gateway.explain.explanation import MASK

_CREDENTIALS: Final = frozenset(
    b"authorization cookie proxy-authorization set-cookie x-amz-security-token".split()
)

_ESCAPE: Final = re.compile("%[0-9A-F]{2}")
_FOR_HTML: Final = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}
"""How some write JSON that may stand in HTML."""


class Masks:
    """Puts MASK where a secret is."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        self._forms = sorted(forms, key=len, reverse=True)

    @property
    def longest(self) -> int:
        """How many characters the longest form of a secret has."""
        return len(self._forms[0]) if self._forms else 0

    def text(self, text: str) -> str:
        """A text without secrets."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def headers(self, fields: RawHeaders) -> list[dict[str, str]]:
        """Header fields without secrets; of a credential its scheme is left."""
        return [
            {"name": name.decode("latin-1"), "value": self._value(name.lower(), value)}
            for name, value in fields
        ]

    def _value(self, name: bytes, value: bytes) -> str:
        text = value.decode("utf-8", "replace")
        if name not in _CREDENTIALS:
            return self.text(text)
        scheme, space, _ = text.partition(" ")
        return f"{self.text(scheme)} {MASK}" if space and name.endswith(b"tion") else MASK


def readable(content: bytes, fields: RawHeaders) -> str | None:
    """A body as text; None for what is coded, or no UTF-8: a secret could hide in that."""
    coded = {value.lower() for name, value in fields if name.lower() == b"content-encoding"}
    if coded - {b"identity"} or b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(content) - 3:  # else the cut went through a character
            return None
        return content[: error.start].decode("utf-8")


def _forms(secret: str) -> Iterator[str]:
    """A secret as it may stand in a URL, in HTML, in JSON as several languages write it, and coded."""
    yield secret
    for encoded in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield from (encoded, _ESCAPE.sub(lambda match: match.group().lower(), encoded))
    yield html.escape(secret)
    for encoded in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield from (encoded, encoded.replace("/", r"\/"), encoded.translate(_FOR_HTML))
    octets = secret.encode("utf-8", "surrogatepass")
    coders: tuple[Any, ...] = (base64.b64encode, base64.urlsafe_b64encode)
    for encode in coders:
        yield encode(octets).decode("ascii").rstrip("=")
    yield octets.hex()
