"""Who the caller is: the user, the teams of the token, and the role in the one that was named."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from aiohttp import web
from marshmallow import fields

from admin.calls import Call, answer
from admin.fields import Instant, Wire
from gateway import __version__


class Membership(Wire):
    """A team of the token, and the role in it."""

    id = fields.String()
    role = fields.String()


class Me(Wire):
    """The caller. `team` and `role` are null when the token holds several teams and none is named."""

    user = fields.String()
    team = fields.String()
    role = fields.String()
    teams = fields.List(fields.Nested(Membership))
    expires_at = Instant()
    version = fields.String()


_SCHEMA: Final = Me()


async def show(call: Call) -> web.Response:
    """GET: who am I."""
    identity = call.identity
    found = {
        "user": identity.user,
        "team": call.team or None,
        "role": call.role or None,
        "teams": [{"id": team, "role": role} for team, role in sorted(identity.teams.items())],
        "expires_at": datetime.fromtimestamp(identity.expires_at, UTC),
        "version": __version__,
    }
    return answer(_SCHEMA.dump(found))
