"""Connectors from templates: the quick start as it stands, and nothing lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient

import templates
from gateway.identity import keys
from tests.admin.client import BASE, UUID7, Fetch, Tokened, User, read

OWN: dict[str, Any] = {
    "id": "maps",
    "name": "Maps",
    "variables": [
        {"name": "region", "description": "Where.", "pattern": "^[a-z]+$", "example": "eu"}
    ],
    "secrets": [{"name": "token", "description": "A key.", "env": "OTHER_KEY"}],
    "connector": {
        "slug": "maps",
        "upstreamBaseUrl": "https://{{variables.region}}.example.com",
        "authType": "bearer",
    },
    "endpoints": [{"name": "find", "method": "GET", "path": "/find/:place"}],
}


async def test_quick_start_runs_as_it_stands(http: TestClient[Any, Any], token: Tokened) -> None:
    """The calls of the quick start: a connector from a template, then a key for it."""
    headers = {
        "Authorization": f"Bearer {token({'my-team': 'admin'})}",
        "x-team-id": "my-team",
        "Content-Type": "application/json",
    }
    body = '{"templateId": "daydream", "upstreamBaseUrl": "https://api.daydream.live"}'
    made = await read(await http.post(BASE + "/templates", data=body, headers=headers))
    assert (made.status, made.json["slug"]) == (201, "daydream")
    assert UUID7.fullmatch(made.json["id"])
    body = '{"name": "my-app", "connectorId": "%s"}' % made.json["id"]  # noqa: UP031 - JSON has braces
    key = await read(await http.post(BASE + "/keys", data=body, headers=headers))
    assert (key.status, key.json["connectorIds"]) == (201, [made.json["id"]])
    assert keys.parse(key.json["key"]) is not None


async def test_connector_is_published_when_nothing_is_missing(admin: User) -> None:
    """The secret is there by the environment, which the operator lets this host have."""
    made = (await admin.post("/templates", {"templateId": "daydream"})).json

    assert (made["status"], made["publishFaults"]) == ("published", [])
    (secret,) = (await admin.get("/connectors/daydream/secrets")).json["items"]
    assert secret["reference"] == "env:DAYDREAM_API_KEY"


async def test_connector_stays_a_draft_when_something_is_missing(admin: User) -> None:
    elsewhere = {"templateId": "daydream", "upstreamBaseUrl": "https://dd.example.com"}
    made = (await admin.post("/templates", elsewhere)).json

    assert (made["status"], made["allowedHosts"]) == ("draft", ["dd.example.com"])
    assert [fault["pointer"] for fault in made["publishFaults"]] == ["/secrets/token"]


async def test_given_secret_comes_before_the_environments(admin: User, editor: User) -> None:
    body = {"templateId": "daydream", "secrets": {"token": "mine"}}
    assert (await editor.post("/templates", body)).status == 403
    made = await admin.post("/templates", body)
    assert (made.status, made.json["status"]) == (201, "published")
    (secret,) = (await admin.get("/connectors/daydream/secrets")).json["items"]
    assert "reference" not in secret
    assert "mine" not in made.text


@pytest.mark.parametrize(
    ("publish", "base_url", "status", "state"),
    [
        (True, None, 201, "published"),
        (False, None, 201, "draft"),
        (True, "https://dd.example.com", 409, None),
        (False, "https://dd.example.com", 201, "draft"),
    ],
)
async def test_publish_says_what_shall_be(
    publish: bool,
    base_url: str | None,
    status: int,
    state: str | None,
    admin: User,
) -> None:
    body: dict[str, Any] = {"templateId": "daydream", "publish": publish}
    if base_url is not None:
        body["upstreamBaseUrl"] = base_url
    answer = await admin.post("/templates", body)
    assert answer.status == status
    if state is None:
        assert answer.pointers == ["/secrets/token"]
        assert (await admin.get("/connectors/daydream")).status == 404
    else:
        assert answer.json["status"] == state


async def test_slug_can_be_chosen_and_taken(admin: User) -> None:
    body = {"templateId": "daydream", "slug": "dd"}
    assert (await admin.post("/templates", body)).json["slug"] == "dd"
    again = await admin.post("/templates", body)
    assert (again.status, again.pointers) == (409, ["/slug"])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/templateId"),
        ({"templateId": "nothing"}, "/templateId"),
        ({"templateId": "daydream", "slug": "admin"}, "/slug"),
        ({"templateId": "daydream", "upstreamBaseUrl": "file:///x"}, "/upstreamBaseUrl"),
        ({"templateId": "daydream", "variables": {"a": "b"}}, "/variables/a"),
        ({"templateId": "daydream", "secrets": {"a": "b"}}, "/secrets/a"),
        ({"templateId": "daydream", "publish": "yes"}, "/publish"),
        ({"templateId": "daydream", "visibility": "public"}, "/visibility"),
        ({"templateId": "clickhouse"}, "/upstreamBaseUrl"),
    ],
)
async def test_wrong_field_is_refused_at_its_place(
    body: dict[str, Any], pointer: str, admin: User
) -> None:
    answer = await admin.post("/templates", body)

    assert (answer.status, answer.pointers) == (422, [pointer])


@pytest.mark.parametrize("template_id", templates.all())
async def test_every_template_makes_what_it_says(template_id: str, admin: User) -> None:
    template = templates.all()[template_id]
    url = template["connector"].get("upstreamBaseUrl", "https://chosen.example.com")
    secrets = {secret["name"]: "s3cret" for secret in template["secrets"]}
    variables = {variable["name"]: variable["example"] for variable in template["variables"]}
    body = {"templateId": template_id, "secrets": secrets, "variables": variables}
    if "upstreamBaseUrl" not in template["connector"]:
        body["upstreamBaseUrl"] = url
    made = await admin.post("/templates", {**body, "publish": True})

    assert (made.status, made.json["status"]) == (201, "published"), made.text
    same = {name: made.json[name] for name in template["connector"]}
    if not variables:
        assert same == template["connector"]
    listed = {e["name"]: e for e in await admin.all(f"/connectors/{made.json['slug']}/endpoints")}
    assert list(listed) == [entry["name"] for entry in reversed(template["endpoints"])]
    for entry in template["endpoints"]:
        found = listed[entry["name"]]
        assert variables or {name: found[name] for name in entry} == entry


async def test_templates_are_listed_in_short_and_shown_whole(viewer: User) -> None:
    listed = (await viewer.get("/templates")).json
    first = listed["items"][0]
    assert [item["id"] for item in listed["items"]] == list(templates.all())
    assert (first["id"], first["authType"]) == ("daydream", "bearer")
    assert first["endpointCount"] == len(templates.all()["daydream"]["endpoints"])
    assert (await viewer.get("/templates/daydream")).json == templates.all()["daydream"]
    assert (await viewer.get("/templates/nothing")).status == 404


async def test_variables_are_put_in(admin: User) -> None:
    body = {"templateId": "supabase", "variables": {"project": "abcdefghijklmnopqrst"}}
    made = (await admin.post("/templates", body)).json

    assert made["upstreamBaseUrl"] == "https://abcdefghijklmnopqrst.supabase.co"
    assert made["allowedHosts"] == ["abcdefghijklmnopqrst.supabase.co"]


@pytest.mark.parametrize(
    "value",
    ["", "evil.com/", "evil.com#aaaaaaaaaaa", "abcdefghijklmnopqrst\n", "../x", "x@evil.com"],
)
async def test_hostile_variable_is_refused_at_its_place(value: str, admin: User) -> None:
    body = {"templateId": "supabase", "variables": {"project": value}}
    answer = await admin.post("/templates", body)

    assert (answer.status, answer.pointers) == (422, ["/variables/project"])
    assert (await admin.get("/connectors")).json["items"] == []


async def test_template_can_be_brought_along(admin: User) -> None:
    body = {"template": OWN, "variables": {"region": "eu"}, "secrets": {"token": "t"}}
    made = await admin.post("/templates", body)

    assert (made.status, made.json["status"]) == (201, "published"), made.text
    assert made.json["upstreamBaseUrl"] == "https://eu.example.com"


async def test_faults_of_a_template_brought_along_have_their_places(admin: User) -> None:
    broken = {**OWN, "endpoints": [{"name": "find", "method": "BREW", "path": "/find"}]}
    answer = await admin.post("/templates", {"template": broken})
    assert (answer.status, answer.pointers) == (422, ["/template/endpoints/0/method"])

    answer = await admin.post("/templates", {"template": {**OWN, "variables": []}})
    assert (answer.status, answer.pointers) == (422, ["/template/variables"])


async def test_only_who_sets_secrets_brings_references_along(admin: User, editor: User) -> None:
    """`OTHER_KEY` may go to other.example.com: whose template it is decides who may say so."""
    body = {"template": OWN, "variables": {"region": "other"}}
    drafted = (await editor.post("/templates", body)).json
    assert (drafted["status"], drafted["publishFaults"][0]["pointer"]) == (
        "draft",
        "/secrets/token",
    )

    made = (await admin.post("/templates", {**body, "slug": "maps-2"})).json
    assert made["status"] == "published"
    (secret,) = (await admin.get("/connectors/maps-2/secrets")).json["items"]
    assert secret["reference"] == "env:OTHER_KEY"


async def test_reference_is_for_all_the_hosts_or_left_out(admin: User) -> None:
    made = {**OWN["connector"], "allowedHosts": ["*.example.com"]}
    made["targets"] = [{"url": "https://other.example.com"}, {"url": "https://x.example.com"}]
    body = {"template": {**OWN, "connector": made}, "variables": {"region": "other"}}
    answer = await admin.post("/templates", body)

    assert (answer.status, answer.json["status"]) == (201, "draft"), answer.text
    assert answer.json["publishFaults"][0]["pointer"] == "/secrets/token"


async def test_several_templates_have_each_their_result(admin: User, fetch: Fetch) -> None:
    await admin.post("/templates", {"templateId": "gemini"})
    names = ["daydream", "gemini", "nothing", "clickhouse", "twilio", "ai-llm"]
    answer = await admin.post("/templates", {"templateIds": names})
    made = {item["templateId"]: item for item in answer.json["items"]}

    assert answer.status == 207
    assert list(made) == names
    assert {name: item["status"] for name, item in made.items()} == {
        "daydream": 201, "gemini": 409, "nothing": 422, "clickhouse": 422, "twilio": 422, "ai-llm": 201,
    }  # fmt: skip
    assert {
        name: item["problem"]["errors"][0]["pointer"]
        for name, item in made.items()
        if "problem" in item
    } == {
        "gemini": "/slug",
        "nothing": "/templateId",
        "clickhouse": "/upstreamBaseUrl",
        "twilio": "/variables/accountSid",
    }
    assert made["daydream"]["connector"]["status"] == "published"
    assert made["ai-llm"]["connector"]["publishFaults"][0]["pointer"] == "/secrets/token"
    assert made["gemini"]["problem"]["requestId"] == answer.headers["X-Request-Id"]
    kept = {row["slug"] for row in await fetch("SELECT slug FROM service_connector")}
    assert kept == {"daydream", "gemini", "ai-llm"}


async def test_several_are_all_published_or_not_made(admin: User) -> None:
    body = {"templateIds": ["daydream", "ai-llm"], "publish": True}
    items = (await admin.post("/templates", body)).json["items"]

    assert [item["status"] for item in items] == [201, 409]
    assert [c["slug"] for c in (await admin.get("/connectors")).json["items"]] == ["daydream"]


@pytest.mark.parametrize(
    "body",
    [
        {"templateId": "daydream", "publish": True},
        {"templateIds": ["daydream", "livepeer-leaderboard"]},
        {"template": OWN, "variables": {"region": "eu"}},
    ],
)
async def test_dry_run_makes_nothing(body: dict[str, Any], admin: User, fetch: Fetch) -> None:
    answer = await admin.post("/templates?dryRun=true", body)

    assert answer.status in {201, 207}, answer.text
    assert all(item["status"] == 201 for item in answer.json.get("items", ()))
    assert await fetch("SELECT id FROM service_connector") == []


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"templateId": "daydream", "templateIds": ["gemini"]}, ["/templateIds"]),
        ({"templateId": "daydream", "template": OWN}, ["/template"]),
        ({"templateIds": []}, ["/templateIds"]),
        ({"templateIds": ["a", "a"]}, ["/templateIds"]),
        ({"templateIds": ["daydream"], "slug": "dd"}, ["/slug"]),
        (
            {"templateIds": ["daydream"], "secrets": {"token": "x"}, "variables": {"a": "b"}},
            ["/variables", "/secrets"],
        ),
        ({"template": []}, ["/template"]),
    ],
)
async def test_what_is_for_one_template_is_not_for_several(
    body: dict[str, Any], pointers: list[str], admin: User
) -> None:
    answer = await admin.post("/templates", body)

    assert (answer.status, answer.pointers) == (422, pointers)


async def test_teams_have_connectors_of_one_template_each_for_itself(
    admin: User, stranger: User
) -> None:
    first = (await admin.post("/templates", {"templateId": "daydream"})).json
    second = (await stranger.post("/templates", {"templateId": "daydream"})).json

    assert first["slug"] == second["slug"] == "daydream"
    assert (await stranger.get(f"/connectors/{first['id']}")).status == 404
