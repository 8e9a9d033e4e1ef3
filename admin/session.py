"""The UI's session: a token becomes a cookie that scripts cannot read, until the user signs out.

The cookie is a random name. The token stays here, sealed, and is verified anew with every request,
so a session outlives a restart, and ends with its token, its signing key, or the sign-out.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

import sql
from admin import access, me
from admin.calls import Call, answer, nothing
from admin.fields import Wire, text
from admin.routes import Operation, Resource, Route
from admin.writes import Write
from gateway.clock import utc_now
from gateway.http.origin import SECURE_COOKIE, SESSION_COOKIE
from gateway.identity.jwts import KeysAway, TokenFault
from gateway.ids import uuid7

_OPEN: Final = sql.query("sessions.open")
_CLOSE: Final = sql.query("sessions.close")
_SWEEP: Final = sql.query("sessions.sweep")

_MOST_TOKEN: Final = 65_536


class SignIn(Wire):
    """What a session is made of."""

    token = text(_MOST_TOKEN, least=1, required=True)


_SIGN_IN: Final = SignIn()


async def create(call: Call) -> web.Response:
    """POST: sign in. The answer says who that is, and sets the cookie."""
    access.check_origin(call.request, "same-origin", "none", "")
    token = _SIGN_IN.load(await call.body())["token"].strip()
    try:
        identity = await call.control.tokens.verify(token)
    except KeysAway as away:
        raise away.refusal() from None
    except TokenFault as fault:
        raise access.unauthenticated(call.request, str(fault)) from None
    team, role = access.membership(identity, None, access.ANYONE)
    call = replace(call, identity=identity, team=team, role=role)
    response = answer(me.document(call), status=201)
    if not call.flag("dryRun"):
        cookie = await _opened(call, token)
        response.headers["Set-Cookie"] = _cookie(call.request, cookie, identity.expires_at)
    return response


async def delete(call: Call) -> web.Response:
    """DELETE: sign out. What the cookie held is worth nothing afterwards."""
    response = nothing()
    if call.flag("dryRun"):
        return response
    if (session_id := call.request.get(access.SESSION)) is not None:
        async with call.control.database.transaction() as connection:
            await connection.execute(_CLOSE, session_id)
            await _log(call, connection, "session.delete", session_id)
    response.headers["Set-Cookie"] = _cookie(call.request, "", 0)
    return response


async def _opened(call: Call, token: str) -> str:
    """Keep the token; answers the cookie's value."""
    cookie = secrets.token_urlsafe(32)
    digest = access.digest(cookie)
    sealed = call.control.vault.seal(token, **access.place(digest))
    session_id = uuid7()
    expires_at = datetime.fromtimestamp(call.identity.expires_at, UTC)
    async with call.control.database.transaction() as connection:
        await connection.execute(_SWEEP)
        await connection.execute(
            _OPEN, session_id, digest, sealed.key_id, sealed.content, expires_at
        )
        await _log(call, connection, "session.create", session_id)
    return cookie


async def _log(call: Call, connection: Any, action: str, session_id: Any) -> None:
    """Leave an audit row with each of the user's teams."""
    for team in sorted(call.identity.teams):
        write = Write(replace(call, team=team), connection)
        write.log(action, session_id, {})
        await write.finish()


def _cookie(request: web.Request, value: str, expires_at: float) -> str:
    """The Set-Cookie of a value, or of its end.

    Without a path of its own its path is that of the admin API as the browser sees it, whatever
    prefix a proxy adds (RFC 6265 5.1.4): it is not sent with calls of the data plane.
    """
    left_s = max(0, int(expires_at - utc_now().timestamp()))
    name, secure = SESSION_COOKIE, ""
    if access.is_encrypted(request):
        name, secure = SECURE_COOKIE, "; Secure"
    return f"{name}={value}; Max-Age={left_s}; HttpOnly; SameSite=Strict{secure}"


RESOURCE: Final = Resource(
    "session",
    "session",
    (
        Route(
            "POST",
            "/session",
            access.EVERYONE,
            create,
            Operation(me.Me, 201, body=SignIn, example={"token": "eyJhbGciOi…"}),
        ),
        Route("DELETE", "/session", access.ANYONE, delete, Operation(status=204)),
    ),
)
