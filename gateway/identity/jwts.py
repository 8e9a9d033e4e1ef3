"""JSON Web Tokens (RFC 7519, RFC 8725): verified with configured keys, and minted for admins.

Which algorithms count is configuration, never the token's word.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
import orjson

from gateway.clock import Clock, SystemClock
from gateway.identity.key_sets import KeysAway, KeySet, PublishedKey, TokenFault
from gateway.recent import Recent
from gateway.tasks import Tasks

__all__ = [
    "ALGORITHMS", "HMAC", "ROLES", "Identity", "KeysAway", "TokenFault", "TokenRules", "Tokens", "TrustedKey", "check_key",
]  # fmt: skip

ROLES: Final = ("viewer", "editor", "admin")
HMAC: Final = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"})
ALGORITHMS: Final = tuple(sorted(HMAC | ASYMMETRIC))
_REQUIRED: Final = ["exp", "iat", "sub", "iss", "aud"]
_BELIEVED_S: Final = 300.0
"""How long a verified token is not verified again: its key may be withdrawn meanwhile."""
_CACHED_BYTES: Final = 16 << 20
_IDENTITY_BYTES: Final = 256
_MOST_NAME_BYTES: Final = 512
"""How long the name of a user or a team may be: it is in indexes of the database."""
_MALFORMED: Final = (jwt.PyJWTError, ArithmeticError, RecursionError, TypeError, ValueError)
"""What a token can bring about that is not made as it should be."""
_SYSTEM_CLOCK: Final = SystemClock()


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
    token_type: str = ""
    """What `typ` must be, such as `at+jwt` (RFC 9068 4); empty: anything."""


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
        self._verified: Recent[bytes, tuple[Identity, float]] = Recent(_CACHED_BYTES)
        self._tasks = Tasks()
        self._sets = {
            url: KeySet(url, self._published, self._verified.clear, clock, self._tasks)
            for url in dict.fromkeys(key.jwks_url for key in keys)
            if url
        }

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

    async def close(self) -> None:
        """Fetch no more keys."""
        await self._tasks.stop()

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except _MALFORMED as error:
            raise TokenFault(str(error)) from None
        wanted = _media_type(self._rules.token_type)
        if wanted and _media_type(header.get("typ")) != wanted:
            raise TokenFault("the token is of another type")
        candidates, fault = await self._candidates(header.get("alg"), header.get("kid"))
        for algorithm, key in candidates:
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
            except _MALFORMED as error:
                fault = fault if isinstance(fault, KeysAway) else TokenFault(str(error))
        raise fault

    async def _candidates(
        self, algorithm: Any, kid: Any
    ) -> tuple[list[tuple[str, Any]], TokenFault]:
        """The keys whose algorithm and id fit the token's header, and its fault when none is its own."""
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        found = [
            key.key
            for key in fitting
            if not key.jwks_url and (not key.kid or not kid or key.kid == kid)
        ]
        sets = [self._sets[key.jwks_url] for key in fitting if key.jwks_url]
        held = [key for published in sets for key in published.held(algorithm, kid)]
        fault = TokenFault("no key for this token")
        if not held or not kid:
            held = []
            for published in sets:
                try:
                    held += await published.fitting(algorithm, kid)
                except KeysAway as away:
                    fault = away
        return [(algorithm, key) for key in (*found, *held)], fault

    async def _published(self, url: str) -> list[PublishedKey]:
        """The keys at an address that can be used. Raises whatever goes wrong."""
        if self._fetch is None:
            raise LookupError("there is no way to fetch keys")
        algorithms = {key.algorithm for key in self._keys if key.jwks_url == url}
        return [
            PublishedKey(algorithm, str(entry.get("kid", "")), key)
            for entry in orjson.loads(await self._fetch(url))["keys"]
            for algorithm in sorted(algorithms)
            if (key := _key_of(entry, algorithm)) is not None
        ]

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        rules = self._rules
        try:
            expires_at, issued_at = float(claims["exp"]), float(claims["iat"])
        except _MALFORMED as error:
            raise TokenFault(str(error)) from None
        if not expires_at - issued_at <= rules.longest_life_s:
            raise TokenFault("the token lives longer than is allowed")
        user, teams = claims.get(rules.user_claim), claims.get(rules.teams_claim)
        role = claims.get(rules.role_claim, "viewer")
        if isinstance(teams, list) and all(isinstance(team, str) for team in teams):
            teams = dict.fromkeys(teams, role)
        if not isinstance(user, str) or not user or not isinstance(teams, dict):
            raise TokenFault("the token names no user or no teams")
        if not all(map(_can_be_kept, (user, *teams))):
            raise TokenFault("the token has a user or a team that can't be kept")
        if any(granted not in ROLES for granted in teams.values()):
            raise TokenFault("the token grants an unknown role")
        return Identity(user, teams, expires_at)

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
        headers = {"typ": self._rules.token_type or "JWT"} | ({"kid": key.kid} if key.kid else {})
        return jwt.encode(claims, key.key, algorithm=key.algorithm, headers=headers)


def _size(identity: Identity) -> int:
    """How much memory an identity takes, nearly."""
    teams = identity.teams
    words = (identity.user, *teams, *teams.values())
    return _IDENTITY_BYTES + sys.getsizeof(teams) + sum(map(sys.getsizeof, words))


def _key_of(entry: Any, algorithm: str) -> Any:
    """The key of a JWK; None when it is not one for this algorithm (RFC 7517 4, 5)."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    if entry.get("kty") == "oct" or entry.get("alg", algorithm) != algorithm:
        return None
    try:
        return jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None


def _media_type(typ: Any) -> str:
    """What `typ` says, without what may be left out of it (RFC 7515 4.1.9)."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else ""


def _can_be_kept(name: str) -> bool:
    """True for a name that the database takes: no NUL, no half of a surrogate pair, not too long."""
    try:
        return "\0" not in name and len(name.encode()) <= _MOST_NAME_BYTES
    except UnicodeEncodeError:
        return False


def check_key(algorithm: str, key: str) -> None:
    """Raises ValueError for a secret or PEM that no token could be verified with."""
    scheme = jwt.get_algorithm_by_name(algorithm)
    try:
        fault = scheme.check_key_length(scheme.prepare_key(key))
    except jwt.PyJWTError as error:
        raise ValueError(str(error).rstrip(".")) from None
    if fault is not None:
        raise ValueError(fault.rstrip("."))
