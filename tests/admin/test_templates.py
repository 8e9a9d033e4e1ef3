"""Connectors from templates: the quick start as it stands, and nothing lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from marshmallow import ValidationError

import templates
from admin.connectors import CREATE
from admin.templates import filled
from gateway import keys
from tests.admin.client import BASE, UUID7, Tokened, User, read

PLAIN: dict[str, Any] = {"variables": {}}
CLUSTER: dict[str, Any] = {
    "variables": [
        {"name": "region", "description": "Where.", "pattern": "^[a-z-]+$", "example": "eu-west"},
        {
            "name": "account",
            "description": "Whose.",
            "pattern": "^[0-9]+$",
            "example": "7",
            "default": "1",
        },
    ],
    "secrets": [],
    "connector": {
        "slug": "cluster",
        "upstreamBaseUrl": "https://{{variables.region}}.example.com",
        "allowedHosts": ["{{variables.region}}.example.com", "*.example.com"],
    },
    "endpoints": [
        {"name": "a", "method": "GET", "path": "/a", "upstreamPath": "/{{variables.account}}/a"},
        {"name": "b", "method": "GET", "path": "/b"},
    ],
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


def test_variables_are_put_in() -> None:
    body = filled(CLUSTER, {"variables": {"region": "us-east"}})

    assert body["upstreamBaseUrl"] == "https://us-east.example.com"
    assert body["allowedHosts"] == ["us-east.example.com", "*.example.com"]
    assert body["endpoints"] == [
        {"name": "a", "method": "GET", "path": "/a", "upstreamPath": "/1/a"},
        {"name": "b", "method": "GET", "path": "/b"},
    ]
    assert CREATE.load(body)["slug"] == "cluster"


def test_variable_that_is_not_used_is_not_needed() -> None:
    body = filled(CLUSTER, {"upstream_base_url": "https://own.example.org", **PLAIN})

    assert (body["upstreamBaseUrl"], body["allowedHosts"]) == ("https://own.example.org", [])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, {"region"}),
        ({"region": "EU"}, {"region"}),
        ({"region": "evil.com/x"}, {"region"}),
        ({"region": "eu\n"}, {"region"}),
        ({"region": "eu", "account": "x"}, {"account"}),
        ({"region": "eu", "zone": "a"}, {"zone"}),
    ],
)
def test_variables_that_do_not_fit_are_refused_by_name(
    values: dict[str, str], names: set[str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        filled(CLUSTER, {"variables": values})
    assert caught.value.messages_dict.keys() == {"variables"}
    assert set(caught.value.messages_dict["variables"]) == names
