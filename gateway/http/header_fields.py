"""Header fields as raw pairs: their values as one, lists of tokens, and additions to Vary.

Names are given in lower case and as bytes, as they are compared.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

from gateway.http.messages import RawHeaders

Fields = Iterable[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade".split()
)
"""Fields that end at each connection (RFC 9110 7.6.1)."""
_FOR_ALL: Final = frozenset(
    b"age authorization cache-control date etag expires host last-modified location retry-after "
    b"set-cookie vary www-authenticate".split()
)
TCHARS: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""The characters of a token (RFC 9110 5.6.2) as a pattern: a name of a field, coding or directive."""
is_token: Final = re.compile(TCHARS).fullmatch


def joined(fields: Fields, name: bytes) -> str | None:
    """All values of a field as one list (RFC 9110 5.3); None when the field isn't there."""
    values = [value for n, value in fields if n.lower() == name]
    return b", ".join(values).decode("latin-1") if values else None


def tokens(value: str | None) -> tuple[str, ...]:
    """The members of a list of tokens in lower case, empty ones left out (RFC 9110 5.6.1)."""
    if not value:
        return ()
    return tuple(part for part in (p.strip(" \t").lower() for p in value.split(",")) if part)


def without(fields: Fields, names: Collection[bytes]) -> RawHeaders:
    """The fields that have none of these names, in their order."""
    return [field for field in fields if field[0].lower() not in names]


def nominated(fields: Fields) -> frozenset[bytes]:
    """The fields that `Connection` says end here; those for all recipients never do (RFC 9110 7.6.1)."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    names = {name.strip(b" \t").lower() for value in values for name in value.split(b",")}
    return frozenset(n for n in names if n not in _FOR_ALL and not n.startswith(b"content-"))


def vary_by(fields: RawHeaders, name: str) -> None:
    """Say that the answer depends on a request field (RFC 9110 12.5.5), once."""
    named = tokens(joined(fields, b"vary"))
    if "*" not in named and name.lower() not in named:
        fields.append((b"Vary", name.encode("ascii")))
