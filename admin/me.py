"""Who the caller is: the user, the teams of the token, and the role in the one that was named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from marshmallow import fields

from admin.access import ANYONE
from admin.calls import Call, answer
from admin.fields import Instant, Wire
from admin.routes import Resource, Route, shows
from gateway import __version__


class Membership(Wire):
    """A team of the token, and the role in it."""

    id = fields.String()
    role = fields.String()


class Me(Wire):
    """The caller. `team` and `role` are null when the token holds several teams and none is named.

    `features` are the parts of the admin API that this gateway has.
    """

    user = fields.String()
    team = fields.String(allow_none=True)
    role = fields.String(allow_none=True)
    teams = fields.List(fields.Nested(Membership))
    features = fields.List(fields.String())
    expires_at = Instant()
    version = fields.String()


_SCHEMA: Final = Me()

FEATURES: Final = web.AppKey("features", tuple[str, ...])


async def show(call: Call) -> web.Response:
    """GET: who am I."""
    return answer(document(call))


def document(call: Call) -> Any:
    """What the caller of a request is told of itself."""
    identity = call.identity
    found = {
        "user": identity.user,
        "team": call.team or None,
        "role": call.role or None,
        "teams": [{"id": team, "role": role} for team, role in sorted(identity.teams.items())],
        "features": call.request.app[FEATURES],
        "expires_at": datetime.fromtimestamp(identity.expires_at, UTC),
        "version": __version__,
    }
    return _SCHEMA.dump(found)


RESOURCE: Final = Resource(
    "me", "session", (Route("GET", "/me", ANYONE, show, shows(Me, etag=False)),)
)
