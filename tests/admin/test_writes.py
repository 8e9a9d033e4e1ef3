"""Writes: all or nothing, and nothing at all in a dry run."""

from __future__ import annotations

from typing import Any

import pytest

from admin.api import ROUTES
from tests.admin.client import Fetch, User
from tests.admin.every_route import Parts, body_of, path_of

TABLES = (
    "audit_log", "connector_endpoint", "connector_secret", "connector_version", "gateway_api_key",
    "admin_session", "applied_document", "gateway_plan", "service_connector",
)  # fmt: skip


@pytest.fixture
def contents(fetch: Fetch) -> Any:
    """Everything in the database that a write could change."""

    async def read() -> list[str]:
        rows = []
        for table in TABLES:
            rows += [str(row) for row in await fetch(f"TABLE {table}")]
        return sorted(rows)

    return read


async def test_dry_run_answers_as_usual_and_changes_nothing(
    admin: User, parts: Parts, contents: Any
) -> None:
    await admin.post(f"/connectors/{parts['connector']}/unpublish")
    before = await contents()
    complete = {
        "/connectors/{connector}/rollback": {"version": int(parts["version"])},
        "/connectors/{connector}/test": {"endpoint": "find", "path": "/find/x"},
        "/session": {"token": admin.token},
    }
    for route in ROUTES:
        if route.method != "GET":
            path = f"{path_of(route, parts)}?dryRun=true"
            answer = await admin.call(route.method, path, complete.get(route.path, body_of(route)))
            assert answer.status in {200, 201, 204}, (route, answer.text)
            assert await contents() == before, route


async def test_dry_run_of_the_end_changes_nothing(admin: User, parts: Parts, contents: Any) -> None:
    path = f"/connectors/{parts['connector']}"
    await admin.delete(path)
    before = await contents()

    assert (await admin.post(f"{path}/restore?dryRun=true")).json["status"] == "draft"
    assert (await admin.delete(f"{path}?purge=true&dryRun=true")).status == 204
    assert await contents() == before


async def test_dry_run_shows_what_would_be(admin: User, parts: Parts) -> None:
    path = f"/connectors/{parts['connector']}"
    answer = await admin.patch(f"{path}?dryRun=true", {"category": "geo"})

    assert (answer.json["category"], answer.version) == ("geo", 3)
    assert (await admin.get(path)).json["category"] == ""


async def test_dry_run_gives_no_value_of_a_key(admin: User, parts: Parts) -> None:
    made = await admin.post("/keys?dryRun=true", {"name": "app"})
    rotated = await admin.post(f"/keys/{parts['key']}/rotate?dryRun=true")

    assert (made.status, rotated.status) == (201, 200)
    assert "key" not in made.json
    assert "key" not in rotated.json


async def test_dry_run_tells_the_same_conflict(admin: User, parts: Parts) -> None:
    answer = await admin.post("/plans?dryRun=true", {"name": "gold"})

    assert (answer.status, answer.pointers) == (409, ["/name"])


async def test_create_is_all_or_nothing(admin: User, contents: Any) -> None:
    body = {
        "slug": "maps",
        "upstreamBaseUrl": "https://a.example.com",
        "authType": "bearer",
        "endpoints": [{"name": "a", "method": "GET", "path": "/a"}],
        "secrets": {"token": "t", "other": "x"},
    }
    answer = await admin.post("/connectors", body)

    assert (answer.status, answer.pointers) == (422, ["/secrets/other"])
    assert await contents() == []
