"""Exports: everything of the team and nothing secret, the same each time."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import yamls
from tests.admin.client import BASE, Fetch, Make, User
from tests.gateway.bombs import alias_bomb

SEALED = "a-very-secret-value"


@pytest.fixture
async def furnished(admin: User, make_connector: Make) -> str:
    """A team with one of everything; answers the value of its key."""
    maps = await make_connector(
        tags=["geo"],
        authType="basic",
        secrets={"username": SEALED, "password": SEALED},
    )
    await admin.post("/connectors/maps/publish")
    daydream = await make_connector(
        slug="daydream",
        upstreamBaseUrl="https://api.daydream.live",
        authType="bearer",
        secrets={"token": "env:DAYDREAM_API_KEY"},
    )
    plan = {"name": "gold", "allowedConnectors": [maps["id"]]}
    made = (await admin.post("/plans", plan)).json
    key = {"name": "app", "planId": made["id"], "connectorIds": [daydream["id"], maps["id"]]}
    answer = await admin.post("/keys", key)
    revoked = (await admin.post("/keys", {"name": "old"})).json
    await admin.post(f"/keys/{revoked['id']}/revoke")
    return str(answer.json["key"])


async def test_export_has_everything_by_name_and_no_secret(viewer: User, furnished: str) -> None:
    answer = await viewer.get("/config/export")

    document = answer.json
    assert list(document) == ["format", "revision", "digest", "plans", "connectors", "keys"]
    assert (document["format"], document["revision"]) == (1, 1)
    assert answer.etag == f'"{document["digest"]}"'
    assert document["plans"] == [
        {"name": "default", "displayName": "Default"},
        {"name": "gold", "allowedConnectors": ["maps"]},
    ]
    daydream, maps = document["connectors"]
    assert daydream["secrets"] == {"token": "env:DAYDREAM_API_KEY"}
    assert daydream["published"] is False
    assert maps == {
        "slug": "maps",
        "tags": ["geo"],
        "upstreamBaseUrl": "https://maps.example.com/v2",
        "authType": "basic",
        "published": True,
        "secrets": {"password": None, "username": None},
        "endpoints": [{"name": "find", "method": "GET", "path": "/find/:place"}],
    }
    assert document["keys"] == [{"name": "app", "plan": "gold", "connectors": ["daydream", "maps"]}]
    assert SEALED not in answer.text
    assert furnished not in answer.text


async def test_export_is_the_same_until_something_changes(
    admin: User, viewer: User, furnished: str
) -> None:
    first = await viewer.get("/config/export")
    again = await viewer.get("/config/export")
    await admin.patch("/connectors/maps", {"description": "All maps"})
    changed = await viewer.get("/config/export")

    assert first.text == again.text
    assert changed.json["digest"] != first.json["digest"]


async def test_unpublished_edits_leave_open_whether_they_are_published(
    admin: User, viewer: User, furnished: str
) -> None:
    await admin.patch("/connectors/maps", {"description": "All maps"})

    _, maps = (await viewer.get("/config/export")).json["connectors"]
    assert "published" not in maps


async def test_tag_narrows_it_to_the_connectors_that_have_it(viewer: User, furnished: str) -> None:
    document = (await viewer.get("/config/export?tag=geo")).json

    assert list(document) == ["format", "revision", "digest", "tag", "connectors"]
    assert [entry["slug"] for entry in document["connectors"]] == ["maps"]
    assert (await viewer.get("/config/export?tag=none")).json["connectors"] == []


async def test_yaml_says_the_same(viewer: User, furnished: str) -> None:
    document = (await viewer.get("/config/export")).json
    headers = {"Authorization": f"Bearer {viewer.token}"}
    answer = await viewer.http.get(f"{BASE}/config/export?format=yaml", headers=headers)

    assert answer.content_type == "application/yaml"
    assert yamls.parse(await answer.text()) == document


async def test_keys_of_one_name_have_their_prefixes(admin: User, viewer: User) -> None:
    made = [(await admin.post("/keys", {"name": "app"})).json["keyPrefix"] for _ in range(2)]

    exported = (await viewer.get("/config/export")).json["keys"]
    assert exported == [{"name": "app", "keyPrefix": prefix} for prefix in sorted(made)]


async def test_other_teams_see_nothing_of_it(stranger: User, furnished: str) -> None:
    document = (await stranger.get("/config/export")).json

    assert (document["plans"], document["connectors"], document["keys"]) == ([], [], [])


@pytest.mark.parametrize("query", ["tags=geo", "format=toml", "tag="])
async def test_query_that_means_nothing_is_refused(query: str, viewer: User) -> None:
    answer = await viewer.get(f"/config/export?{query}")

    assert answer.status == 422


async def test_ids_that_are_nobodys_any_more_stay(
    admin: User, viewer: User, furnished: str, fetch: Fetch
) -> None:
    (row,) = await fetch("SELECT id FROM service_connector WHERE slug = 'maps'")
    await admin.delete("/connectors/maps")
    exported: Any = await viewer.get("/config/export")

    assert exported.json["plans"][1]["allowedConnectors"] == [str(row["id"])]
    again = await admin.post("/config/apply?dryRun=true", exported.json)
    assert again.json["changes"] == []


async def test_aliases_of_aliases_are_refused_at_once(admin: User) -> None:
    headers = {"Authorization": f"Bearer {admin.token}", "Content-Type": "application/yaml"}
    text = alias_bomb() + "\nconnectors: *a6"
    answer = await admin.http.post(f"{BASE}/config/apply", data=text, headers=headers)

    assert answer.status == 400
    assert "aliases repeat more than" in await answer.text()
