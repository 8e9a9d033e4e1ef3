"""Applying documents: all of it or nothing, nothing where nothing differs, and never backwards."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from tests.admin.client import Answer, Fetch, Make, User, Users

FIND = {"name": "find", "method": "GET", "path": "/find/:place"}
MAPS = {
    "slug": "maps",
    "upstreamBaseUrl": "https://maps.example.com/v2",
    "endpoints": [FIND],
}
BEARER = {
    "slug": "daydream",
    "upstreamBaseUrl": "https://api.daydream.live",
    "authType": "bearer",
    "endpoints": [FIND],
}
GOLD = {"name": "gold", "rateLimit": 1000, "allowedConnectors": ["maps"]}
APP = {"name": "app", "plan": "gold", "connectors": ["maps"], "allowedEndpoints": ["find"]}
ALL = {"plans": [GOLD], "connectors": [{**MAPS, "published": True}], "keys": [APP]}
TABLES = (
    "applied_document", "audit_log", "connector_endpoint", "connector_secret", "connector_version",
    "gateway_api_key", "gateway_plan", "service_connector",
)  # fmt: skip


async def contents(fetch: Fetch) -> list[str]:
    rows = []
    for table in TABLES:
        rows += [str(row) for row in await fetch(f"TABLE {table}")]
    return sorted(rows)


async def apply(user: User, document: Any, flags: str = "", **headers: str) -> Answer:
    return await user.post(f"/config/apply?{flags}", document, **headers)


async def applied(user: User, document: Any, flags: str = "") -> Any:
    answer = await apply(user, document, flags)
    assert answer.status == 200, answer.text
    return answer.json


def said(changes: list[dict[str, Any]]) -> list[str]:
    return [f"{change['action']} {change['kind']} {change['name']}" for change in changes]


async def test_document_makes_everything_that_it_says(admin: User) -> None:
    done = await applied(admin, ALL)

    assert said(done["changes"]) == [
        "create connector maps",
        "create endpoint find",
        "create plan gold",
        "create key app",
    ]
    connector = (await admin.get("/connectors/maps")).json
    (key,) = (await admin.get("/keys")).json["items"]
    plan = (await admin.get(f"/plans/{key['planId']}")).json
    assert (connector["status"], connector["hasUnpublishedChanges"]) == ("published", False)
    assert (plan["name"], plan["allowedConnectors"]) == ("gold", [connector["id"]])
    assert (key["name"], key["connectorIds"]) == ("app", [connector["id"]])
    (new,) = done["keys"]
    assert new["key"].startswith(new["keyPrefix"])
    assert new["keyPrefix"] == key["keyPrefix"]


async def test_same_document_again_changes_nothing(
    admin: User, fetch: Fetch, database: Any
) -> None:
    document = {**ALL, "revision": 3}
    await applied(admin, document)
    before = await contents(fetch)
    listener = await asyncpg.connect(database.dsn)
    heard: list[Any] = []
    await listener.add_listener("plugin_service_gateway", lambda *event: heard.append(event[3]))

    done = await applied(admin, document)

    assert (done["changes"], done["left"], done["keys"], done["revision"]) == ([], [], [], 3)
    assert await contents(fetch) == before
    await listener.execute("NOTIFY plugin_service_gateway, 'the last'")
    await listener.fetchval("SELECT 1")
    assert heard == ["the last"]
    await listener.close()


async def test_dry_run_tells_the_difference_and_changes_nothing(admin: User, fetch: Fetch) -> None:
    await applied(admin, ALL)
    before = await contents(fetch)
    changed = {**MAPS, "published": True, "description": "All maps", "tags": ["geo"]}
    changed["endpoints"] = [{**FIND, "timeout": 500}]
    document = {**ALL, "connectors": [changed], "keys": [APP, {"name": "other"}]}

    done = await applied(admin, document, "dryRun=true")

    assert done["keys"] == []
    connector, endpoint, key = done["changes"]
    assert connector["fields"] == [
        {"op": "replace", "pointer": "/description", "before": "", "after": "All maps"},
        {"op": "replace", "pointer": "/tags", "before": [], "after": ["geo"]},
    ]
    assert endpoint == {
        "action": "update",
        "kind": "endpoint",
        "name": "find",
        "connector": "maps",
        "fields": [{"op": "replace", "pointer": "/timeout", "before": None, "after": 500}],
    }
    assert (key["action"], key["name"]) == ("create", "other")
    assert await contents(fetch) == before
    assert said((await applied(admin, document))["changes"]) == said(done["changes"])


async def test_every_object_leaves_an_audit_row(admin: User, fetch: Fetch) -> None:
    await applied(admin, {**ALL, "revision": 7})

    rows = await fetch("SELECT action, actor, request_id, difference FROM audit_log ORDER BY id")
    assert [row["action"] for row in rows] == [
        "plan.create",
        "connector.create",
        "endpoint.create",
        "plan.create",
        "key.create",
        "connector.publish",
        "config.apply",
    ]
    assert len({(row["actor"], row["request_id"]) for row in rows}) == 1
    assert rows[-1]["difference"] == {"revision": [None, 7], "changes": [None, 4]}


async def test_what_is_not_in_the_document_stays_unless_it_is_pruned(admin: User) -> None:
    await applied(admin, ALL)
    await applied(admin, {"plans": [{"name": "silver"}]})
    part = {"connectors": [{**MAPS, "endpoints": [], "published": False}]}

    kept = await applied(admin, part)
    endings = ["delete endpoint find", "revoke key app", "delete plan gold", "delete plan silver"]
    assert said(kept["left"]) == endings
    assert said(kept["changes"]) == ["update connector maps"]

    gone = await applied(admin, part, "prune=true")
    assert (said(gone["changes"]), gone["left"]) == (endings, [])
    assert (await admin.get("/connectors/maps/endpoints")).json["items"] == []
    assert [plan["name"] for plan in await admin.all("/plans")] == ["default"]
    assert (await admin.get("/keys")).json["items"][0]["status"] == "revoked"

    last = await applied(admin, {}, "prune=true")
    assert said(last["changes"]) == ["archive connector maps"]
    assert await admin.all("/connectors") == []
    assert (await applied(admin, {}, "prune=true"))["changes"] == []


async def test_endpoints_may_change_places(admin: User) -> None:
    other = {"name": "list", "method": "GET", "path": "/list"}
    await applied(admin, {"connectors": [{**MAPS, "endpoints": [FIND, other]}]})
    before = {entry["name"]: entry for entry in await admin.all("/connectors/maps/endpoints")}
    swapped = [{**FIND, "path": "/list"}, {**other, "path": "/find/:place"}]

    done = await applied(admin, {"connectors": [{**MAPS, "endpoints": swapped}]})

    after = {entry["name"]: entry for entry in await admin.all("/connectors/maps/endpoints")}
    assert said(done["changes"]) == ["update endpoint find", "update endpoint list"]
    assert after["find"]["path"] == "/list"
    assert after["find"]["id"] == before["find"]["id"]
    assert after["find"]["version"] > before["find"]["version"]
    assert (await admin.get("/connectors/maps")).json["version"] == 2


async def test_older_revision_is_refused(admin: User) -> None:
    await applied(admin, {**ALL, "revision": 5})
    changed = {**ALL, "plans": [{**GOLD, "rateLimit": 1}]}

    for revision in (4, 5):
        answer = await apply(admin, {**changed, "revision": revision})
        assert (answer.status, answer.pointers) == (409, ["/revision"])
    assert (await applied(admin, {**ALL, "revision": 5}))["revision"] == 5
    assert (await applied(admin, {**changed, "revision": 6}))["revision"] == 6
    assert (await applied(admin, {**ALL, "revision": 5}, "force=true"))["revision"] == 5
    assert (await applied(admin, changed))["revision"] == 5


async def test_revisions_of_a_tag_and_of_another_team_are_their_own(
    admin: User, stranger: User
) -> None:
    await applied(admin, {"revision": 9})

    assert (await applied(admin, {"revision": 1, "tag": "geo"}))["revision"] == 1
    assert (await applied(stranger, {"revision": 1}))["revision"] == 1


async def test_state_that_is_not_the_expected_one_is_refused(admin: User) -> None:
    etag = (await admin.get("/config/export")).etag
    await admin.post("/plans", {"name": "silver"})

    answer = await apply(admin, ALL, If_Match=etag)

    assert (answer.status, answer.json["code"]) == (412, "precondition_failed")
    fresh = (await admin.get("/config/export")).etag
    done = await apply(admin, ALL, If_Match=fresh)
    assert done.status == 200
    assert done.etag == (await admin.get("/config/export")).etag != fresh


async def test_document_of_a_tag_touches_nothing_else(admin: User, make_connector: Make) -> None:
    await make_connector(slug="other")
    mine = {**MAPS, "tags": ["geo"]}
    document = {"tag": "geo", "connectors": [mine]}

    assert said((await applied(admin, document))["changes"])[0] == "create connector maps"
    done = await applied(admin, {"tag": "geo"}, "prune=true")

    assert said(done["changes"]) == ["archive connector maps"]
    assert [row["slug"] for row in await admin.all("/connectors")] == ["other"]


async def test_connector_of_others_is_taken_over_by_force_alone(
    admin: User, make_connector: Make
) -> None:
    await make_connector(slug="maps", tags=["theirs"])
    document = {"tag": "geo", "connectors": [{**MAPS, "tags": ["geo"]}]}

    answer = await apply(admin, document)

    assert (answer.status, answer.pointers) == (409, ["/connectors/0/slug"])
    assert (await applied(admin, document, "force=true"))["changes"] != []
    assert (await admin.get("/connectors/maps")).json["tags"] == ["geo"]


async def test_roles_are_those_of_the_single_calls(admin: User, editor: User, viewer: User) -> None:
    await applied(admin, ALL)
    changed = {**MAPS, "published": True, "description": "All maps"}

    assert (await apply(viewer, ALL)).status == 403
    assert said((await applied(editor, {**ALL, "connectors": [changed]}))["changes"]) == [
        "update connector maps"
    ]
    for document in (
        {**ALL, "keys": [APP, {"name": "other"}]},
        {"connectors": [{**BEARER, "secrets": {"token": "env:DAYDREAM_API_KEY"}}]},
    ):
        answer = await apply(editor, document)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")
        assert "role admin" in answer.json["detail"]
    assert (await apply(editor, {}, "prune=true")).status == 403


async def test_secrets_are_not_sent_elsewhere_by_an_editor(admin: User, editor: User) -> None:
    await applied(admin, {"connectors": [{**BEARER, "secrets": {"token": "env:DAYDREAM_API_KEY"}}]})
    moved = {**BEARER, "upstreamBaseUrl": "https://elsewhere.example.com"}

    answer = await apply(editor, {"connectors": [moved]})

    assert (answer.status, answer.json["code"]) == (403, "forbidden")


async def test_reference_is_set_and_published_at_once(admin: User, fetch: Fetch) -> None:
    document = {
        "connectors": [{**BEARER, "published": True, "secrets": {"token": "env:DAYDREAM_API_KEY"}}]
    }
    await applied(admin, document)

    assert (await applied(admin, document))["changes"] == []
    (secret,) = (await admin.get("/connectors/daydream/secrets")).json["items"]
    assert secret["reference"] == "env:DAYDREAM_API_KEY"
    assert (await admin.get("/connectors/daydream")).json["status"] == "published"


async def test_sealed_secret_stays_while_the_document_does_not_name_another(admin: User) -> None:
    await applied(admin, {"connectors": [BEARER]})
    await admin.put("/connectors/daydream/secrets", {"token": "sealed"})
    unsaid = {"connectors": [{**BEARER, "published": True, "secrets": {"token": None}}]}

    assert said((await applied(admin, unsaid))["changes"]) == ["update connector daydream"]
    assert (await admin.get("/connectors/daydream/secrets")).json["items"][0]["set"]
    reference = {"connectors": [{**BEARER, "secrets": {"token": "env:DAYDREAM_API_KEY"}}]}
    (change,) = (await applied(admin, reference))["changes"]
    assert change["fields"] == [
        {
            "op": "add",
            "pointer": "/secrets/token",
            "before": None,
            "after": "env:DAYDREAM_API_KEY",
        }
    ]


async def test_reference_that_the_operator_does_not_allow_is_refused(
    admin: User, fetch: Fetch
) -> None:
    document = {"connectors": [MAPS, {**BEARER, "secrets": {"token": "env:OTHER_KEY"}}]}

    answer = await apply(admin, document)

    assert (answer.status, answer.pointers) == (422, ["/connectors/1/secrets/token"])
    assert await contents(fetch) == []


async def test_everything_that_keeps_connectors_from_being_published_is_told(
    admin: User, fetch: Fetch
) -> None:
    bare = {"slug": "bare", "upstreamBaseUrl": "https://YOUR_HOST.example.com", "published": True}

    answer = await apply(admin, {"connectors": [bare, MAPS, {**BEARER, "published": True}]})

    assert (answer.status, answer.json["code"]) == (409, "conflict")
    assert answer.pointers == [
        "/connectors/0/upstreamBaseUrl",
        "/connectors/0/endpoints",
        "/connectors/2/secrets/token",
    ]
    assert await contents(fetch) == []


async def test_published_connector_follows_the_document_or_stays(admin: User) -> None:
    published = {**MAPS, "published": True}
    await applied(admin, {"connectors": [published]})
    await applied(admin, {"connectors": [{**published, "description": "one"}]})
    assert not (await admin.get("/connectors/maps")).json["hasUnpublishedChanges"]

    await applied(admin, {"connectors": [{**MAPS, "description": "two"}]})
    row = (await admin.get("/connectors/maps")).json
    assert (row["status"], row["hasUnpublishedChanges"]) == ("published", True)

    (change,) = (await applied(admin, {"connectors": [{**published, "description": "two"}]}))["changes"]  # fmt: skip
    assert [field["pointer"] for field in change["fields"]] == ["/published"]
    await applied(admin, {"connectors": [{**MAPS, "description": "two", "published": False}]})
    assert (await admin.get("/connectors/maps")).json["status"] == "draft"


async def test_keys_are_told_apart_by_their_prefix(admin: User) -> None:
    first, second = [(await admin.post("/keys", {"name": "app"})).json for _ in range(2)]

    answer = await apply(admin, {"keys": [{"name": "app"}]})
    assert (answer.status, answer.pointers) == (409, ["/keys/0/name"])
    answer = await apply(admin, {"keys": [{"name": "app", "keyPrefix": "gw_00000000"}]})
    assert (answer.status, answer.pointers) == (409, ["/keys/0/keyPrefix"])

    renamed = {"name": "web", "keyPrefix": first["keyPrefix"], "allowedIPs": ["192.0.2.0/24"]}
    done = await applied(admin, {"keys": [renamed]}, "prune=true")
    assert said(done["changes"]) == ["update key web", "revoke key app"]
    assert (await admin.get(f"/keys/{first['id']}")).json["name"] == "web"
    assert (await admin.get(f"/keys/{second['id']}")).json["status"] == "revoked"


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ({"keys": [{"name": "app", "plan": "none"}]}, "/keys/0/plan"),
        ({"keys": [{"name": "app", "connectors": ["none"]}]}, "/keys/0/connectors/0"),
        ({"keys": [{"name": "app", "allowedEndpoints": ["x"]}]}, "/keys/0/allowedEndpoints/0"),
        ({"keys": [{"name": "app", "expiresAt": "2001-01-01T00:00:00Z"}]}, "/keys/0/expiresAt"),
        ({"plans": [{"name": "a", "allowedConnectors": ["x"]}]}, "/plans/0/allowedConnectors/0"),
    ],
)
async def test_what_single_calls_refuse_is_refused_at_its_place(
    part: Any, pointer: str, admin: User, fetch: Fetch
) -> None:
    answer = await apply(admin, {"connectors": [MAPS], **part})

    assert (answer.status, answer.pointers) == (422, [pointer])
    assert await contents(fetch) == []


async def test_plan_with_keys_is_not_pruned(admin: User) -> None:
    await applied(admin, ALL)

    answer = await apply(admin, {"connectors": [MAPS], "keys": [APP]}, "prune=true")

    assert (answer.status, answer.pointers) == (409, ["/plans"])


async def test_plan_may_go_with_its_keys(admin: User) -> None:
    await applied(admin, ALL)
    document = {"connectors": [MAPS], "keys": [{**APP, "plan": None}]}

    assert said((await applied(admin, document, "prune=true"))["changes"]) == [
        "update key app",
        "delete plan gold",
    ]


async def test_default_plan_is_declared_like_any_other(admin: User) -> None:
    document = {"plans": [{"name": "default", "rateLimit": 7}]}

    assert said((await applied(admin, document))["changes"]) == ["create plan default"]
    (plan,) = await admin.all("/plans")
    assert (plan["name"], plan["rateLimit"]) == ("default", 7)
    assert (await applied(admin, document))["changes"] == []


async def test_applies_at_once_come_one_after_the_other(admin: User, fetch: Fetch) -> None:
    documents = [
        {"revision": number, "connectors": [{**MAPS, "description": f"the {number}."}]}
        for number in range(1, 7)
    ]

    answers = await asyncio.gather(*(apply(admin, document) for document in documents))

    assert {answer.status for answer in answers} <= {200, 409}
    assert all(answer.pointers == ["/revision"] for answer in answers if answer.status == 409)
    done = [number for number, answer in enumerate(answers, 1) if answer.status == 200]
    assert (await admin.get("/connectors/maps")).json["description"] == f"the {max(done)}."
    assert max(done) == 6


async def test_document_may_be_yaml(user: Users, admin: User) -> None:
    written = "plans:\n- name: gold\n  rateLimit: 5\n"
    headers = {"Authorization": f"Bearer {admin.token}", "Content-Type": "application/yaml"}
    path = "/api/v1/gw/admin/config/apply"

    done = await admin.http.post(path, data=written, headers=headers)
    broken = await admin.http.post(path, data="plans: [", headers=headers)

    assert done.status == 200, await done.text()
    assert (await admin.all("/plans"))[0]["rateLimit"] == 5
    assert (broken.status, (await broken.json())["code"]) == (400, "bad_request")
