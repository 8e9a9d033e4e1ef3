"""Explaining a request: each filter's verdict, why an endpoint is the one, limits, and no secret."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.settings import DEFAULT_PIPELINE
from tests.admin.client import Answer, Fetch, Make, User

SECRET = "s3cr3t-value"
FIND = {"name": "find", "method": "GET", "path": "/find/:place"}
ENDPOINTS = [
    FIND,
    {"name": "here", "method": "GET", "path": "/find/here"},
    {"name": "add", "method": "POST", "path": "/find/:place"},
    {"name": "list", "method": "GET", "path": "/list"},
    {"name": "off", "method": "GET", "path": "/off", "enabled": False},
]
NAMES = list(DEFAULT_PIPELINE)


async def explained(user: User, **body: Any) -> Answer:
    given = {"connector": "maps", "path": "/find/here", "caller": {"user": "uma"}}
    answer = await user.post("/explain", {**given, **body})
    assert answer.status == 200, answer.text
    return answer


async def published(user: User, make_connector: Make, **settings: Any) -> dict[str, Any]:
    made = await make_connector(**{"endpoints": ENDPOINTS, **settings})
    answer = await user.post("/connectors/maps/publish")
    assert answer.status == 200, answer.text
    return made


def verdicts(answer: Answer) -> dict[str, str]:
    return {one["name"]: one["verdict"] for one in answer.json["filters"]}


async def test_every_filter_tells_its_verdict_in_order(
    admin: User, viewer: User, make_connector: Make
) -> None:
    await published(admin, make_connector)
    answer = await explained(viewer)

    assert answer.json["outcome"] == "forwarded"
    assert [one["name"] for one in answer.json["filters"]] == NAMES
    assert verdicts(answer) == {**dict.fromkeys(NAMES, "passed"), "usage": "skipped"}
    assert (answer.json["status"], answer.json["problem"]) == (None, None)


async def test_endpoints_tell_why_they_are_not_the_one(admin: User, make_connector: Make) -> None:
    await published(admin, make_connector)
    later = {"name": "later", "method": "GET", "path": "/later"}
    await admin.post("/connectors/maps/endpoints", later)
    answer = await explained(admin)

    assert answer.json["endpoint"]["name"] == "here"
    why = {one["name"]: one["why"] for one in answer.json["endpoints"]}
    assert [one["name"] for one in answer.json["endpoints"] if one["matched"]] == ["here"]
    assert list(why)[:3] == ["here", "find", "add"]
    assert why["find"] == "It matches, too; here is more specific."
    assert why["add"] == "The path fits; it takes POST."
    assert why["list"] == "It has another path."
    assert (why["off"], why["later"]) == ("It is disabled.", "It is not published.")


async def test_upstream_request_has_masks_for_secrets(
    admin: User, viewer: User, make_connector: Make
) -> None:
    await published(
        admin,
        make_connector,
        authType="header",
        authConfig={
            "headers": {"X-Key": "key {{secrets.key}}", "Authorization": "{{secrets.key}}"}
        },
        secrets={"key": SECRET},
    )
    answer = await explained(viewer, query="a=1", headers={"X-Mine": "yes", "Cookie": "no"})

    upstream = answer.json["upstream"]
    assert (upstream["method"], upstream["url"]) == (
        "GET", "https://maps.example.com/v2/find/here?a=1",
    )  # fmt: skip
    fields = {one["name"]: one["value"] for one in upstream["headers"]}
    assert (fields["X-Key"], fields["Authorization"], fields["X-Mine"]) == ("key ***", "***", "yes")
    assert "Cookie" not in fields
    assert (upstream["body"], upstream["bodyIsCallers"]) == (None, True)
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    ("kind", "config", "names"),
    [
        ("bearer", {}, ["token"]),
        ("basic", {}, ["username", "password"]),
        ("query", {"paramName": "k"}, ["token"]),
        ("aws-sigv4", {"region": "eu-1", "signPayload": True}, ["access_key", "secret_key"]),
    ],
)
async def test_no_way_to_authenticate_shows_a_secret(
    kind: str, config: Any, names: list[str], admin: User, make_connector: Make
) -> None:
    secrets = dict.fromkeys(names, SECRET)
    await published(admin, make_connector, authType=kind, authConfig=config, secrets=secrets)
    answer = await explained(admin)

    assert answer.json["outcome"] == "forwarded", answer.text
    assert SECRET not in answer.text
    assert "***" in answer.text
    assert "%2A" not in answer.text


async def test_made_body_is_shown(admin: User, make_connector: Make) -> None:
    made = {"bodyTransform": "template", "upstreamStaticBody": '{"to": "{{body.place}}"}'}
    await published(
        admin, make_connector, endpoints=[{**FIND, "method": "POST", "name": "p", **made}]
    )
    answer = await explained(admin, method="POST", path="/find/x", body={"place": "rome"})

    assert answer.json["upstream"]["body"] == '{"to": "rome"}'
    assert answer.json["upstream"]["bodyIsCallers"] is False


async def test_missing_secret_is_told(admin: User, make_connector: Make) -> None:
    await published(admin, make_connector, authType="bearer", secrets={"token": SECRET})
    await admin.delete("/connectors/maps/secrets/token")
    answer = await explained(admin)

    assert (answer.json["outcome"], answer.json["status"]) == ("refused", 503)
    assert answer.json["problem"]["code"] == "secret_missing"
    assert verdicts(answer)["transform"] == "refused"
    assert verdicts(answer)["proxy"] == "not reached"
    assert answer.json["upstream"] is None


@pytest.mark.parametrize(
    ("body", "code", "stage"),
    [
        ({"path": "/nowhere"}, "endpoint_not_found", "resolve"),
        ({"path": "/list", "method": "DELETE"}, "method_not_allowed", "resolve"),
        ({"path": "/find/../x"}, "bad_request", "resolve"),
        ({"connector": "nobody"}, "connector_not_found", "resolve"),
        ({"headers": {"x-team-id": "blue"}}, "forbidden", "authenticate"),
    ],
)
async def test_refusal_names_its_filter(
    body: dict[str, Any], code: str, stage: str, admin: User, make_connector: Make
) -> None:
    await published(admin, make_connector)
    answer = await explained(admin, **body)

    assert (answer.json["outcome"], answer.json["problem"]["code"]) == ("refused", code)
    (refused,) = [one for one in answer.json["filters"] if one["verdict"] == "refused"]
    assert (refused["name"], refused["code"]) == (stage, code)


async def test_body_that_breaks_a_rule_is_told_place_by_place(
    admin: User, make_connector: Make
) -> None:
    rule = {"bodySchema": {"required": ["place"], "properties": {"place": {"type": "string"}}}}
    await published(
        admin, make_connector, endpoints=[{**FIND, "method": "POST", "name": "p", **rule}]
    )
    answer = await explained(admin, method="POST", path="/find/x", body={"place": 1})

    assert verdicts(answer)["validate"] == "refused"
    assert answer.json["problem"]["errors"][0]["pointer"] == "/place"


async def test_draft_is_told_as_one(admin: User, make_connector: Make) -> None:
    await make_connector(endpoints=ENDPOINTS)
    answer = await explained(admin)

    assert answer.json["problem"]["code"] == "connector_not_found"
    assert "publish it" in answer.json["problem"]["detail"]
    assert {one["why"] for one in answer.json["endpoints"]} == {"It is not published."}


async def test_key_has_its_plan_its_limits_and_where_they_come_from(
    admin: User, make_connector: Make
) -> None:
    await published(
        admin,
        make_connector,
        endpoints=[{**FIND, "rateLimit": 3, "timeout": 7, "maxRequestSize": 9}],
    )
    plan = {"name": "gold", "rateLimit": 50, "dailyQuota": 5, "monthlyQuota": None}
    plan_id = (await admin.post("/plans", {**plan, "maxConcurrent": 2})).json["id"]
    key = (await admin.post("/keys", {"name": "app", "planId": plan_id})).json["id"]
    answer = await explained(admin, path="/find/x", caller={"key": key})

    assert answer.json["outcome"] == "forwarded", answer.text
    told = answer.json["caller"]
    assert (told["kind"], told["id"], told["name"], told["status"]) == ("key", key, "app", "active")
    assert told["plan"] == {"id": plan_id, "name": "gold"}
    limits = {one["policy"]: one for one in answer.json["limits"]}
    assert {
        name: (one["source"], one["limit"], one["remaining"]) for name, one in limits.items()
    } == {
        "concurrent": ("plan", 2, 1),
        "rate": ("plan", 50, 49),
        "endpoint": ("endpoint", 3, 2),
        "daily": ("plan", 5, 4),
    }
    assert all(one["admitted"] for one in limits.values())
    bounds = {one["name"]: (one["value"], one["source"]) for one in answer.json["bounds"]}
    assert bounds["timeout"] == (7, "endpoint")
    assert bounds["idleTimeout"] == (60_000, "connector")
    assert bounds["maxRequestSize"] == (9, "endpoint")
    assert bounds["maxResponseSize"][1] == "plan"


async def test_explaining_uses_nothing_up(admin: User, make_connector: Make, fetch: Fetch) -> None:
    await published(admin, make_connector, endpoints=[{**FIND, "rateLimit": 1}])
    before = await fetch("SELECT id FROM audit_log")
    answers = [await explained(admin, path="/find/x") for _ in range(3)]

    assert {one.json["outcome"] for one in answers} == {"forwarded"}
    assert {one["remaining"] for one in answers[-1].json["limits"] if one["limit"] == 1} == {0}
    assert await fetch("SELECT request_id FROM gateway_usage_record") == []
    assert await fetch("SELECT id FROM audit_log") == before


@pytest.mark.parametrize("end", ["revoke", "expire"])
async def test_key_that_is_not_taken_is_told_with_its_status(
    end: str, admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await published(admin, make_connector)
    key = (await admin.post("/keys", {"name": "app"})).json["id"]
    if end == "revoke":
        await admin.post(f"/keys/{key}/revoke")
    else:
        await fetch("UPDATE gateway_api_key SET expires_at = now() - interval '1 hour'")
    answer = await explained(admin, caller={"key": key})

    assert (verdicts(answer)["authenticate"], answer.json["status"]) == ("refused", 401)
    assert answer.json["caller"]["status"] in {"revoked", "expired"}


async def test_key_is_bound_and_comes_from_an_address(admin: User, make_connector: Make) -> None:
    await published(admin, make_connector)
    bound = {"allowedEndpoints": ["list"], "allowedIPs": ["192.0.2.0/24"]}
    key = (await admin.post("/keys", {"name": "app", **bound})).json["id"]
    other = await explained(admin, caller={"key": key})
    elsewhere = await explained(admin, path="/list", caller={"key": key}, clientAddress="10.0.0.1")
    there = await explained(admin, path="/list", caller={"key": key}, clientAddress="192.0.2.9")

    assert other.json["problem"]["detail"] == "This key is not for this endpoint."
    assert elsewhere.json["problem"]["detail"] == "This key may not be used from this address."
    assert there.json["outcome"] == "forwarded"


async def test_key_goes_beside_a_field_that_is_for_the_upstream(
    admin: User, make_connector: Make
) -> None:
    await published(admin, make_connector, authType="passthrough")
    key = (await admin.post("/keys", {"name": "app"})).json["id"]
    own = {"Authorization": "Bearer of-the-upstream"}
    answer = await explained(admin, caller={"key": key}, headers=own)

    assert answer.json["outcome"] == "forwarded", answer.text
    fields = {one["name"]: one["value"] for one in answer.json["upstream"]["headers"]}
    assert fields["Authorization"] == "Bearer ***"
    assert not any(name.lower() == "x-api-key" for name in fields)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"caller": {}}, "/caller"),
        ({"caller": {"key": "x", "user": "y"}}, "/caller/key"),
        ({"caller": {"key": "00000000-0000-7000-8000-000000000001"}}, "/caller/key"),
        ({"caller": {"user": "uma", "role": "owner"}}, "/caller/role"),
        ({"method": "BREW"}, "/method"),
        ({"path": "find"}, "/path"),
        ({"connector": "a/b"}, "/connector"),
        ({"clientAddress": "nowhere"}, "/clientAddress"),
        ({"headers": {"Authorization": "Bearer x"}}, "/headers/Authorization"),
        ({"other": 1}, "/other"),
    ],
)
async def test_request_that_is_none_is_refused(
    body: dict[str, Any], pointer: str, admin: User, make_connector: Make
) -> None:
    await make_connector()
    given = {"connector": "maps", "path": "/x", "caller": {"user": "uma"}, **body}
    answer = await admin.post("/explain", given)

    assert answer.status == 422, answer.text
    assert answer.pointers[0] == pointer


async def test_other_teams_connector_and_key_are_unknown_ones(
    admin: User, stranger: User, make_connector: Make
) -> None:
    made = await published(admin, make_connector)
    key = (await admin.post("/keys", {"name": "app"})).json["id"]

    for name in ("maps", made["id"]):
        answer = await explained(stranger, connector=name)
        assert answer.json["problem"]["code"] == "connector_not_found"
        assert answer.json["endpoints"] == []
    body = {"connector": "maps", "path": "/x", "caller": {"key": key}}
    assert (await stranger.post("/explain", body)).pointers == ["/caller/key"]
