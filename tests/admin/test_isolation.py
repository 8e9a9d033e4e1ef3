"""Two teams never meet: every route of the table, in every way to ask for what is not one's own.

Each way is refused, tells nothing apart, and leaves every row of the database as it was. A route
that is not in NAMING fails: it says how else than by its path a request can name an object.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pytest
from aiohttp.test_utils import TestClient

from admin.access import EVERYONE, allows
from admin.api import ROUTES
from admin.routes import Route
from gateway.identity import keys
from gateway.identity.jwts import ROLES
from gateway.ids import uuid7
from tests.admin.client import BASE, Answer, Fetch, Tokened, User, Users, read
from tests.admin.every_route import Parts, body_of, path_of

SHARED: Final = {"name", "template", "version"}
"""Parts of paths that are no ids: other teams have the same."""
EXPLAINED: Final = {"path": "/find/x", "caller": {"user": "ana"}}
CONNECTOR: Final = {"slug": "mine", "upstreamBaseUrl": "https://mine.example.com"}

Asked = tuple[str, Any]
"""What follows the path, and the body."""
Naming = Callable[[Parts], Asked]


def query(name: str, part: str) -> Naming:
    return lambda parts: (f"?{name}={parts[part]}", None)


def body(fields: Callable[[Parts], dict[str, Any]], **others: Any) -> Naming:
    return lambda parts: ("", {**others, **fields(parts)})


KEY_NAMES: Final = (
    body(lambda parts: {"name": "k", "connectorId": parts["connector"]}),
    body(lambda parts: {"name": "k", "connectorIds": [parts["own"], parts["connector"]]}),
    body(lambda parts: {"name": "k", "connectorId": parts["slug"]}),
    body(lambda parts: {"name": "k", "planId": parts["plan"]}),
    body(lambda parts: {"name": "k", "allowedEndpoints": [parts["endpoint"]]}),
)
PLAN_NAMES: Final = (
    body(lambda parts: {"name": "p", "allowedConnectors": [parts["connector"]]}),
    body(lambda parts: {"name": "p", "allowedConnectors": [parts["slug"]]}),
)
USAGE_NAMES: Final = (
    query("connectorId", "connector"),
    query("connectorId", "slug"),
    query("keyId", "key"),
)

NAMING: Final[Mapping[str, tuple[Naming, ...]]] = {
    "GET /connectors": (query("q", "slug"),),
    "POST /connectors": (),
    "GET /connectors/{connector}": (),
    "PUT /connectors/{connector}": (),
    "PATCH /connectors/{connector}": (),
    "DELETE /connectors/{connector}": (),
    "POST /connectors/{connector}/publish": (),
    "POST /connectors/{connector}/unpublish": (),
    "POST /connectors/{connector}/restore": (),
    "POST /connectors/test": (
        body(lambda parts: {"secretsOf": parts["connector"]}, **CONNECTOR),
        body(lambda parts: {"secretsOf": parts["slug"]}, **CONNECTOR),
    ),
    "POST /connectors/{connector}/test": (body(lambda parts: {"endpoint": parts["endpoint"]}),),
    "GET /connectors/{connector}/versions": (),
    "GET /connectors/{connector}/versions/{version}": (),
    "GET /connectors/{connector}/versions/{version}/diff": (),
    "POST /connectors/{connector}/rollback": (),
    "GET /connectors/{connector}/openapi": (),
    "GET /connectors/{connector}/endpoints": (),
    "POST /connectors/{connector}/endpoints": (),
    "GET /connectors/{connector}/endpoints/{endpoint}": (),
    "PUT /connectors/{connector}/endpoints/{endpoint}": (),
    "PATCH /connectors/{connector}/endpoints/{endpoint}": (),
    "DELETE /connectors/{connector}/endpoints/{endpoint}": (),
    "GET /connectors/{connector}/template": (),
    "GET /connectors/{connector}/secrets": (),
    "PUT /connectors/{connector}/secrets": (),
    "DELETE /connectors/{connector}/secrets/{name}": (),
    "GET /keys": (
        query("connectorId", "connector"),
        query("connectorId", "slug"),
        query("planId", "plan"),
        query("q", "key"),
    ),
    "POST /keys": KEY_NAMES,
    "GET /keys/{key}": (),
    "PATCH /keys/{key}": KEY_NAMES,
    "DELETE /keys/{key}": (),
    "POST /keys/{key}/rotate": (),
    "POST /keys/{key}/end-grace": (),
    "POST /keys/{key}/revoke": (),
    "GET /plans": (query("q", "plan"),),
    "POST /plans": PLAN_NAMES,
    "GET /plans/{plan}": (),
    "PUT /plans/{plan}": PLAN_NAMES,
    "PATCH /plans/{plan}": PLAN_NAMES,
    "DELETE /plans/{plan}": (query("replacement", "plan"),),
    "GET /templates": (),
    "POST /templates": (),
    "GET /templates/{template}": (),
    "GET /usage/summary": (),
    "GET /usage/timeseries": USAGE_NAMES,
    "GET /usage/records": (*USAGE_NAMES, query("requestId", "request")),
    "GET /usage/records/{request}": (),
    "GET /audit": (query("objectId", "connector"), query("q", "key"), query("actor", "actor")),
    "GET /audit/export": (query("objectId", "connector"), query("q", "key")),
    "GET /health": (query("q", "slug"),),
    "GET /health/{connector}": (),
    "POST /health/check": (
        body(lambda parts: {"connector": parts["connector"]}),
        body(lambda parts: {"connector": parts["slug"]}),
    ),
    "GET /me": (),
    "GET /config/export": (),
    "POST /config/apply": (
        body(lambda parts: {"keys": [{"name": "k", "connectors": [parts["slug"]]}]}),
        body(lambda parts: {"keys": [{"name": "k", "connectors": [parts["connector"]]}]}),
        body(lambda parts: {"keys": [{"name": "k", "allowedEndpoints": [parts["endpoint"]]}]}),
    ),
    "POST /import/openapi": (),
    "POST /explain": (
        body(lambda parts: {"connector": parts["connector"]}, **EXPLAINED),
        body(lambda parts: {"connector": parts["slug"]}, **EXPLAINED),
        body(
            lambda parts: {"caller": {"key": parts["key"]}},
            connector="maps",
            path="/find/x",
        ),
    ),
    "POST /session": (),
    "DELETE /session": (),
}


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def parts_of(route: Route) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", route.path))


def ids_of(route: Route) -> list[str]:
    return sorted(parts_of(route) - SHARED)


def unknown_for(parts: Parts) -> Parts:
    """Names of nothing, of the same kinds."""
    return {name: text if name in SHARED else str(uuid7()) for name, text in parts.items()}


@pytest.fixture
async def digest(fetch: Fetch) -> Callable[[], Any]:
    """What every table holds, so that any change shows."""
    rows = await fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'plugin_service_gateway'"
    )

    async def of_all() -> dict[str, Any]:
        found = {}
        for name in (row["tablename"] for row in rows):
            (row,) = await fetch(
                f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} AS t"  # noqa: S608 - the catalogue's own names
            )
            found[name] = (row["count"], row["md5"])
        return found

    return of_all


async def ask(user: User, route: Route, parts: Parts) -> Answer:
    return await user.call(route.method, path_of(route, parts), body_of(route))


def told(answer: Answer, parts: Parts) -> Any:
    """An answer without what is this request's alone: its id, and the names that it gave."""
    text = answer.text
    for name, value in parts.items():
        if name not in SHARED and name != "own":
            text = text.replace(value, "…")
    text = re.sub(r'"(?:requestId|from|to|start)":"[^"]*"', "", text)
    return answer.status, text


def test_every_route_says_what_it_names() -> None:
    assert set(NAMING) == {name_of(route) for route in ROUTES}


async def test_nothing_is_answered_without_a_token(
    http: TestClient[Any, Any], parts: Parts, digest: Any
) -> None:
    before = await digest()
    for route in ROUTES:
        path = BASE + path_of(route, parts)
        answer = await read(await http.request(route.method, path, json=body_of(route)))
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated"), route
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert await digest() == before


async def test_gateway_keys_open_no_route(
    http: TestClient[Any, Any], admin: User, parts: Parts, digest: Any
) -> None:
    made = (await admin.post("/keys", {"name": "a real one"})).json["key"]
    before = await digest()
    for key in (made, keys.make().value):
        for route in ROUTES:
            assert (await ask(User(http, key, "red"), route, parts)).status == 401, route
            answer = await read(
                await http.request(
                    route.method,
                    BASE + path_of(route, parts),
                    json=body_of(route),
                    headers={"X-API-Key": key, "x-team-id": "red"},
                )
            )
            assert answer.status == 401, route
    assert await digest() == before


async def test_token_of_another_team_opens_no_route(
    http: TestClient[Any, Any], stranger: User, parts: Parts, digest: Any
) -> None:
    before = await digest()
    refusals = set()
    for route in ROUTES:
        answer = await ask(User(http, stranger.token, "red"), route, parts)
        assert answer.status == (401 if route.role == EVERYONE else 403), route
        refusals.add(answer.json["detail"])
    # A team that there is and one that there isn't are refused alike.
    nowhere = await User(http, stranger.token, "nowhere").get("/plans")
    assert nowhere.json["detail"] in refusals
    assert await digest() == before


async def test_other_teams_objects_are_answered_as_unknown_ones(
    stranger: User, parts: Parts, digest: Any
) -> None:
    unknown, before = unknown_for(parts), await digest()
    for route in filter(ids_of, ROUTES):
        foreign, nothing = await ask(stranger, route, parts), await ask(stranger, route, unknown)
        assert foreign.status == 404, (route, foreign.text)
        assert told(foreign, parts) == told(nothing, unknown), route
    assert await digest() == before


async def test_other_teams_object_below_ones_own_is_an_unknown_one(
    admin: User, parts: Parts, foreign_parts: Parts, digest: Any
) -> None:
    """Each id of a path alone is another team's; the others are one's own."""
    unknown, before = unknown_for(parts), await digest()
    tried = 0
    for route in ROUTES:
        for part in ids_of(route) if len(ids_of(route)) > 1 else []:
            mixed = {**parts, part: foreign_parts[part]}
            foreign = await ask(admin, route, mixed)
            nothing = await ask(admin, route, {**parts, part: unknown[part]})
            assert foreign.status == 404, (route, foreign.text)
            assert told(foreign, mixed) == told(nothing, {**parts, part: unknown[part]}), route
            tried += 1
    assert tried
    assert await digest() == before


async def test_other_teams_slug_is_an_unknown_one(
    stranger: User, parts: Parts, digest: Any
) -> None:
    before = await digest()
    for route in ROUTES:
        if "connector" in parts_of(route):
            foreign = await ask(stranger, route, {**parts, "connector": "maps"})
            nothing = await ask(stranger, route, {**parts, "connector": "none"})
            assert foreign.status == 404, route
            assert told(foreign, {}) == told(nothing, {}), route
    assert await digest() == before


def namings() -> Iterator[tuple[str, int]]:
    for name, ways in NAMING.items():
        yield from ((name, number) for number in range(len(ways)))


@pytest.mark.parametrize(("name", "number"), list(namings()))
async def test_what_a_request_names_is_looked_for_in_its_own_team(
    name: str,
    number: int,
    admin: User,
    parts: Parts,
    foreign_parts: Parts,
    digest: Any,
) -> None:
    """In a body or a query another team's object is what an unknown one is: refused, or nothing."""
    (route,) = (route for route in ROUTES if name_of(route) == name)
    theirs = {**foreign_parts, "slug": "atlas", "actor": "sam", "own": parts["connector"]}
    unknown = {**unknown_for(foreign_parts), "slug": "none", "actor": "nil", "own": theirs["own"]}
    before = await digest()

    async def named(names: Parts) -> Answer:
        rest, given = NAMING[name][number](names)
        return await admin.call(route.method, path_of(route, parts) + rest, given)

    foreign, nothing = await named(theirs), await named(unknown)

    assert told(foreign, theirs) == told(nothing, unknown)
    if foreign.status == 200:
        assert "atlas" not in told(foreign, theirs)[1]
        items = foreign.json.get("items", []) if foreign.json is not None else []
        assert [item for item in items if item.get("requests") != 0] == []
    else:
        assert foreign.status in {404, 422}, foreign.text
    assert await digest() == before


async def test_lists_hold_ones_own_team_alone(stranger: User, parts: Parts) -> None:
    for route in ROUTES:
        if route.method == "GET" and not parts_of(route) and route.path != "/me":
            answer = await stranger.get(route.path)
            assert answer.status == 200, route
            for text in ("maps", '"ana"', parts["connector"], parts["key"], parts["request"]):
                assert text not in answer.text, route
    assert (await stranger.get("/usage/summary")).json["totalRequests"] == 0


async def test_cursor_leads_into_ones_own_team_alone(
    admin: User, stranger: User, parts: Parts, foreign_parts: Parts
) -> None:
    for path in ("/audit", "/plans", "/plans?sort=name"):
        joint = "&" if "?" in path else "?"
        cursor = (await admin.get(f"{path}{joint}limit=1")).json["nextCursor"]
        answer = await stranger.get(f"{path}{joint}cursor={cursor}")
        own = {item["id"] for item in await stranger.all(path)}
        assert {item["id"] for item in answer.json["items"]} <= own, path


async def test_slug_that_another_team_has_is_free(stranger: User, parts: Parts) -> None:
    made = await stranger.post("/connectors", {**CONNECTOR, "slug": "maps"})

    assert made.status == 201


@pytest.mark.parametrize("role", ROLES)
async def test_role_below_the_routes_is_refused(
    role: str, user: Users, parts: Parts, digest: Any
) -> None:
    someone, before = user(role), await digest()
    for route in ROUTES:
        if not allows(role, route.role):
            answer = await ask(someone, route, parts)
            assert (answer.status, answer.json["code"]) == (403, "forbidden"), route
            assert route.role in answer.json["detail"]
    assert await digest() == before


async def test_role_in_one_team_is_none_in_another(
    http: TestClient[Any, Any], token: Tokened, parts: Parts, digest: Any
) -> None:
    """An admin elsewhere who may read here writes nothing here."""
    both, before = User(http, token({"red": "viewer", "blue": "admin"}), "red"), await digest()
    for route in ROUTES:
        if not allows("viewer", route.role):
            assert (await ask(both, route, parts)).status == 403, route
    assert await digest() == before


async def test_what_there_is_differs_by_path_alone_for_those_who_are_refused(
    http: TestClient[Any, Any], user: Users, stranger: User, parts: Parts
) -> None:
    """Neither a wrong team nor a low role learns whether an object is there."""
    unknown = unknown_for(parts)
    for who in (User(http, stranger.token, "red"), user("viewer"), User(http, "x", "red")):
        for route in filter(ids_of, ROUTES):
            there, nothing = await ask(who, route, parts), await ask(who, route, unknown)
            if there.status in {401, 403}:
                assert told(there, parts) == told(nothing, unknown), route
