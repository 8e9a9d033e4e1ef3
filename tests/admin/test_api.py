"""The route table: each route answers those whom it is for, and takes no query that it does not know."""

from __future__ import annotations

from admin.access import ANYONE, EVERYONE
from admin.api import ROUTES
from gateway.identity.jwts import ROLES
from tests.admin.client import User, Users
from tests.admin.every_route import BODIES, Parts, body_of, path_of


def test_writes_have_a_body_here_or_need_none() -> None:
    bare = {"DELETE", "GET"}
    verbs = {"publish", "unpublish", "restore", "revoke", "end-grace"}

    missing = [
        route.path
        for route in ROUTES
        if route.method not in bare
        and route.path.rpartition("/")[2] not in verbs
        and (route.method, route.path) not in BODIES
    ]

    assert missing == []


async def test_role_of_the_route_is_enough(user: Users, parts: Parts) -> None:
    """Each route once, those that read first, those that remove last."""
    order = {"GET": 0, "PATCH": 1, "PUT": 2, "POST": 3, "DELETE": 4}
    routes = sorted(ROUTES, key=lambda route: (order[route.method], -len(route.path)))
    for route in routes:
        someone = user(route.role if route.role in ROLES else "viewer")
        answer = await someone.call(route.method, path_of(route, parts), body_of(route))
        assert answer.status != 403, (route, answer.text)
        assert answer.status < 500, (route, answer.text)


async def test_head_is_answered_where_get_is(admin: User, parts: Parts) -> None:
    for route in ROUTES:
        if route.method == "GET":
            answer = await admin.call("HEAD", path_of(route, parts))
            assert (answer.status, answer.text) == (200, ""), route


async def test_misspelt_dry_run_is_no_write(admin: User) -> None:
    answer = await admin.post("/plans?dryrun=true", {"name": "gold"})

    assert (answer.status, answer.pointers) == (422, ["/dryrun"])
    assert answer.json["errors"][0]["detail"] == 'Unknown parameter; did you mean "dryRun"?'
    assert [plan["name"] for plan in await admin.all("/plans")] == ["default"]


async def test_flag_is_true_or_false(admin: User) -> None:
    answer = await admin.post("/plans?dryRun=yes", {"name": "gold"})

    assert (answer.status, answer.pointers) == (422, ["/dryRun"])


def test_only_what_is_the_users_own_is_for_a_token_without_a_team() -> None:
    found = [f"{route.method} {route.path}" for route in ROUTES if route.role == ANYONE]

    assert found == ["GET /me", "DELETE /session"]


def test_only_the_way_in_is_for_everyone() -> None:
    found = [f"{route.method} {route.path}" for route in ROUTES if route.role == EVERYONE]

    assert found == ["POST /session"]
