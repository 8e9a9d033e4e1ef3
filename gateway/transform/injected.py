"""What we put into requests is taken out of the fields of their answers, however they write it.

An upstream that redirects to its own URL, or links to it, would hand the caller our credential. A query
parameter of ours is left out of the URL; elsewhere `***` stands for a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, quote_plus, unquote_to_bytes

from gateway.http.messages import RawHeaders
from gateway.secrets.forms import forms

_MASK: Final = b"***"
_SHORTEST: Final = 4
"""How many characters a secret has at least that is looked for outside of a parameter of ours."""
_ENDS: Final = rb"(?=[&#;,\"'<>\s]|$)"


@dataclass(frozen=True, slots=True)
class Injected:
    """The secrets of an endpoint's requests, as they may come back."""

    marks: re.Pattern[bytes] | None = field(default=None, repr=False)
    """Where it finds nothing, there is nothing to take out."""
    pair: re.Pattern[bytes] | None = field(default=None, repr=False)
    secret: re.Pattern[bytes] | None = field(default=None, repr=False)

    def taken_out_of(self, fields: RawHeaders) -> RawHeaders:
        """An answer's fields without them; the very same list where there is nothing to take out."""
        marks = self.marks
        if marks is None or not _is_in(b"\n".join([value for _, value in fields]), marks):
            return fields
        return [(name, self._taken_out(value, marks)) for name, value in fields]

    def _taken_out(self, value: bytes, marks: re.Pattern[bytes]) -> bytes:
        if self.pair is not None:
            value = self.pair.sub(_left, value)
        if self.secret is not None:
            value = self.secret.sub(_MASK, value)
        return _MASK if _is_in(value, marks) else value


def _is_in(block: bytes, marks: re.Pattern[bytes]) -> bool:
    """True where a mark is, also when it is percent-encoded up to twice."""
    for _ in range(3):
        if marks.search(block):
            return True
        if b"%" not in block:
            return False
        block = unquote_to_bytes(block)
    return False


NOTHING: Final = Injected()


def _left(match: re.Match[bytes]) -> bytes:
    """What is left of `?name=value&`: what follows begins the query then."""
    return match["before"] if match["after"] else b""


def injected(secrets: Iterable[str], query: Iterable[tuple[str, str]]) -> Injected:
    """What takes out these secrets, and these query parameters, which hold some."""
    found = {form for secret in secrets if len(secret) >= _SHORTEST for form in forms(secret)}
    parts, marks = [], set(found)
    for name, value in query:
        names, values = {name, quote(name, safe=""), quote_plus(name)}, forms(value)
        parts.append(rb"%b=%b" % (_any(names), _any(values)))
        if len(value) < _SHORTEST:
            marks |= {f"{sign}{name}={form}" for sign in "?&" for name in names for form in values}
    pair = rb"(?P<before>[?&;])(?:%b)(?:(?P<after>&)|%b)" % (b"|".join(parts), _ENDS)
    return Injected(
        re.compile(_any(marks)) if marks else None,
        re.compile(pair) if parts else None,
        re.compile(_any(found)) if found else None,
    )


def _any(texts: Iterable[str]) -> bytes:
    longest_first = sorted(texts, key=len, reverse=True)
    return b"(?:%b)" % b"|".join(re.escape(text.encode("utf-8")) for text in longest_first)
