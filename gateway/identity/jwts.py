"""JSON Web Tokens (RFC 7519, RFC 8725): verified with configured keys, and minted for admins.

Which algorithms count is configuration, never the token's word. Keys of a JWKS URL are fetched on
an unknown `kid`, at most every 30 s, and kept when the issuer is away.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
import orjson

from gateway.clock import Clock, SystemClock
from gateway.recent import Recent

log = logging.getLogger(__name__)

ROLES: Final = ("viewer", "editor", "admin")
HMAC: Final = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"})
ALGORITHMS: Final = tuple(sorted(HMAC | ASYMMETRIC))
_REQUIRED: Final = ["exp", "iat", "sub", "iss", "aud"]
_REFETCH_S: Final = 30.0
_BELIEVED_S: Final = 300.0
"""How long a verified token is not verified again: its key may be withdrawn meanwhile."""
_MOST_AGE_S: Final = 600.0
"""How long keys are believed without asking again: a withdrawn one is refused after that."""
_CACHED_BYTES: Final = 16 << 20
_IDENTITY_BYTES: Final = 256
_SYSTEM_CLOCK: Final = SystemClock()


class TokenFault(Exception):
    """A token that is not accepted. The text is for the log; callers all get the same 401."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for: the user, and the role in each team."""

    user: str
    teams: Mapping[str, str]
    expires_at: float


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that tokens may be signed with: `key` is a secret, a PEM, or empty with a `jwks_url`."""

    algorithm: str
    key: str | bytes = field(repr=False, default="")
    jwks_url: str = ""
    kid: str = ""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What every token must say. Times in seconds."""

    issuer: str
    audience: str
    leeway_s: float = 30
    longest_life_s: float = 86_400
    user_claim: str = "sub"
    teams_claim: str = "teams"
    role_claim: str = "role"


@dataclass(slots=True)
class _KeySet:
    """The keys last seen at a JWKS URL: algorithm, id, key."""

    keys: list[tuple[str, str, Any]] = field(default_factory=list)
    fetched_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def fitting(self, algorithm: str, kid: Any) -> list[Any]:
        """The keys for an algorithm, all of them when the token names none."""
        return [k for alg, name, k in self.keys if alg == algorithm and (not kid or name == kid)]


class Tokens:
    """Verifies tokens and mints them when a HMAC key is there."""

    def __init__(
        self,
        rules: TokenRules,
        keys: Sequence[TrustedKey],
        fetch: Callable[[str], Awaitable[bytes]] | None = None,
        clock: Clock = _SYSTEM_CLOCK,
    ) -> None:
        self._rules = rules
        self._keys = list(keys)
        self._fetch = fetch
        self._clock = clock
        self._sets = {key.jwks_url: _KeySet() for key in keys if key.jwks_url}
        self._verified: Recent[bytes, tuple[Identity, float]] = Recent(_CACHED_BYTES)

    async def verify(self, token: str) -> Identity:
        """Who this token speaks for. Raises TokenFault."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = self._clock.now()
        if (known := self._verified.get(digest)) is not None:
            identity, verified_at = known
            expires_at = min(identity.expires_at + self._rules.leeway_s, verified_at + _BELIEVED_S)
            if verified_at <= now < expires_at:
                return identity
            self._verified.drop(digest)
        identity = self._identity(await self._claims(token))
        self._verified.put(digest, (identity, now), _size(identity))
        return identity

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, UnicodeError) as error:
            raise TokenFault(str(error)) from None
        fault = "no key for this token"
        for algorithm, key in await self._candidates(header.get("alg"), header.get("kid")):
            try:
                return jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    issuer=self._rules.issuer,
                    audience=self._rules.audience,
                    leeway=self._rules.leeway_s,
                    options={"require": _REQUIRED, "enforce_minimum_key_length": True},
                )
            except jwt.PyJWTError as error:
                fault = str(error)
        raise TokenFault(fault)

    async def _candidates(self, algorithm: Any, kid: Any) -> list[tuple[str, Any]]:
        """The configured keys whose algorithm and id fit the token's header."""
        found: list[tuple[str, Any]] = []
        for key in self._keys:
            if key.algorithm != algorithm:
                continue
            if key.jwks_url:
                found += [(key.algorithm, k) for k in await self._from_set(key, kid)]
            elif not key.kid or not kid or key.kid == kid:
                found.append((key.algorithm, key.key))
        return found

    async def _from_set(self, key: TrustedKey, kid: Any) -> list[Any]:
        known = self._sets[key.jwks_url]
        age_s = self._clock.monotonic() - known.fetched_at
        if age_s > _MOST_AGE_S or not known.fitting(key.algorithm, kid):
            async with known.lock:
                age_s = self._clock.monotonic() - known.fetched_at
                unknown = age_s > _REFETCH_S and not known.fitting(key.algorithm, kid)
                if unknown or age_s > _MOST_AGE_S:
                    known.fetched_at = self._clock.monotonic()
                    await self._refetch(key.jwks_url, known)
        return known.fitting(key.algorithm, kid)

    async def _refetch(self, url: str, known: _KeySet) -> None:
        if self._fetch is None:
            raise TokenFault("no way to fetch a JWKS")
        algorithms = {key.algorithm for key in self._keys if key.jwks_url == url}
        try:
            entries = orjson.loads(await self._fetch(url))["keys"]
            fresh = [
                (algorithm, str(entry.get("kid", "")), key)
                for entry in entries
                for algorithm in algorithms
                if (key := _key_of(entry, algorithm)) is not None
            ]
        except Exception:  # whatever an issuer answers, the keys that we have stay
            log.warning("could not fetch the JWKS", exc_info=True, extra={"url": url})
            return
        known.keys = fresh

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        rules = self._rules
        if float(claims["exp"]) - float(claims["iat"]) > rules.longest_life_s:
            raise TokenFault("the token lives longer than is allowed")
        user, teams = claims.get(rules.user_claim), claims.get(rules.teams_claim)
        role = claims.get(rules.role_claim, "viewer")
        if isinstance(teams, list) and all(isinstance(team, str) for team in teams):
            teams = dict.fromkeys(teams, role)
        if not isinstance(user, str) or not user or not isinstance(teams, dict):
            raise TokenFault("the token names no user or no teams")
        if any(granted not in ROLES for granted in teams.values()):
            raise TokenFault("the token grants an unknown role")
        return Identity(user, teams, float(claims["exp"]))

    def mint(self, *, team: str, role: str, user: str, life_s: float) -> str:
        """A token for one team, signed with the first HMAC key. Raises TokenFault without one."""
        for key in self._keys:
            if key.algorithm in HMAC:
                break
        else:
            raise TokenFault("tokens can be minted with a HMAC key only; none is configured")
        if role not in ROLES:
            raise TokenFault(f"a role is one of {', '.join(ROLES)}")
        if life_s > self._rules.longest_life_s:
            raise TokenFault(f"a token lives at most {self._rules.longest_life_s:.0f} s")
        now = int(self._clock.now())
        claims = {
            "iss": self._rules.issuer,
            "aud": self._rules.audience,
            "iat": now,
            "exp": now + int(life_s),
            "sub": user,
            self._rules.user_claim: user,
            self._rules.teams_claim: {team: role},
        }
        headers = {"kid": key.kid} if key.kid else None
        return jwt.encode(claims, key.key, algorithm=key.algorithm, headers=headers)


def _size(identity: Identity) -> int:
    """How much memory an identity takes, nearly."""
    teams = identity.teams
    words = (identity.user, *teams, *teams.values())
    return _IDENTITY_BYTES + sys.getsizeof(teams) + sum(map(sys.getsizeof, words))


def _key_of(entry: Any, algorithm: str) -> Any:
    """The key of a JWK; None when it is not one for this algorithm (RFC 7517 5)."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    if entry.get("kty") == "oct" or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        return jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def check_key(algorithm: str, key: str) -> None:
    """Raises ValueError for a secret or PEM that no token could be verified with."""
    scheme = jwt.get_algorithm_by_name(algorithm)
    try:
        fault = scheme.check_key_length(scheme.prepare_key(key))
    except jwt.PyJWTError as error:
        raise ValueError(str(error).rstrip(".")) from None
    if fault is not None:
        raise ValueError(fault.rstrip("."))
