"""Versions: what each publish kept, how two differ, and callers who get an older one again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import sql
from admin import publishing
from tests.admin.client import Fetch, Make, User

PATH = "/connectors/maps"
FOR_CALLERS = sql.query("directory.connector")
FIND = {"name": "find", "method": "GET", "path": "/find/:place"}
LIST = {"name": "list", "method": "GET", "path": "/list"}


async def published(user: User, note: str = "") -> int:
    """Publish; answers the version."""
    answer = await user.post(f"{PATH}/publish", {"note": note} if note else None)
    assert answer.status == 200, answer.text
    version: int = answer.json["publishedVersion"]
    return version


async def roll_back(user: User, version: int, **headers: str) -> Any:
    return await user.post(f"{PATH}/rollback", {"version": version}, **headers)


async def for_callers(fetch: Fetch) -> Any:
    (row,) = await fetch(FOR_CALLERS, "red", "maps")
    return row["snapshot"]


async def endpoints_of(user: User) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in await user.all(f"{PATH}/endpoints")}


async def test_list_tells_what_each_publish_was_about(
    user: Any, editor: User, viewer: User, make_connector: Make
) -> None:
    await make_connector()
    first = await published(editor, "To begin with")
    await editor.patch(PATH, {"description": "All maps", "tags": ["geo"]})
    await editor.post(f"{PATH}/endpoints", LIST)
    second = await published(user("editor", name="eve"))
    answer = await viewer.get(f"{PATH}/versions")

    assert answer.json["nextCursor"] is None
    newest, oldest = answer.json["items"]
    assert (newest["version"], newest["isCurrent"], newest["publishedBy"]) == (second, True, "eve")
    assert newest["summary"] == "Changed description, tags; added endpoint list."
    assert newest["publishedAt"].endswith("Z")
    assert newest["restored"] is None
    assert (oldest["version"], oldest["isCurrent"], oldest["note"]) == (
        first,
        False,
        "To begin with",
    )
    assert oldest["summary"] == "The first version."


async def test_note_of_a_publish_is_in_the_audit_log(
    editor: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    version = await published(editor, "To begin with")
    (row,) = await fetch("SELECT difference FROM audit_log WHERE action = 'connector.publish'")

    assert row["difference"] == {
        "status": ["draft", "published"],
        "publishedVersion": [None, version],
        "note": [None, "To begin with"],
    }


@pytest.mark.parametrize("body", [{"note": 1}, {"note": "x" * 1025}, {"other": 1}])
async def test_publish_takes_a_note_and_nothing_else(
    body: dict[str, Any], editor: User, make_connector: Make
) -> None:
    await make_connector()

    assert (await editor.post(f"{PATH}/publish", body)).status == 422
    assert (await editor.get(PATH)).json["status"] == "draft"


async def test_list_comes_in_pages(editor: User, make_connector: Make) -> None:
    await make_connector()
    made = []
    for number in range(5):
        await editor.patch(PATH, {"description": str(number)})
        made.append(await published(editor))

    assert [item["version"] for item in await editor.all(f"{PATH}/versions?limit=2")] == made[::-1]
    for query in ("limit=0", "cursor=x", "q=1"):
        assert (await editor.get(f"{PATH}/versions?{query}")).status == 422, query


async def test_version_is_told_as_it_was(editor: User, viewer: User, make_connector: Make) -> None:
    made = await make_connector(tags=["geo"])
    await editor.post(f"{PATH}/endpoints", {**LIST, "enabled": False})
    kept = await endpoints_of(editor)
    version = await published(editor)
    await editor.patch(PATH, {"displayName": "Other", "tags": []})
    for entry in kept.values():
        await editor.delete(f"{PATH}/endpoints/{entry['id']}")
    told = (await viewer.get(f"{PATH}/versions/{version}")).json

    settings = {name: value for name, value in made.items() if name in told["connector"]}
    assert told["connector"] == settings
    assert (told["connector"]["displayName"], told["connector"]["tags"]) == ("maps", ["geo"])
    assert {entry["name"]: entry["enabled"] for entry in told["endpoints"]} == {
        "find": True, "list": False,
    }  # fmt: skip
    for entry in told["endpoints"]:
        assert entry == {name: kept[entry["name"]][name] for name in entry}


@pytest.mark.parametrize("number", ["0", "-1", "99", "x", "99999999999", "1.0", "draft"])
async def test_unknown_version_is_not_found(
    number: str, editor: User, make_connector: Make
) -> None:
    await make_connector()
    await published(editor)

    assert (await editor.get(f"{PATH}/versions/{number}")).status == 404
    assert (await editor.get(f"{PATH}/versions/{number}/diff")).status == 404


async def test_difference_is_exact_and_goes_both_ways(editor: User, make_connector: Make) -> None:
    await make_connector(errorMapping={"404": "Nowhere"}, endpoints=[FIND, LIST])
    first = await published(editor)
    kept = await endpoints_of(editor)
    await editor.patch(PATH, {"defaultTimeout": 7, "errorMapping": {"500": "Broken"}})
    await editor.patch(f"{PATH}/endpoints/{kept['find']['id']}", {"name": "seek", "retries": 2})
    await editor.delete(f"{PATH}/endpoints/{kept['list']['id']}")
    made = (await editor.post(f"{PATH}/endpoints", {**LIST, "name": "all", "path": "/all"})).json
    draft = (await editor.get(f"{PATH}/versions/{first}/diff?against=draft")).json
    second = await published(editor)
    there = (await editor.get(f"{PATH}/versions/{first}/diff?against={second}")).json
    back = (await editor.get(f"{PATH}/versions/{second}/diff?against={first}")).json

    assert draft["against"] == "draft"
    assert (there["version"], there["against"]) == (first, second)
    assert there["items"] == draft["items"]
    found = {item["pointer"]: item for item in there["items"]}
    changed = {at: (item["op"], item["before"], item["after"]) for at, item in found.items()}
    assert changed.pop("/endpoints/all") == (
        "add",
        None,
        {name: made[name] for name in found["/endpoints/all"]["after"]},
    )
    assert changed.pop("/endpoints/list")[0] == "remove"
    assert changed == {
        "/defaultTimeout": ("replace", 30_000, 7),
        "/errorMapping/404": ("remove", "Nowhere", None),
        "/errorMapping/500": ("add", None, "Broken"),
        "/endpoints/find/name": ("replace", "find", "seek"),
        "/endpoints/find/retries": ("replace", 0, 2),
    }
    assert len(back["items"]) == len(there["items"])
    assert (await editor.get(f"{PATH}/versions/{second}/diff")).json["items"] == []


@pytest.mark.parametrize("query", ["against=", "against=x", "against=0", "other=1"])
async def test_difference_with_what_is_no_version_is_refused(
    query: str, editor: User, make_connector: Make
) -> None:
    await make_connector()
    version = await published(editor)

    assert (await editor.get(f"{PATH}/versions/{version}/diff?{query}")).status == 422
    assert (await editor.get(f"{PATH}/versions/{version}/diff?against=99")).status == 404


async def test_rollback_gives_callers_the_old_version_as_a_new_one(
    editor: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector(endpoints=[FIND, LIST])
    first = await published(editor)
    before, kept = await for_callers(fetch), await endpoints_of(editor)
    await editor.patch(PATH, {"defaultTimeout": 7})
    await editor.patch(f"{PATH}/endpoints/{kept['find']['id']}", {"path": "/list/:place"})
    await editor.delete(f"{PATH}/endpoints/{kept['list']['id']}")
    await editor.post(f"{PATH}/endpoints", {**LIST, "name": "all"})
    second = await published(editor)
    await editor.patch(PATH, {"description": "never published"})
    answer = await roll_back(editor, first)

    assert answer.status == 200, answer.text
    assert answer.version == answer.json["version"]
    assert answer.json["publishedVersion"] > second
    assert answer.json["hasUnpublishedChanges"] is False
    assert (answer.json["defaultTimeout"], answer.json["description"]) == (30_000, "")
    after = await for_callers(fetch)
    assert {**after, "endpoints": sorted(after["endpoints"], key=str)} == {
        **before,
        "endpoints": sorted(before["endpoints"], key=str),
    }
    versions = await editor.all(f"{PATH}/versions")
    assert [item["version"] for item in versions[1:]] == [second, first]
    assert (versions[0]["restored"], versions[0]["isCurrent"]) == (first, True)
    assert versions[0]["summary"] == f"Back to version {first}."


async def test_rolled_back_endpoints_keep_their_ids_and_no_old_tag_fits(
    editor: User, make_connector: Make
) -> None:
    await make_connector(endpoints=[FIND, LIST])
    version, kept = await published(editor), await endpoints_of(editor)
    find, gone = (f"{PATH}/endpoints/{kept[name]['id']}" for name in ("find", "list"))
    tags = {(await editor.get(at)).etag for at in (find, gone)}
    tags.add((await editor.patch(find, {"retries": 1})).etag)
    await editor.delete(gone)
    await published(editor)
    await roll_back(editor, version)

    now = await endpoints_of(editor)
    assert {name: entry["id"] for name, entry in now.items()} == {
        name: entry["id"] for name, entry in kept.items()
    }
    assert now["find"]["createdAt"] == kept["find"]["createdAt"]
    assert {(await editor.get(at)).etag for at in (find, gone)}.isdisjoint(tags)
    for tag in tags:
        assert (await editor.patch(find, {"retries": 2}, If_Match=tag)).status == 412


async def test_names_and_routes_that_changed_places_are_rolled_back(
    editor: User, make_connector: Make
) -> None:
    await make_connector(endpoints=[FIND, LIST])
    version, kept = await published(editor), await endpoints_of(editor)
    find, listed = (f"{PATH}/endpoints/{kept[name]['id']}" for name in ("find", "list"))
    await editor.patch(find, {"name": "aside", "path": "/aside/:place"})
    await editor.patch(listed, {"name": "find", "path": "/find/:place"})
    await editor.patch(find, {"name": "list", "path": "/list"})
    await published(editor)

    assert (await roll_back(editor, version)).status == 200
    assert {name: entry["id"] for name, entry in (await endpoints_of(editor)).items()} == {
        name: entry["id"] for name, entry in kept.items()
    }


async def test_rollback_to_what_is_there_is_nothing_new(editor: User, make_connector: Make) -> None:
    await make_connector()
    version = await published(editor)
    before = (await editor.get(PATH)).json

    assert (await roll_back(editor, version)).json == before


async def test_rollback_to_the_current_version_drops_the_draft(
    editor: User, make_connector: Make
) -> None:
    await make_connector()
    version = await published(editor)
    await editor.patch(PATH, {"defaultTimeout": 7})
    answer = (await roll_back(editor, version)).json

    assert (answer["defaultTimeout"], answer["hasUnpublishedChanges"]) == (30_000, False)


async def test_rollback_keeps_the_slug(editor: User, make_connector: Make) -> None:
    made = await make_connector()
    version = await published(editor)
    await editor.post(f"{PATH}/unpublish")
    await editor.patch(PATH, {"slug": "atlas"})
    await make_connector(slug="maps")
    path = f"/connectors/{made['id']}"
    answer = await editor.post(f"{path}/rollback", {"version": version})

    assert (answer.status, answer.json["slug"], answer.json["status"]) == (
        200,
        "atlas",
        "published",
    )


async def test_rollback_is_refused_like_a_publish(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector(authType="bearer", secrets={"token": "t"})
    version = await published(admin)
    await admin.patch(PATH, {"authType": "none", "description": "later"})
    await published(admin)
    await admin.delete(f"{PATH}/secrets/token")
    before, edited = await for_callers(fetch), (await admin.get(PATH)).json
    answer = await roll_back(admin, version)

    assert (answer.status, answer.json["code"]) == (409, "conflict")
    assert answer.pointers == ["/secrets/token"]
    assert await for_callers(fetch) == before
    assert (await admin.get(PATH)).json == edited


async def test_rollback_to_a_host_that_is_refused_now_is_refused(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    version = await published(admin)
    await fetch(
        "UPDATE connector_version SET snapshot = jsonb_set(snapshot,"
        " '{definition,upstream_base_url}', '\"http://10.0.0.1\"')"
    )
    answer = await roll_back(admin, version)

    assert (answer.status, answer.pointers) == (409, ["/upstreamBaseUrl"])


async def test_who_may_not_set_secrets_sends_them_nowhere_by_a_rollback(
    admin: User, editor: User, make_connector: Make
) -> None:
    await make_connector(authType="bearer", secrets={"token": "t"})
    version = await published(admin)
    moved = {"upstreamBaseUrl": "https://other.example.com", "allowedHosts": []}
    await admin.patch(PATH, moved)
    await admin.put(f"{PATH}/secrets", {"token": "for the other"})
    await published(admin)

    assert (await roll_back(editor, version)).status == 403
    assert (await roll_back(admin, version)).status == 200


@pytest.mark.parametrize("body", [{}, {"version": "1"}, {"version": 0}, {"version": 99}, {"v": 1}])
async def test_rollback_to_no_version_is_refused(
    body: dict[str, Any], editor: User, make_connector: Make
) -> None:
    await make_connector()
    await published(editor)

    assert (await editor.post(f"{PATH}/rollback", body)).status == 422


async def test_rollback_of_an_archived_connector_is_refused(
    admin: User, make_connector: Make
) -> None:
    made = await make_connector()
    version = await published(admin)
    await admin.delete(PATH)

    path = f"/connectors/{made['id']}"
    assert (await admin.post(f"{path}/rollback", {"version": version})).status == 409
    assert len((await admin.get(f"{path}/versions")).json["items"]) == 1


async def test_dry_run_of_a_rollback_changes_nothing(
    editor: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    version = await published(editor)
    await editor.patch(PATH, {"defaultTimeout": 7})
    await published(editor)
    before, rows = (await editor.get(PATH)).json, await fetch("SELECT id FROM audit_log")
    answer = await editor.post(f"{PATH}/rollback?dryRun=true", {"version": version})

    assert (answer.status, answer.json["defaultTimeout"]) == (200, 30_000)
    assert (await editor.get(PATH)).json == before
    assert await fetch("SELECT id FROM audit_log") == rows


async def test_every_act_of_a_rollback_is_in_the_audit_log(
    editor: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    version = await published(editor)
    await editor.patch(PATH, {"defaultTimeout": 7})
    await editor.post(f"{PATH}/endpoints", LIST)
    second = await published(editor)
    await fetch("DELETE FROM audit_log")
    third = (await roll_back(editor, version)).json["publishedVersion"]
    rows = await fetch("SELECT action, actor, difference FROM audit_log ORDER BY id")

    assert [row["action"] for row in rows] == [
        "endpoint.delete", "connector.update", "connector.rollback",
    ]  # fmt: skip
    assert {row["actor"] for row in rows} == {"ed"}
    assert rows[1]["difference"] == {"defaultTimeout": [7, 30_000]}
    assert rows[2]["difference"] == {
        "status": ["published", "published"],
        "publishedVersion": [second, third],
        "restored": [None, version],
    }


async def test_rollback_honours_if_match(editor: User, make_connector: Make) -> None:
    await make_connector()
    version = await published(editor)
    stale = (await editor.patch(PATH, {"defaultTimeout": 7})).etag
    current = (await editor.patch(PATH, {"defaultTimeout": 8})).etag

    assert (await roll_back(editor, version, If_Match=stale)).status == 412
    assert (await roll_back(editor, version, If_Match=current)).status == 200


async def test_of_two_rollbacks_with_one_tag_one_is_carried_out(
    editor: User, make_connector: Make
) -> None:
    await make_connector()
    version = await published(editor)
    tag = (await editor.patch(PATH, {"defaultTimeout": 7})).etag
    both = await asyncio.gather(*(roll_back(editor, version, If_Match=tag) for _ in range(2)))

    assert sorted(answer.status for answer in both) == [200, 412]


async def test_oldest_versions_go_and_the_current_one_stays(
    editor: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    first = await published(editor)
    await fetch(
        "INSERT INTO connector_version (connector_id, team_id, version, snapshot, published_by)"
        " SELECT connector_id, team_id, $1::integer + n, snapshot, 'ana'"
        " FROM connector_version, generate_series(1, $2::integer) AS n",
        first,
        publishing.MOST_VERSIONS - 1,
    )
    await fetch("UPDATE service_connector SET version = 500")
    assert len(await editor.all(f"{PATH}/versions")) == publishing.MOST_VERSIONS
    await editor.patch(PATH, {"defaultTimeout": 7})
    current = await published(editor)
    kept = [item["version"] for item in await editor.all(f"{PATH}/versions?limit=100")]

    assert (len(kept), kept[0]) == (publishing.MOST_VERSIONS, current)
    assert kept[-1] == first + 1
    assert await for_callers(fetch) is not None


async def test_purge_removes_the_versions(admin: User, make_connector: Make, fetch: Fetch) -> None:
    made = await make_connector()
    await published(admin)
    await admin.delete(PATH)
    await admin.delete(f"/connectors/{made['id']}?purge=true")

    assert await fetch("SELECT version FROM connector_version") == []


async def test_version_that_was_frozen_before_it_held_all_is_told(
    editor: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    version = await published(editor)
    await fetch(
        "UPDATE connector_version SET snapshot = snapshot - 'display_name' - 'tags' - 'disabled'"
    )

    assert (await editor.get(f"{PATH}/versions/{version}/diff")).json["items"] == []
