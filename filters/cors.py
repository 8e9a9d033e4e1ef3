"""Lets browsers call from pages of other origins: the Fetch standard's CORS protocol.

A preflight is answered here, with 204 and without a credential: browsers send none, so this goes
before `authenticate`. Refuses nothing: an origin that is not allowed gets no permission, and the
browser does the rest. What the upstream says of CORS is replaced, on errors too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, RawHeaders, Response
from gateway.http.header_fields import is_token, vary_by, without
from gateway.options import switch, texts, whole
from gateway.problems import Rejected
from gateway.runtime import Runtime

_ORIGIN: Final = re.compile(r"\*|(?i:[a-z][a-z0-9+.-]*://(?:\*\.)?[a-z0-9._:\[\]-]+)").fullmatch
_OURS: Final = frozenset(
    b"access-control-" + name
    for name in b"allow-origin allow-credentials expose-headers allow-methods allow-headers "
    b"max-age allow-private-network".split()
)
_USUAL_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_USUAL_HEADERS: Final = (
    "Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-Id", "X-Team-Id",
)  # fmt: skip
_USUAL_ANSWERS: Final = ("RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id")


def _check_origin(text: str) -> None:
    if not _ORIGIN(text):
        raise ValueError("neither an origin (https://app.example.com), https://*.example.com nor *")


def _check_token(text: str) -> None:
    if not is_token(text):
        raise ValueError("not a name of HTTP")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `cors`."""

    allow_origins: tuple[str, ...] = texts(
        (), "Origins whose pages may call: https://app.example.com, https://*.example.com for all below, * for any; needed.",
        check=_check_origin,
    )  # fmt: skip
    allow_methods: tuple[str, ...] = texts(_USUAL_METHODS, "Methods that they may use.", check=_check_token)  # fmt: skip
    allow_headers: tuple[str, ...] = texts(_USUAL_HEADERS, "Request fields that they may send.", check=_check_token)  # fmt: skip
    expose_headers: tuple[str, ...] = texts(_USUAL_ANSWERS, "Answer fields that they may read.", check=_check_token)  # fmt: skip
    allow_credentials: bool = switch(False, "Whether browsers may send cookies; not together with *.")  # fmt: skip
    max_age_s: int = whole(600, "How long a browser remembers a preflight's answer, in seconds.")

    def __post_init__(self) -> None:
        """Refuse what browsers would ignore (Fetch 3.2.5)."""
        if not self.allow_origins:
            raise ValueError("allow_origins names no origin")
        for name in ("allow_origins", "allow_methods", "allow_headers", "expose_headers"):
            if self.allow_credentials and "*" in getattr(self, name):
                raise ValueError(f"{name} may not have * together with allow_credentials")


class Cors:
    """Tells browsers who may call."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"cors"})
    precedes: ClassVar[frozenset[str]] = frozenset({"caller"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._allows_any = "*" in options.allow_origins
        patterns = (_pattern(origin) for origin in options.allow_origins if origin != "*")
        self._is_allowed = re.compile("|".join(patterns)).fullmatch
        self._credentials = [
            (b"Access-Control-Allow-Credentials", b"true")
        ] * options.allow_credentials
        self._preflight = [
            *_list(b"Access-Control-Allow-Methods", options.allow_methods),
            *_list(b"Access-Control-Allow-Headers", options.allow_headers),
            (b"Access-Control-Max-Age", b"%d" % options.max_age_s),
        ]
        self._exposed = _list(b"Access-Control-Expose-Headers", options.expose_headers)

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        origin = exchange.headers.get("origin")
        asks = "access-control-request-method" in exchange.headers
        if exchange.method == "OPTIONS" and origin is not None and asks:
            own = [(b"X-Request-Id", exchange.request_id.encode("ascii"))]
            return Response(204, self._fields(own, origin, self._preflight))
        try:
            response = await proceed(exchange)
        except Rejected as rejected:
            rejected.headers = self._fields(rejected.headers, origin, self._exposed)
            raise
        response.headers = self._fields(response.headers, origin, self._exposed)
        return response

    def _fields(self, headers: RawHeaders, origin: str | None, told: RawHeaders) -> RawHeaders:
        """An answer's fields with what its origin may do with it."""
        headers = without(headers, _OURS)
        if self._allows_any:
            headers.append((b"Access-Control-Allow-Origin", b"*"))
        else:
            vary_by(headers, "Origin")
            if origin is None or not self._is_allowed(origin):
                return headers
            headers.append((b"Access-Control-Allow-Origin", origin.encode("ascii")))
        return [*headers, *self._credentials, *told]


def _pattern(origin: str) -> str:
    """An origin as an expression; *. stands for one or more labels."""
    return re.escape(origin.lower()).replace(r"\*\.", r"(?:[a-z0-9_-]+\.)+")


def _list(name: bytes, values: tuple[str, ...]) -> RawHeaders:
    return [(name, ", ".join(values).encode("ascii"))] if values else []
