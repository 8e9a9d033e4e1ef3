"""What a shared cache may store, for how long, and for whom: RFC 9111, without heuristics.

Pure rules; moments are Unix seconds. Every caller's credential ends at the gateway, so the rule of
section 3.5 about Authorization is applied where a credential of the caller's own goes upstream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from gateway.cache.fields import moment, targeted
from gateway.exchange import Exchange, RawHeaders, Response
from gateway.http.header_fields import (
    HOP_BY_HOP,
    TCHARS,
    Fields,
    joined,
    nominated,
    tokens,
    without,
)
from gateway.http.pieces import is_event_stream

Directives = Mapping[str, str]
Selecting = tuple[tuple[bytes, str | None], ...]
"""The request fields that an answer depends on, with the values of the request it was made for."""

FOREVER_S: Final = 1 << 31
_MALFORMED: Final[Directives] = {"no-store": ""}
_DIRECTIVE: Final = re.compile(
    rf'[ \t]*(?:({TCHARS})(?:=(?:({TCHARS})|"((?:[^"\\]|\\.)*)"))?[ \t]*)?(?:,|\Z)'
).match
_NUMBERED: Final = frozenset(["max-age", "s-maxage", "min-fresh", "max-stale"])
_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[^"]*")').findall
_LASTING: Final = frozenset([200, 203, 204, 300, 301, 308])
"""The statuses for which an endpoint's own `cache_ttl` stands in."""
_CONDITIONAL: Final = frozenset([b"if-none-match", b"if-modified-since"])
_OF_ONE_MESSAGE: Final = HOP_BY_HOP | {b"age", b"content-length", b"set-cookie"}
_OF_THE_CONTENT: Final = frozenset(
    b"content-encoding content-language content-length content-range content-type".split()
)
_LETS_CREDENTIALS_SHARE: Final = frozenset(["public", "s-maxage", "must-revalidate"])
_NEVER_STALE: Final = frozenset(["must-revalidate", "proxy-revalidate", "s-maxage"])
_BYPASSING: Final = ("range", "if-range", "if-match", "if-unmodified-since", "upgrade")


def directives(fields: Fields) -> Directives:
    """Cache-Control by name, values unquoted (RFC 9111 5.2).

    A malformed field says no-store, the safe thing to have understood.
    """
    text = joined(fields, b"cache-control") or ""
    found: dict[str, str] = {}
    end = 0
    while end < len(text):
        if (match := _DIRECTIVE(text, end)) is None:
            return _MALFORMED
        end = match.end()
        if match[1] is None:
            continue
        name, value = match[1].lower(), match[2] or match[3] or ""
        is_seconds = value.isascii() and value.isdigit()
        if name in _NUMBERED and not is_seconds and (value or name != "max-stale"):
            return _MALFORMED
        found.setdefault(name, value)
    return found


def seconds(directive: str) -> int:
    """A delta-seconds that was checked; beyond 68 years it is that (RFC 9111 1.2.2)."""
    digits = directive.lstrip("0")
    return min(int(digits or 0), FOREVER_S) if len(digits) <= 10 else FOREVER_S


@dataclass(slots=True)
class Stored:
    """An answer as it is kept: `born_at` is when its age was zero.

    `lifetime_s` is None when nobody said how long it is fresh. `selecting` is None when no other
    request can ever be answered with it (`Vary: *`).
    """

    status: int
    headers: RawHeaders
    selecting: Selecting | None
    told: Directives
    lifetime_s: float | None
    born_at: float
    body: bytes = b""

    @property
    def size_bytes(self) -> int:
        """What it weighs, nearly."""
        return 512 + len(self.body) + sum(len(n) + len(v) + 128 for n, v in self.headers)

    @property
    def is_validated_each_time(self) -> bool:
        """True when no request may be answered with it unasked (RFC 9111 5.2.2.4)."""
        return "no-cache" in self.told

    def fresh_for_s(self, now: float) -> float:
        """How long it is still fresh; negative when it isn't (RFC 9111 4.2)."""
        return (self.lifetime_s or 0.0) - (now - self.born_at)

    def validators(self) -> RawHeaders:
        """The fields that ask the upstream whether it has changed (RFC 9111 4.3.1)."""
        asking = ((b"etag", b"If-None-Match"), (b"last-modified", b"If-Modified-Since"))
        values = ((name, joined(self.headers, field)) for field, name in asking)
        return [(name, value.encode("latin-1")) for name, value in values if value]

    def answer(self, exchange: Exchange, now: float, *, hit: bool) -> Response:
        """The answer to a request: whole, or 304 when the caller has it already (RFC 9111 4.3.2)."""
        headers, age_s = list(self.headers), int(now - self.born_at)
        if hit or age_s > 0:
            headers.append((b"Age", b"%d" % max(age_s, 0)))
        if 200 <= self.status < 300 and self._is_known_to(exchange.raw_headers):
            return Response(304, without(headers, _OF_THE_CONTENT))
        return Response(self.status, headers, self.body)

    def _is_known_to(self, fields: Fields) -> bool:
        """True when the caller's condition says that it has this answer (RFC 9110 13.2.2)."""
        if (tags := joined(fields, b"if-none-match")) is not None:
            own = _ENTITY_TAG(joined(self.headers, b"etag") or "")
            return tags.strip() == "*" or any(tag in own for tag in _ENTITY_TAG(tags))
        since = moment(joined(fields, b"if-modified-since"))
        changed = moment(joined(self.headers, b"last-modified"))
        return since is not None and changed is not None and changed <= since


def received(exchange: Exchange, status: int, headers: RawHeaders, asked_at: float) -> Stored:
    """An upstream's answer with what is known about it, without its body.

    `asked_at` is when the upstream was asked; the age on arrival is that of RFC 9111 4.2.3.
    """
    now, for_us = exchange.now(), targeted(joined(headers, b"cdn-cache-control"))
    told = directives(headers) if for_us is None else for_us
    kept = without(headers, _OF_ONE_MESSAGE | nominated(headers))
    date = moment(joined(headers, b"date"))
    if date is None:
        date = now
        kept = [*without(kept, {b"date"}), (b"Date", formatdate(now, usegmt=True).encode("ascii"))]
    age = (joined(headers, b"age") or "").partition(",")[0].strip()
    told_age_s = seconds(age) if age.isascii() and age.isdigit() else 0
    age_s = max(now - date, told_age_s + now - asked_at, 0.0)
    varying = tokens(joined(headers, b"vary"))
    return Stored(
        status,
        kept,
        None if "*" in varying else selecting(exchange, varying),
        told,
        _lifetime_s(exchange, status, None if for_us is not None else headers, told, date),
        now - age_s,
    )


def freshened(exchange: Exchange, old: Stored, headers: RawHeaders, asked_at: float) -> Stored:
    """A stored answer after the upstream's 304 (RFC 9111 3.2, 4.3.4)."""
    news = without(headers, _OF_THE_CONTENT)
    replaced = {name.lower() for name, _ in news} | {b"date"}
    made = received(exchange, old.status, [*without(old.headers, replaced), *news], asked_at)
    made.body = old.body
    return made


def _lifetime_s(
    exchange: Exchange, status: int, headers: RawHeaders | None, told: Directives, date: float
) -> float | None:
    """How long an answer is fresh (RFC 9111 4.2.1); None when nobody says.

    An invalid `Expires` is in the past (RFC 9111 5.3). Without `headers` the directives alone count.
    """
    for name in ("s-maxage", "max-age"):
        if name in told:
            return float(seconds(told[name]))
    if headers is not None and (expires := joined(headers, b"expires")) is not None:
        return max((moment(expires) or 0.0) - date, 0.0)
    ttl_s = exchange.endpoint.definition.cache_ttl
    if ttl_s is not None and status in _LASTING and "no-cache" not in told:
        return float(ttl_s)
    return 0.0 if "no-cache" in told or "public" in told else None


def may_keep(exchange: Exchange, answer: Stored, headers: RawHeaders) -> bool:
    """True when an answer may be stored (RFC 9111 3) and would be of use; `headers` as they came."""
    told, definition = answer.told, exchange.connector.definition
    if answer.status in {206, 304} or answer.selecting is None or answer.lifetime_s is None:
        return False
    if "no-store" in told or "private" in told or is_event_stream(headers):
        return False
    cookies = definition.pass_cookies
    if cookies and joined(headers, b"set-cookie") is not None:
        return False
    personal = definition.auth_type == "passthrough" or (cookies and "cookie" in exchange.headers)
    if personal and not _LETS_CREDENTIALS_SHARE & told.keys():
        return False
    return is_shared(answer, exchange.now()) or can_validate(exchange, answer)


def is_shared(answer: Stored, now: float) -> bool:
    """True when others who ask the same at this moment may have this answer, too."""
    return not answer.is_validated_each_time and answer.fresh_for_s(now) > 0


def is_usable(answer: Stored, asked: Directives, now: float) -> bool:
    """True when a request may be answered without asking the upstream (RFC 9111 4, 5.2.1)."""
    if "no-cache" in asked or answer.is_validated_each_time:
        return False
    if "max-age" in asked and now - answer.born_at > seconds(asked["max-age"]):
        return False
    left_s = answer.fresh_for_s(now)
    if left_s > 0:
        return left_s >= seconds(asked.get("min-fresh", "0"))
    if "max-stale" not in asked or _NEVER_STALE & answer.told.keys():
        return False
    return -left_s <= seconds(asked["max-stale"] or str(FOREVER_S))


def is_granted(exchange: Exchange, answer: Stored) -> bool:
    """True when the caller may get an answer as large as this one: plans of a team differ."""
    return len(answer.body) <= exchange.endpoint.most_response_bytes(exchange.caller.plan)


def wants_validation(asked: Directives) -> bool:
    """True when only an answer that the upstream gives to this very request will do."""
    return "no-cache" in asked or ("max-age" in asked and seconds(asked["max-age"]) == 0)


def bypasses(exchange: Exchange, asked: Directives) -> str | None:
    """Why a GET or HEAD is none of the cache's business, in the words of RFC 9211 2.2, or None."""
    endpoint, headers = exchange.endpoint, exchange.headers
    if endpoint.method != "GET" or endpoint.streaming or not exchange.body.is_empty:
        return "bypass"
    if any(name in headers for name in _BYPASSING):
        return "bypass"
    if exchange.connector.definition.forwarded_headers != "none":
        return "bypass"  # the upstream knows who asks, under which name, and may answer by it
    return "request" if "no-store" in asked else None


def can_validate(exchange: Exchange, answer: Stored) -> bool:
    """True when the upstream can be asked whether the answer is still what it has."""
    method = exchange.endpoint.definition.upstream_method or exchange.method
    return method == "GET" and bool(answer.validators())


def conditional_on(fields: Fields, answer: Stored | None) -> tuple[tuple[bytes, bytes], ...]:
    """A request's fields with our condition in place of the caller's, or without one."""
    own = answer.validators() if answer is not None else []
    return (*without(fields, _CONDITIONAL), *own)


def selecting(exchange: Exchange, names: tuple[str, ...]) -> Selecting:
    """A request's values of the fields that Vary names (RFC 9111 4.1).

    What the endpoint doesn't pass on is the same for all, as the upstream never sees it.
    """
    if not names:
        return ()
    dropped, found = exchange.endpoint.mapped.dropped, []
    for name in sorted({name.encode("latin-1") for name in names}):
        value = None if name in dropped else joined(exchange.raw_headers, name)
        if value is not None:
            value = ",".join(part.strip(" \t") for part in value.split(","))
        found.append((name, value))
    return tuple(found)
