"""The route table: who gets nowhere, whatever the route, and that two teams never meet."""

from __future__ import annotations

import re
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from admin.access import ANYONE, allows
from admin.api import ROUTES, Route
from gateway import keys
from gateway.ids import uuid7
from gateway.tokens import ROLES
from tests.admin.client import BASE, Answer, User, Users, read
from tests.admin.every_route import BODIES, Parts, body_of, path_of

OF_NO_TEAM = {"template"}


def names_objects(route: Route) -> bool:
    return bool(set(re.findall(r"\{(\w+)\}", route.path)) - OF_NO_TEAM)


async def try_all(user: User, parts: Parts) -> dict[str, int]:
    """The status that each route answers."""
    found = {}
    for route in ROUTES:
        answer = await user.call(route.method, path_of(route, parts), body_of(route))
        found[f"{route.method} {route.path}"] = answer.status
    return found


def without_id(answer: Answer) -> Any:
    return {name: value for name, value in answer.json.items() if name != "requestId"}


def test_writes_have_a_body_here_or_need_none() -> None:
    bare = {"DELETE", "GET"}
    verbs = {"publish", "unpublish", "restore", "revoke"}

    missing = [
        route.path
        for route in ROUTES
        if route.method not in bare
        and route.path.rpartition("/")[2] not in verbs
        and (route.method, route.path) not in BODIES
    ]

    assert missing == []


async def test_nothing_is_answered_without_a_token(
    http: TestClient[Any, Any], parts: Parts
) -> None:
    for route in ROUTES:
        response = await http.request(
            route.method, BASE + path_of(route, parts), json=body_of(route)
        )
        answer = await read(response)
        assert answer.status == 401, route
        assert answer.json["code"] == "unauthenticated"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_gateway_keys_open_no_route(
    http: TestClient[Any, Any], admin: User, parts: Parts
) -> None:
    made = (await admin.post("/keys", {"name": "a real one"})).json["key"]

    for key in (made, keys.make().value):
        assert set((await try_all(User(http, key, "red"), parts)).values()) == {401}


async def test_token_of_another_team_opens_no_route(
    http: TestClient[Any, Any], stranger: User, parts: Parts
) -> None:
    intruder = User(http, stranger.token, "red")

    assert set((await try_all(intruder, parts)).values()) == {403}


async def test_other_teams_objects_are_answered_as_unknown_ones(
    stranger: User, parts: Parts
) -> None:
    unknown = {name: str(uuid7()) for name in parts} | {"name": "token"}
    for route in filter(names_objects, ROUTES):
        foreign = await stranger.call(route.method, path_of(route, parts), body_of(route))
        nothing = await stranger.call(route.method, path_of(route, unknown), body_of(route))
        assert foreign.status == 404, (route, foreign.text)
        assert without_id(foreign) == without_id(nothing), route


async def test_other_teams_slug_is_an_unknown_one(stranger: User, parts: Parts) -> None:
    assert (await stranger.get("/connectors/maps")).status == 404


async def test_lists_hold_ones_own_team_alone(stranger: User, parts: Parts) -> None:
    for path in ("/connectors", "/keys", "/plans", "/connectors?q=maps", "/keys?status=active"):
        assert (await stranger.get(path)).json["items"] == [], path
    assert (await stranger.get("/usage/summary")).json["totalRequests"] == 0


@pytest.mark.parametrize("role", ROLES)
async def test_role_below_the_routes_is_refused(role: str, user: Users, parts: Parts) -> None:
    someone = user(role)
    for route in ROUTES:
        if not allows(role, route.role):
            answer = await someone.call(route.method, path_of(route, parts), body_of(route))
            assert answer.status == 403, route
            assert route.role in answer.json["detail"]


async def test_role_of_the_route_is_enough(user: Users, parts: Parts) -> None:
    """Each route once, those that read first, those that remove last."""
    order = {"GET": 0, "PATCH": 1, "PUT": 2, "POST": 3, "DELETE": 4}
    routes = sorted(ROUTES, key=lambda route: (order[route.method], -len(route.path)))
    for route in routes:
        someone = user(route.role or "viewer")
        answer = await someone.call(route.method, path_of(route, parts), body_of(route))
        assert answer.status != 403, (route, answer.text)
        assert answer.status < 500, (route, answer.text)


async def test_head_is_answered_where_get_is(viewer: User, parts: Parts) -> None:
    for route in ROUTES:
        if route.method == "GET":
            answer = await viewer.call("HEAD", path_of(route, parts))
            assert (answer.status, answer.text) == (200, ""), route


async def test_misspelt_dry_run_is_no_write(admin: User) -> None:
    answer = await admin.post("/plans?dryrun=true", {"name": "gold"})

    assert (answer.status, answer.pointers) == (422, ["/dryrun"])
    assert (await admin.get("/plans")).json["items"] == []


async def test_flag_is_true_or_false(admin: User) -> None:
    answer = await admin.post("/plans?dryRun=yes", {"name": "gold"})

    assert (answer.status, answer.pointers) == (422, ["/dryRun"])


def test_only_me_is_for_a_token_without_a_team() -> None:
    assert [route.path for route in ROUTES if route.role == ANYONE] == ["/me"]
