"""The description of the API: whole, valid, true of what is answered, and open to everyone."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis.openapi
from aiohttp.test_utils import TestClient

from admin.access import EVERYONE
from admin.api import ROUTES
from admin.routes import Route
from gateway.identity.jwts import ROLES
from gateway.problems import KINDS
from tests.admin.client import BASE, User, Users, read
from tests.admin.described import DOCUMENT, faults
from tests.admin.every_route import Parts, body_of, path_of


def operations() -> list[tuple[Route, dict[str, Any]]]:
    return [(route, DOCUMENT["paths"][route.path][route.method.lower()]) for route in ROUTES]


def test_document_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_operations_have_ids_of_their_own_summaries_tags_and_roles() -> None:
    ids = [operation["operationId"] for _, operation in operations()]

    assert len(set(ids)) == len(ids)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    tags_used: set[str] = set()
    for route, operation in operations():
        assert operation["summary"].endswith("."), operation["operationId"]
        assert set(operation["tags"]) <= tags
        tags_used.update(operation["tags"])
        assert (f"`{route.role}`" in operation["description"]) is (route.role in ROLES)
        assert (operation["security"] == []) is (route.role == EVERYONE)
    assert tags_used == tags


def test_writes_can_be_tried_and_changes_can_be_guarded() -> None:
    for route, operation in operations():
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert ("dryRun" in names) is (route.method != "GET")
        assert route.operation.flags.keys() <= names
        assert "x-team-id" in names


def test_errors_are_described_with_their_codes() -> None:
    responses = DOCUMENT["components"]["responses"]
    for _, operation in operations():
        assert {"400", "401", "403", "500", "503"} <= operation["responses"].keys()
    for response in responses.values():
        (schema,) = [media["schema"] for media in response["content"].values()]
        assert set(schema["properties"]["code"]["enum"]) <= KINDS.keys()


def test_bodies_have_an_example() -> None:
    for route, operation in operations():
        if "requestBody" in operation:
            (content,) = operation["requestBody"]["content"].values()
            assert "example" in content, route


async def test_answers_are_as_described(user: Users, parts: Parts) -> None:
    """Each route once, those that read first, those that remove last."""
    order = {"GET": 0, "PATCH": 1, "PUT": 2, "POST": 3, "DELETE": 4}
    routes = sorted(ROUTES, key=lambda route: (order[route.method], -len(route.path)))
    found = []
    for route in routes:
        someone = user(route.role or "viewer")
        answer = await someone.call(route.method, path_of(route, parts), body_of(route))
        found += [f"{route.method} {route.path}: {fault}" for fault in faults(answer, route)]

    assert not found, "\n".join(found)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_examples_are_bodies_that_the_description_takes(route: Route) -> None:
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = {**content["schema"], "components": DOCUMENT["components"]}
        assert [*_faults_of(schema, content["example"])] == []


def _faults_of(schema: dict[str, Any], value: Any) -> Any:
    import jsonschema_rs  # noqa: PLC0415 - for this test alone

    return jsonschema_rs.Draft202012Validator(schema).iter_errors(value)


async def test_description_is_for_everyone(http: TestClient[Any, Any]) -> None:
    answer = await read(await http.get(f"{BASE}/openapi.json"))

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == DOCUMENT
    assert (await http.head(f"{BASE}/openapi.json")).status == 200


async def test_only_reading_is_for_everyone(http: TestClient[Any, Any], admin: User) -> None:
    assert (await http.post(f"{BASE}/openapi.json")).status == 401
    assert (await admin.post("/openapi.json")).status == 405
