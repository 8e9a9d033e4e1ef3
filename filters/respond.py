"""Gives every answer its final shape: our header fields, the envelope, errors as problem+json.

Any error inside becomes an answer here: a refusal its problem document, anything unexpected a 500
with the request's id, whose cause is in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, RawHeaders, Response, problem
from gateway.http.header_fields import HOP_BY_HOP, nominated
from gateway.http.origin import ACTING, CHALLENGE, PROXY_ORDERS, REMAPPED, is_session
from gateway.limits.contract import Concurrency, Standing
from gateway.options import switch
from gateway.problems import Rejected, internal
from gateway.runtime import Runtime
from gateway.transform import envelope
from gateway.transform.request import VIA

log = logging.getLogger(__name__)

_STRIPPED: Final = HOP_BY_HOP | ACTING | {CHALLENGE, b"content-length", b"server", b"x-request-id"}
_LIMIT_FIELDS: Final = frozenset(
    b"ratelimit ratelimit-policy x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset".split()
)
_UPGRADE_REQUIRED: Final = 426
_SANDBOX: Final = (
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Content-Security-Policy", b"sandbox"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `respond`."""

    legacy_limit_headers: bool = switch(True, "Whether X-RateLimit-Limit, -Remaining and -Reset (seconds) are sent.")  # fmt: skip
    server_timing: bool = switch(True, "Whether Server-Timing tells our own and the upstream's milliseconds.")  # fmt: skip


class Respond:
    """Shapes what comes out of the filters inside."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"final_answer"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._options = options
        self._metrics = runtime.metrics

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        try:
            response = await proceed(exchange)
            if exchange.outcome.source == "upstream":
                response.headers = self._kept(exchange, response.status, response.headers)
                if exchange.endpoint.reshaped:
                    exchange.reached = "respond"
                    await envelope.reshape(exchange, response)
        except Rejected as rejected:
            return self._refusal(exchange, rejected)
        except Exception:
            log.exception("a filter failed", extra={"request_id": exchange.request_id})
            return self._refusal(exchange, internal())
        self._add(exchange, response.headers)
        return response

    def _refusal(self, exchange: Exchange, rejected: Rejected) -> Response:
        outcome = exchange.outcome
        outcome.source, outcome.error_code = "gateway", rejected.code
        self._metrics.rejected(rejected.by or exchange.reached, rejected.counted_as)
        response = problem(rejected, exchange.request_id)
        self._add(exchange, response.headers)
        return response

    def _kept(self, exchange: Exchange, status: int, headers: RawHeaders) -> RawHeaders:
        """The upstream's fields that the caller gets, in their order."""
        told, guards = exchange.connector.definition, exchange.guards_origin
        cookies, sandbox = told.pass_cookies and not guards, told.sandbox_responses or guards
        stripped = _STRIPPED_TOO[cookies, bool(exchange.limits), sandbox]
        kept, ended = [], False
        for field in headers:
            lower = field[0].lower()
            if lower not in stripped or (lower == b"upgrade" and status == _UPGRADE_REQUIRED):
                if not lower.startswith(PROXY_ORDERS) and not _signs_in(lower, field[1]):
                    kept.append(field)
            elif lower == CHALLENGE:
                kept.append((REMAPPED, field[1]))
            elif lower == b"connection" and field[1].lower() not in _USUAL:
                ended = True
        if ended:
            names = nominated(headers) - {b"upgrade"}
            return [field for field in kept if field[0].lower() not in names]
        return kept

    def _add(self, exchange: Exchange, headers: RawHeaders) -> None:
        headers.append((b"X-Request-Id", exchange.request_id.encode("ascii")))
        headers.append(VIA)
        connector = exchange.known_connector
        if connector is None or connector.definition.sandbox_responses or exchange.guards_origin:
            headers += _SANDBOX
        if exchange.limits:
            headers += _limit_fields(exchange.limits, legacy=self._options.legacy_limit_headers)
        if self._options.server_timing:
            headers.append((b"Server-Timing", _timing(exchange)))


def _signs_in(name: bytes, value: bytes) -> bool:
    """True for a field that sets the cookie of the admin UI's session."""
    return name == b"set-cookie" and is_session(value)


_STRIPPED_TOO: Final = {
    (cookies, limits, sandbox): _STRIPPED
    | (frozenset() if cookies else {b"set-cookie"})
    | (_LIMIT_FIELDS if limits else frozenset())
    | ({b"x-content-type-options"} if sandbox else frozenset())
    for cookies in (False, True)
    for limits in (False, True)
    for sandbox in (False, True)
}
"""What is stripped, by whether cookies pass and whether we send limits and a sandbox of our own."""
_USUAL: Final = frozenset({b"keep-alive", b"close"})


def _limit_fields(standings: Sequence[Standing], *, legacy: bool) -> RawHeaders:
    """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""
    tightest, policies = None, []
    for standing in standings:
        limit = standing.limit
        if isinstance(limit, Concurrency):
            continue  # it has no window to tell of
        if (
            tightest is None
            or standing.remaining < tightest.remaining
            or standing.retry_after_s > tightest.retry_after_s
        ):
            tightest = standing
        policies.append(_policy(limit.policy, limit.limit, limit.window_s))
    if tightest is None:
        return []
    limit, left = tightest.limit, tightest.remaining
    reset = -int(-tightest.reset_s // 1)
    fields = [
        (b"RateLimit-Policy", b", ".join(policies)),
        (b"RateLimit", f'"{limit.policy}";r={left};t={reset}'.encode("ascii")),
    ]
    if legacy:
        fields.append((b"X-RateLimit-Limit", b"%d" % limit.limit))
        fields.append((b"X-RateLimit-Remaining", b"%d" % left))
        fields.append((b"X-RateLimit-Reset", b"%d" % reset))
    return fields


@lru_cache(maxsize=4096)
def _policy(name: str, limit: int, window_s: float) -> bytes:
    return f'"{name}";q={limit};w={window_s:.0f}'.encode("ascii")


def _timing(exchange: Exchange) -> bytes:
    """`Server-Timing` (W3C): our own time so far, and the upstream's until its head."""
    upstream_s = exchange.outcome.upstream_s
    own_ms = (exchange.elapsed_s() - upstream_s) * 1000
    if not upstream_s:
        return b"gw;dur=%.3f" % own_ms
    return b"gw;dur=%.3f, upstream;dur=%.3f" % (own_ms, upstream_s * 1000)
