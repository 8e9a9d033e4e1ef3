"""What a body names by id or slug: stored as ids, and the same refusal for unknown and foreign."""

from __future__ import annotations

import pytest

from gateway.ids import uuid7
from tests.admin.client import Make, User


async def test_ids_and_slugs_become_ids_once(admin: User, make_connector: Make) -> None:
    maps = await make_connector()
    other = await make_connector(slug="other")
    named = ["maps", other["id"].upper(), maps["id"]]
    made = await admin.post("/keys", {"name": "app", "connectorIds": named})

    assert made.json["connectorIds"] == [maps["id"], other["id"]]


@pytest.mark.parametrize("kind", ["unknown id", "unknown slug", "foreign id", "foreign slug"])
async def test_others_are_refused_with_one_text(
    kind: str, admin: User, stranger: User, make_connector: Make
) -> None:
    foreign = await make_connector(by=stranger, slug="theirs")
    await make_connector()
    named = {
        "unknown id": str(uuid7()),
        "unknown slug": "nowhere",
        "foreign id": foreign["id"],
        "foreign slug": "theirs",
    }[kind]

    for path, body, pointer in (
        ("/keys", {"name": "a", "connectorId": named}, "/connectorId"),
        ("/keys", {"name": "a", "connectorIds": ["maps", named]}, "/connectorIds/1"),
        ("/plans", {"name": "a", "allowedConnectors": [named]}, "/allowedConnectors/0"),
    ):
        answer = await admin.post(path, body)
        assert (answer.status, answer.pointers) == (422, [pointer])
        assert answer.json["errors"][0]["detail"] == "The team has no such connector."


async def test_archived_connector_is_named_by_its_id_alone(
    admin: User, make_connector: Make
) -> None:
    made = await make_connector()
    await admin.delete(f"/connectors/{made['id']}")

    assert (await admin.post("/keys", {"name": "a", "connectorId": "maps"})).status == 422
    assert (await admin.post("/keys", {"name": "a", "connectorId": made["id"]})).status == 201


async def test_foreign_plan_is_an_unknown_one(admin: User, stranger: User) -> None:
    foreign = (await stranger.post("/plans", {"name": "gold"})).json["id"]
    for plan in (foreign, str(uuid7()), "gold", ""):
        answer = await admin.post("/keys", {"name": "a", "planId": plan})
        assert (answer.status, answer.pointers) == (422, ["/planId"])
        assert answer.json["errors"][0]["detail"] == "The team has no such plan."


async def test_purged_connector_leaves_the_key_restricted(
    admin: User, make_connector: Make
) -> None:
    """An empty list would mean every connector: the id of what is gone stays."""
    made = await make_connector()
    key = (await admin.post("/keys", {"name": "a", "connectorId": "maps"})).json
    await admin.delete("/connectors/maps")
    await admin.delete(f"/connectors/{made['id']}?purge=true")
    renamed = await admin.patch(f"/keys/{key['id']}", {"name": "b"})

    assert (renamed.status, renamed.json["connectorIds"]) == (200, [made["id"]])
