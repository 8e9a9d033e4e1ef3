"""Who calls: a gateway key (`gw_…`) or a user's JWT, from Authorization, else from X-API-Key.

Browsers can set neither on a WebSocket or an EventSource: there a subprotocol
`service-gateway.key.…`, or a query parameter where the options name one, holds it.
An Authorization that is for the upstream, no key and no token of ours, stands beside a key there.

Answers 401 `unauthenticated`, with one text for every reason, and 403 `forbidden` when a user asks
for a team that the token does not hold. Who fails too often from one address gets 429 `rate_limited`
instead of 401; a good credential from there still works, as it may be a neighbour's. While the keys that
tokens are signed with can't be fetched, an unknown one is 503 `store_unavailable`, and no failure.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.identity import keys
from gateway.identity.jwts import KeysAway, TokenFault
from gateway.limits.callers import count_failure
from gateway.model import Caller
from gateway.options import text, texts, whole
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.server import browsers

log = logging.getLogger(__name__)

_CHALLENGE: Final = (b"WWW-Authenticate", b'Bearer realm="service-gateway"')
_USUAL_HEADERS: Final = ("X-API-Key", "X-Goog-Api-Key")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9._~-]+").fullmatch


def _check_parameter(name: str) -> None:
    if not _PARAMETER(name):
        raise ValueError("not a name of letters, digits, '.', '_', '~' and '-'")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `authenticate`."""

    key_headers: tuple[str, ...] = texts(
        _USUAL_HEADERS,
        "Header fields that may hold a key when there is no Authorization; never sent upstream.",
    )
    query_parameter: str | None = text(
        None,
        "A query parameter that may hold the credential when no field does, for EventSource and "
        "WebSocket in browsers; never sent upstream nor recorded; null: none.",
        optional=True,
        check=_check_parameter,
    )
    failures_per_minute: int = whole(
        10,
        "How many refused credentials an address may send in a minute before it gets 429; 0: any.",
    )


class Authenticate:
    """Finds the caller."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"caller"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._key_headers = options.key_headers
        usual = {name.lower() for name in _USUAL_HEADERS}  # no mapping passes these on
        own = {name.lower() for name in options.key_headers} - usual
        self._hidden = frozenset(name.encode().replace(b"_", b"-") for name in own)
        self._directory = runtime.directory
        self._tokens = runtime.tokens
        self._limits = runtime.limits
        self._failures = options.failures_per_minute
        self._parameter = options.query_parameter

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        offer, spare = None, ""
        if browsers.SUBPROTOCOLS in exchange.headers:
            offer = browsers.take_offer(exchange)
        if self._parameter is not None:
            spare = browsers.take_parameter(exchange, self._parameter)
        if offer is not None:
            spare = offer.credential
        try:
            credential = self._credential(exchange.headers, spare)
            await self._identify(exchange, credential, spare)
        except Rejected as rejected:
            if rejected.code == "unauthenticated" and self._failures:
                who = exchange.client_address
                await count_failure(self._limits, "calls", who, self._failures)
            raise
        if self._hidden:
            exchange.raw_headers = tuple(
                (name, value)
                for name, value in exchange.raw_headers
                if name.lower().replace(b"_", b"-") not in self._hidden
            )
        response = await proceed(exchange)
        if not isinstance(response.body, bytes):
            exchange.rests_on(partial(self._identify, exchange, credential, spare))
        if offer is not None:
            offer.answer(response)
        return response

    async def _identify(self, exchange: Exchange, credential: str, spare: str) -> None:
        if credential.startswith(keys.PREFIX):
            exchange.caller = await self._by_key(credential)
        else:
            exchange.caller = await self._by_token(credential, exchange, spare)

    def _credential(self, headers: Mapping[str, str], spare: str) -> str:
        if (field := headers.get("authorization")) is not None:
            scheme, _, credential = field.partition(" ")
            if scheme.lower() == "bearer" and credential:
                return credential.strip()
            if beside := self._key_beside(headers, spare):
                return beside
            raise refused()
        for name in self._key_headers:
            if value := headers.get(name):
                return value
        if spare:
            return spare
        raise refused()

    def _key_beside(self, headers: Mapping[str, str], spare: str) -> str:
        """The gateway key of a request whose Authorization is not for us; empty without one."""
        for name in self._key_headers:
            if (value := headers.get(name, "")).startswith(keys.PREFIX):
                return value
        return spare if spare.startswith(keys.PREFIX) else ""

    async def _by_key(self, value: str) -> Caller:
        parsed = keys.parse(value)
        if parsed is None:
            raise refused()
        record = self._directory.held_key(parsed.public_id)
        if record is None and parsed.is_intact:
            record = await self._directory.key(parsed.public_id)
        if record is None:
            keys.same(parsed.digest, keys.NO_DIGEST)
            raise refused()
        now = time.time()
        if not keys.same(parsed.digest, record.digest) and (
            now >= record.previous_until or not keys.same(parsed.digest, record.previous_digest)
        ):
            raise refused()
        caller = record.caller
        if record.revoked or (caller.expires_at is not None and now >= caller.expires_at):
            raise refused()
        return caller

    async def _by_token(self, token: str, exchange: Exchange, spare: str) -> Caller:
        try:
            identity = await self._tokens.verify(token)
        except TokenFault as fault:
            log.debug("token refused", extra={"reason": str(fault)})
            if beside := self._key_beside(exchange.headers, spare):
                return await self._by_key(beside)
            raise (fault.refusal() if isinstance(fault, KeysAway) else refused()) from None
        team = exchange.headers.get("x-team-id", "")
        if not team and len(identity.teams) == 1:
            team = next(iter(identity.teams))
        if not team:
            raise Rejected("forbidden", "The token holds several teams: name one in x-team-id.")
        if (role := identity.teams.get(team)) is None:
            raise Rejected("forbidden", "The token does not hold this team.")
        plan = await self._directory.plan_of(team)
        return Caller("user", identity.user, identity.user, team, plan, role)


def refused() -> Rejected:
    """The one answer for every credential that isn't accepted."""
    return Rejected(
        "unauthenticated",
        "Send a valid gateway key or token as Authorization: Bearer.",
        headers=[_CHALLENGE],
    )
