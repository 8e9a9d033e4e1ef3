"""Who may use the admin API: a JWT says who asks, `x-team-id` for which team, the role says what.

Gateway keys are refused here whatever they may do on the data plane.
"""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from admin.control import CONTROL
from admin.problems import REQUEST_ID
from gateway import keys
from gateway.problems import Rejected
from gateway.tokens import ROLES, Identity, TokenFault

log = logging.getLogger(__name__)

IDENTITY: Final = web.RequestKey("identity", Identity)
ANYONE: Final = ""
"""The role of a route that takes every valid token, even one for no team."""


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nothing pass without a valid token, not even to an unknown path."""
    request[IDENTITY] = await _identity(request)
    return await handler(request)


async def _identity(request: web.Request) -> Identity:
    given = request.headers.getall("Authorization", [])
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    token = token.strip()
    reason = "no bearer token"
    if token.startswith(keys.PREFIX):
        reason = "a gateway key"
    elif scheme.lower() == "bearer" and token and token.isascii():
        try:
            return await request.app[CONTROL].tokens.verify(token)
        except TokenFault as fault:
            reason = str(fault)
    log.info(
        "an admin request was not authenticated",
        extra={"request_id": request[REQUEST_ID], "reason": reason},
    )
    raise Rejected(
        "unauthenticated",
        "The admin API needs a valid JWT: Authorization: Bearer <token>.",
        headers=[(b"WWW-Authenticate", b'Bearer realm="service-gateway"')],
    )


def membership(identity: Identity, named: str | None, needed: str) -> tuple[str, str]:
    """The team that is asked for and the caller's role in it. Raises Rejected `forbidden`.

    `named` is the value of `x-team-id`; it may be left out when the token holds exactly one team.
    """
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
    return needed == ANYONE or ROLES.index(held) >= ROLES.index(needed)
