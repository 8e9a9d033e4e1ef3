"""Who may use the admin API: a JWT says who asks, `x-team-id` for which team, the role says what.

The JWT comes as a bearer token, or stands behind the UI's session cookie. Requests with the cookie
have to come from our own pages. Gateway keys are refused here whatever they may do on the data plane.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Final
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Handler

import sql
from admin.control import CONTROL, Control
from admin.problems import REQUEST_ID
from gateway.http.origin import SECURE_COOKIE, SESSION_COOKIE
from gateway.identity import keys
from gateway.identity.jwts import ROLES, Identity, KeysAway, TokenFault
from gateway.limits.callers import count_failure
from gateway.networks import hops
from gateway.problems import Rejected
from gateway.secrets.vault import Sealed, VaultFault

log = logging.getLogger(__name__)

_SESSION: Final = sql.query("sessions.by_digest")

IDENTITY: Final = web.RequestKey("identity", Identity)
SESSION: Final = web.RequestKey("session", UUID)
"""The id of the session that a request came with, when it came with the cookie."""

ANYONE: Final = ""
"""The role of a route that takes every valid token, even one for no team."""
EVERYONE: Final = "everyone"
"""The role of a route that needs no token: it is the way in."""
NOBODY: Final = Identity("", {}, 0.0)

CSRF: Final = "X-Gateway-CSRF"
_SAFE: Final = frozenset({"GET", "HEAD"})


OPEN: Final = web.AppKey("open", frozenset)
"""The handlers that answer everyone: they tell nothing of any team."""


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nothing pass without a valid token, not even to an unknown path; but for what is open."""
    try:
        if request.match_info.handler not in request.app[OPEN]:
            request[IDENTITY] = await _identity(request)
        return await handler(request)
    except Rejected as rejected:
        if rejected.code == "unauthenticated":
            await _count_failure(request)
        raise


async def _count_failure(request: web.Request) -> None:
    """Raises Rejected `rate_limited` for one failure too many from an address."""
    control = request.app[CONTROL]
    if control.failures_per_minute:
        peer = request.transport and request.transport.get_extra_info("peername")
        forwarded = request.headers.getall("X-Forwarded-For", ())
        address = hops(peer, forwarded, control.trusted_proxies)[0]
        await count_failure(control.limits, "admin", address, control.failures_per_minute)


async def _identity(request: web.Request) -> Identity:
    given = request.headers.getall("Authorization", [])
    if not given and (cookie := _cookie(request)):
        return await _of_session(request, cookie)
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    token = token.strip()
    reason = "no bearer token"
    if token.startswith(keys.PREFIX):
        reason = "a gateway key"
    elif scheme.lower() == "bearer" and token and token.isascii():
        try:
            return await request.app[CONTROL].tokens.verify(token)
        except KeysAway as away:
            raise away.refusal() from None
        except TokenFault as fault:
            reason = str(fault)
    raise unauthenticated(request, reason)


def _cookie(request: web.Request) -> str:
    """The session's cookie; a browser that came by https has only the one that plain HTTP can't set."""
    usual = "" if is_encrypted(request) else request.cookies.get(SESSION_COOKIE, "")
    return request.cookies.get(SECURE_COOKIE, usual)


def is_encrypted(request: web.Request) -> bool:
    """True when the browser came by https, as far as it or the proxy in front says."""
    return (
        request.secure
        or request.headers.get("Origin", "").startswith("https://")
        or request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"
    )


async def _of_session(request: web.Request, cookie: str) -> Identity:
    if request.method in _SAFE:
        check_origin(request, "same-origin", "none", "")
    elif request.headers.get(CSRF):
        check_origin(request, "same-origin", "")
    else:
        check_origin(request, "same-origin")
    try:
        session_id, token = await _session(request.app[CONTROL], cookie)
        identity = await request.app[CONTROL].tokens.verify(token)
    except KeysAway as away:
        raise away.refusal() from None
    except (LookupError, VaultFault, TokenFault) as fault:
        raise unauthenticated(request, f"a session: {fault}") from None
    request[SESSION] = session_id
    return identity


async def _session(control: Control, cookie: str) -> tuple[UUID, str]:
    """The session of a cookie and its token. Raises LookupError, VaultFault, DatabaseAway."""
    name = digest(cookie)
    row = await control.database.row(_SESSION, name)
    if row is None:
        raise LookupError("signed out, expired or unknown")
    token = control.vault.open(Sealed(row["key_id"], row["sealed"]), **place(name))
    return row["id"], token


def digest(cookie: str) -> bytes:
    """What is kept of a cookie."""
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).digest()


def place(name: bytes) -> dict[str, str]:
    """What a session's token is sealed for: its cookie alone."""
    return {"team": "", "connector": "session", "name": name.hex()}


def check_origin(request: web.Request, *allowed: str) -> None:
    """Refuse what another site makes the browser send (Fetch Metadata; empty: it says nothing).

    Browsers say nothing on plain HTTP; then our own header decides, which other sites cannot add
    without a preflight that is never granted. Raises Rejected `forbidden`.
    """
    said = request.headers.getall("Sec-Fetch-Site", [""])
    if len(said) != 1 or said[0] not in allowed:
        raise Rejected(
            "forbidden",
            "A request with the session cookie has to come from a page of the gateway, and a write "
            f"has to say so: Sec-Fetch-Site: same-origin, or the header {CSRF}: 1.",
        )


def unauthenticated(request: web.Request, reason: str) -> Rejected:
    """The one refusal of every credential; the reason is for the log."""
    log.info(
        "an admin request was not authenticated",
        extra={"request_id": request[REQUEST_ID], "reason": reason},
    )
    return Rejected(
        "unauthenticated",
        "The admin API needs a valid JWT: Authorization: Bearer <token>.",
        headers=[(b"WWW-Authenticate", b'Bearer realm="service-gateway"')],
    )


def membership(identity: Identity, named: str | None, needed: str) -> tuple[str, str]:
    """The team that is asked for and the caller's role in it. Raises Rejected `forbidden`.

    `named` is the value of `x-team-id`; it may be left out when the token holds exactly one team.
    """
    if needed == EVERYONE:
        return "", ""
    if named is None and len(identity.teams) == 1:
        named = next(iter(identity.teams))
    if named is None and needed == ANYONE:
        return "", ""
    if named is None:
        raise Rejected(
            "forbidden", "The token does not hold exactly one team: name it in x-team-id."
        )
    if named not in identity.teams:
        raise Rejected("forbidden", "The token is not for the team in x-team-id.")
    role = identity.teams[named]
    if not allows(role, needed):
        raise Rejected("forbidden", f"This needs the role {needed}; the token has {role}.")
    return named, role


def allows(held: str, needed: str) -> bool:
    """True when a role includes another: viewer < editor < admin."""
    return needed in {ANYONE, EVERYONE} or ROLES.index(held) >= ROLES.index(needed)
