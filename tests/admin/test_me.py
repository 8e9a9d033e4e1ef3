"""Who am I: for any valid token, whatever its teams."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp.test_utils import TestClient

from gateway import __version__
from tests.admin.client import BASE, Tokened, User, read


async def test_caller_is_told_in_the_named_team(http: TestClient[Any, Any], token: Tokened) -> None:
    both = token({"red": "viewer", "blue": "admin"}, user="ana")
    found = (await User(http, both, "red").get("/me")).json

    assert datetime.fromisoformat(found.pop("expiresAt")).tzinfo is not None
    assert {"connectors", "keys", "plans", "usage"} <= set(found.pop("features"))
    assert found == {
        "user": "ana",
        "team": "red",
        "role": "viewer",
        "teams": [{"id": "blue", "role": "admin"}, {"id": "red", "role": "viewer"}],
        "version": __version__,
    }


async def test_caller_may_choose_a_team_first(http: TestClient[Any, Any], token: Tokened) -> None:
    for teams, team in (({"a": "viewer", "b": "viewer"}, None), ({}, None), ({"a": "admin"}, "a")):
        headers = {"Authorization": f"Bearer {token(teams)}"}
        found = (await read(await http.get(BASE + "/me", headers=headers))).json
        assert found["team"] == team
        assert len(found["teams"]) == len(teams)


async def test_team_that_the_token_has_not_is_refused(
    http: TestClient[Any, Any], token: Tokened
) -> None:
    assert (await User(http, token({"red": "admin"}), "blue").get("/me")).status == 403
