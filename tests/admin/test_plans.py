"""Plans: every number comes back, and none goes while keys are on it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from admin.plans import PlanSchema
from gateway.model import Plan
from tests.admin.client import Fetch, Make, User, refused_at

FULL = {
    "name": "gold",
    "displayName": "Gold",
    "rateLimit": 0,
    "rateWindow": 1,
    "burstLimit": 10,
    "dailyQuota": 0,
    "monthlyQuota": 1 << 40,
    "maxConcurrent": 0,
    "maxRequestSize": 0,
    "maxResponseSize": 1 << 40,
    "timeZone": "Asia/Kolkata",
}


def test_schema_has_the_defaults_of_the_model() -> None:
    schema = PlanSchema()
    wire = {field.attribute or name: field for name, field in schema.load_fields.items()}
    for field in dataclasses.fields(Plan):
        if field.name not in {"id", "name", "allowed_connectors"}:
            assert wire[field.name].load_default == field.default, field.name
    assert set(wire) - {"display_name"} == {f.name for f in dataclasses.fields(Plan)} - {"id"}


async def test_every_field_comes_back_as_it_was_sent(admin: User, make_connector: Make) -> None:
    body = {**FULL, "allowedConnectors": [(await make_connector())["id"]]}
    made = await admin.post("/plans", body)
    assert (made.status, made.version) == (201, 1)
    assert {name: made.json[name] for name in body} == body
    path = f"/plans/{made.json['id']}"
    assert (await admin.get(path)).json == made.json
    plain = (await admin.put(path, {"name": "gold"})).json
    assert (plain["rateLimit"], plain["displayName"]) == (100, "gold")
    again = (await admin.put(path, body)).json
    assert {name: again[name] for name in body} == body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Gold"),
        ("name", ""),
        ("name", "a b"),
        ("rateLimit", -1),
        ("rateLimit", None),
        ("rateLimit", 1 << 31),
        ("rateWindow", 0),
        ("burstLimit", 0),
        ("dailyQuota", "100"),
        ("maxConcurrent", True),
        ("timeZone", "Mars/Olympus"),
        ("timeZone", "../../etc/passwd"),
        ("timeZone", "Europe"),
        ("timeZone", "localtime"),
        ("timeZone", "right/UTC"),
        ("timeZone", ""),
        ("keyCount", 1),
    ],
)
def test_wrong_field_is_refused_at_its_place(field: str, value: Any) -> None:
    assert set(refused_at(PlanSchema(), {"name": "gold", field: value})) == {f"/{field}"}


async def test_null_is_no_limit_where_there_can_be_none(admin: User) -> None:
    path = f"/plans/{(await admin.post('/plans', FULL)).json['id']}"
    patch = dict.fromkeys(("dailyQuota", "monthlyQuota", "burstLimit", "rateLimit"))
    patched = (await admin.patch(path, patch)).json

    assert (patched["dailyQuota"], patched["monthlyQuota"], patched["burstLimit"]) == (None,) * 3
    assert patched["rateLimit"] == 100
    assert patched["maxConcurrent"] == 0


async def test_default_plan_is_made_once_and_stays(admin: User) -> None:
    await asyncio.gather(*(admin.post("/plans", {"name": f"p{n}"}) for n in range(8)))
    plans = {plan["name"]: plan for plan in await admin.all("/plans")}
    assert len(plans) == 9
    path = f"/plans/{plans['default']['id']}"
    assert (await admin.delete(path)).status == 409
    assert (await admin.patch(path, {"name": "other"})).pointers == ["/name"]
    assert (await admin.patch(path, {"rateLimit": 7})).json["rateLimit"] == 7
    await admin.post("/keys", {"name": "app"})
    assert (await admin.get(path)).json["rateLimit"] == 7


async def test_default_plan_is_there_before_anything_is_written(
    admin: User, viewer: User, fetch: Fetch
) -> None:
    lists = await asyncio.gather(*(viewer.get(f"/plans?q={q}") for q in ("", "DEF", "def", "")))
    ((plan,), *others) = [answer.json["items"] for answer in lists]
    assert (plan["name"], plan["keyCount"], plan["version"]) == ("default", 0, 1)
    assert others == [[plan]] * 3
    path = f"/plans/{plan['id']}"
    shown = await viewer.get(path)
    assert shown.json == plan
    changed = await admin.patch(path, {"rateLimit": 7}, If_Match=shown.etag)
    assert (changed.status, changed.json["rateLimit"]) == (200, 7)
    assert (await viewer.get("/plans")).json["items"] == [changed.json]
    acts = await fetch("SELECT actor, action FROM audit_log ORDER BY id")
    assert [(act["actor"], act["action"]) for act in acts] == [
        ("vic", "plan.create"),
        ("ana", "plan.update"),
    ]


async def test_default_plan_counts_the_keys_without_a_plan(admin: User, stranger: User) -> None:
    gold = (await admin.post("/plans", {"name": "gold"})).json["id"]
    await stranger.post("/keys", {"name": "theirs"})
    await admin.post("/keys", {"name": "a", "planId": gold})
    await admin.post("/keys", {"name": "b"})
    gone = (await admin.post("/keys", {"name": "c"})).json["id"]
    default = next(p["id"] for p in await admin.all("/plans") if p["name"] == "default")
    await admin.post("/keys", {"name": "d", "planId": default})
    await admin.delete(f"/keys/{gone}")

    for sort in ("newest", "name"):
        plans = {plan["name"]: plan["keyCount"] for plan in await admin.all(f"/plans?sort={sort}")}
        assert plans == {"default": 2, "gold": 1}
    assert (await admin.get(f"/plans/{default}")).json["keyCount"] == 2


async def test_taken_name_is_a_conflict_at_the_field(admin: User) -> None:
    await admin.post("/plans", {"name": "gold"})
    other = (await admin.post("/plans", {"name": "silver"})).json["id"]
    for answer in (
        await admin.post("/plans", {"name": "gold"}),
        await admin.post("/plans", {"name": "default"}),
        await admin.patch(f"/plans/{other}", {"name": "gold"}),
    ):
        assert (answer.status, answer.pointers) == (409, ["/name"])


async def test_plan_goes_when_no_key_is_on_it(admin: User) -> None:
    path = f"/plans/{(plan := (await admin.post('/plans', {'name': 'gold'})).json['id'])}"
    used = (await admin.post("/keys", {"name": "a", "planId": plan})).json["id"]
    gone = (await admin.post("/keys", {"name": "b", "planId": plan})).json["id"]
    await admin.delete(f"/keys/{gone}")
    assert (await admin.get(path)).json["keyCount"] == 1
    refused = await admin.delete(path)
    assert (refused.status, refused.json["code"]) == (409, "conflict")
    assert refused.json["detail"].startswith("1 key is on this plan")
    assert (await admin.get(f"/keys/{gone}")).json["planId"] == plan
    await admin.patch(f"/keys/{used}", {"planId": None})
    assert (await admin.delete(path)).status == 204
    assert (await admin.get(path)).status == 404


async def test_keys_of_a_plan_that_goes_are_put_on_its_replacement(
    admin: User, fetch: Fetch
) -> None:
    gold, iron = [(await admin.post("/plans", {"name": n})).json["id"] for n in ("gold", "iron")]
    body = {"name": "a", "planId": gold}
    kept = [(await admin.post("/keys", body)).json for _ in range(3)]
    gone = (await admin.post("/keys", body)).json
    await admin.delete(f"/keys/{gone['id']}")
    refused = await admin.delete(f"/plans/{gold}")
    assert refused.json["detail"].startswith("3 keys are on this plan")
    tried = await admin.delete(f"/plans/{gold}?replacement={iron}&dryRun=true")
    assert tried.status == 204
    assert (await admin.get(f"/plans/{gold}")).json["keyCount"] == 3

    assert (await admin.delete(f"/plans/{gold}?replacement={iron.upper()}")).status == 204

    assert (await admin.get(f"/plans/{gold}")).status == 404
    assert (await admin.get(f"/plans/{iron}")).json["keyCount"] == 3
    for key in kept:
        moved = await admin.get(f"/keys/{key['id']}")
        assert (moved.json["planId"], moved.json["version"]) == (iron, key["version"] + 1)
    assert (await admin.get(f"/keys/{gone['id']}")).json["planId"] is None
    (row,) = await fetch("SELECT difference FROM audit_log WHERE action = 'plan.delete'")
    assert row["difference"]["replacement"] == [None, iron]


async def test_replacement_is_another_plan_of_the_team(
    admin: User, editor: User, stranger: User
) -> None:
    plan = (await admin.post("/plans", {"name": "gold"})).json["id"]
    foreign = (await stranger.post("/plans", {"name": "gold"})).json["id"]
    key = (await admin.post("/keys", {"name": "a", "planId": plan})).json["id"]

    answers = [
        await admin.delete(f"/plans/{plan}?replacement={named}")
        for named in (foreign, plan.replace("-7", "-6"), "iron", "", plan)
    ]

    assert [(answer.status, answer.pointers) for answer in answers] == [(422, ["/replacement"])] * 5
    assert answers[0].json["errors"] == answers[1].json["errors"]
    assert (await editor.delete(f"/plans/{plan}?replacement={foreign}")).status == 403
    assert (await stranger.delete(f"/plans/{plan}?replacement={foreign}")).status == 404
    assert (await admin.get(f"/keys/{key}")).json["planId"] == plan


async def test_two_plans_that_replace_each_other_do_not_wait_for_ever(admin: User) -> None:
    for number in range(5):
        one, two = [(await admin.post("/plans", {"name": f"{n}{number}"})).json["id"] for n in "ab"]
        answers = await asyncio.gather(
            admin.delete(f"/plans/{one}?replacement={two}"),
            admin.delete(f"/plans/{two}?replacement={one}"),
        )
        assert sorted(answer.status for answer in answers) in ([204, 404], [204, 422])


async def test_key_and_delete_of_its_plan_do_not_cross(admin: User) -> None:
    for number in range(5):
        plan = (await admin.post("/plans", {"name": f"p{number}"})).json["id"]
        made, deleted = await asyncio.gather(
            admin.post("/keys", {"name": "app", "planId": plan}), admin.delete(f"/plans/{plan}")
        )
        assert (made.status, deleted.status) in {(201, 409), (422, 204)}


async def test_of_two_edits_with_one_etag_one_succeeds(admin: User) -> None:
    made = await admin.post("/plans", {"name": "gold"})
    path = f"/plans/{made.json['id']}"
    answers = await asyncio.gather(
        *(admin.patch(path, {"rateLimit": n}, If_Match=made.etag) for n in (1, 2)),
        admin.put(path, {"name": "gold", "rateLimit": 3}, If_Match=made.etag),
    )

    assert sorted(answer.status for answer in answers) == [200, 412, 412]
    assert (await admin.delete(path, If_Match=made.etag)).status == 412


async def test_purged_connectors_stay_named_until_they_are_replaced(
    admin: User, make_connector: Make
) -> None:
    connector = (await make_connector())["id"]
    plan = (await admin.post("/plans", {"name": "gold", "allowedConnectors": ["maps"]})).json
    await admin.delete(f"/connectors/{connector}")
    await admin.delete(f"/connectors/{connector}?purge=true")
    path = f"/plans/{plan['id']}"
    assert (await admin.patch(path, {"rateLimit": 1})).json["allowedConnectors"] == [connector]
    assert (await admin.patch(path, {"allowedConnectors": []})).json["allowedConnectors"] == []


async def test_list_is_searched(admin: User) -> None:
    await admin.post("/plans", {"name": "gold", "displayName": "Everything"})
    await admin.post("/plans", {"name": "silver"})

    async def names(query: str) -> list[str]:
        return [item["name"] for item in await admin.all(f"/plans{query}")]

    assert await names("") == ["silver", "gold", "default"]
    assert await names("?sort=name") == ["default", "gold", "silver"]
    assert await names("?q=everyTHING") == ["gold"]
