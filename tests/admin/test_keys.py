"""Keys: made with their limits, narrowed, rotated with a grace, revoked for good."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from admin.keys import KeySchema, Rotation
from gateway.clock import utc_now
from gateway.identity import keys
from tests.admin.client import UUID7, Fetch, Make, User, refused_at


def later(**delta: float) -> str:
    return (utc_now() + timedelta(**delta)).isoformat().replace("+00:00", "Z")


async def test_created_key_has_its_value_once(admin: User, fetch: Fetch) -> None:
    made = await admin.post("/keys", {"name": "my-app"})
    parsed = keys.parse(made.json["key"])

    assert (made.status, made.version) == (201, 1)
    assert UUID7.fullmatch(made.json["id"])
    assert parsed is not None
    assert made.json["keyPrefix"] == f"gw_{parsed.public_id}"
    assert (made.json["status"], made.json["createdBy"]) == ("active", "ana")
    found = (await admin.get(f"/keys/{made.json['id']}")).json
    assert found == {name: value for name, value in made.json.items() if name != "key"}
    assert (await admin.get("/keys")).json["items"] == [found]
    assert await fetch("SELECT digest, public_id FROM gateway_api_key") == [
        {"digest": parsed.digest, "public_id": parsed.public_id}
    ]


async def test_every_restriction_comes_back(admin: User, make_connector: Make) -> None:
    connector = await make_connector()
    plan = (await admin.post("/plans", {"name": "gold"})).json
    body = {
        "name": "narrow",
        "connectorIds": [connector["id"]],
        "planId": plan["id"],
        "allowedEndpoints": ["find"],
        "allowedIPs": ["192.0.2.0/24", "2001:db8::/32"],
        "expiresAt": "2099-01-31T12:00:00Z",
    }
    made = (await admin.post("/keys", body)).json

    assert {name: made[name] for name in body} == body


async def test_one_connector_may_be_named_alone(admin: User, make_connector: Make) -> None:
    connector = await make_connector()
    for name in (connector["id"], "maps"):
        made = (await admin.post("/keys", {"name": "my-app", "connectorId": name})).json
        assert made["connectorIds"] == [connector["id"]]


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("name", "", "/name"),
        ("name", 1, "/name"),
        ("allowedIPs", ["999.1.1.1"], "/allowedIPs/0"),
        ("allowedIPs", ["192.0.2.1/24"], "/allowedIPs/0"),
        ("allowedIPs", ["1.2.3.4/99"], "/allowedIPs/0"),
        ("allowedIPs", ["dead:beef"], "/allowedIPs/0"),
        ("allowedIPs", ["fe80::1%eth0"], "/allowedIPs/0"),
        ("allowedIPs", [3232235777], "/allowedIPs/0"),
        ("allowedIPs", ["10.0.0.1", "10.0.0.1/32"], "/allowedIPs"),
        ("expiresAt", "2099-01-31T12:00:00", "/expiresAt"),
        ("expiresAt", "tomorrow", "/expiresAt"),
        ("connectorIds", "maps", "/connectorIds"),
        ("scopes", ["proxy"], "/scopes"),
        ("key", "gw_x", "/key"),
    ],
)
def test_wrong_field_is_refused_at_its_place(field: str, value: Any, pointer: str) -> None:
    assert refused_at(KeySchema(), {"name": "app", field: value}) == [pointer]


def test_connector_is_named_in_one_way() -> None:
    body = {"name": "app", "connectorId": "maps", "connectorIds": ["maps"]}

    assert refused_at(KeySchema(), body) == ["/connectorId"]


async def test_key_does_not_expire_before_it_is_made(admin: User) -> None:
    answer = await admin.post("/keys", {"name": "app", "expiresAt": later(seconds=-1)})

    assert (answer.status, answer.pointers) == (422, ["/expiresAt"])


async def test_address_is_a_network_of_one(admin: User) -> None:
    made = await admin.post("/keys", {"name": "app", "allowedIPs": ["192.0.2.1", "2001:DB8::1"]})

    assert made.json["allowedIPs"] == ["192.0.2.1/32", "2001:db8::1/128"]


async def test_endpoints_are_those_of_the_keys_connectors(
    admin: User, stranger: User, make_connector: Make
) -> None:
    await make_connector()
    await make_connector(slug="other", endpoints=[{"name": "b", "method": "GET", "path": "/b"}])
    await make_connector(by=stranger)
    (entry,) = (await admin.get("/connectors/other/endpoints")).json["items"]
    (foreign,) = (await stranger.get("/connectors/maps/endpoints")).json["items"]

    async def pointers(**fields: Any) -> list[str]:
        answer = await admin.post("/keys", {"name": "app", **fields})
        return [] if answer.status == 201 else answer.pointers

    assert await pointers(allowedEndpoints=["find", "b", entry["id"].upper()]) == []
    assert (await admin.get("/keys")).json["items"][0]["allowedEndpoints"][2] == entry["id"]
    assert await pointers(allowedEndpoints=[foreign["id"]]) == ["/allowedEndpoints/0"]
    assert await pointers(connectorId="maps", allowedEndpoints=["find", "b"]) == [
        "/allowedEndpoints/1"
    ]
    assert await pointers(connectorId="maps", allowedEndpoints=[entry["id"]]) == [
        "/allowedEndpoints/0"
    ]


async def test_patch_changes_what_it_names(admin: User, make_connector: Make) -> None:
    connector = await make_connector()
    plan = (await admin.post("/plans", {"name": "gold"})).json["id"]
    made = (await admin.post("/keys", {"name": "app", "connectorId": "maps"})).json
    path = f"/keys/{made['id']}"

    patched = await admin.patch(path, {"planId": plan, "allowedIPs": ["10.0.0.0/8"]})
    assert (patched.status, patched.version) == (200, 2)
    assert patched.json["connectorIds"] == [connector["id"]]
    assert (patched.json["planId"], patched.json["allowedIPs"]) == (plan, ["10.0.0.0/8"])
    cleared = (await admin.patch(path, {"planId": None, "allowedIPs": None})).json
    assert (cleared["planId"], cleared["allowedIPs"]) == (None, [])
    assert (await admin.patch(path, {"connectorId": None})).json["connectorIds"] == []
    again = await admin.patch(path, {"connectorId": "maps"})
    assert again.json["connectorIds"] == [connector["id"]]


async def test_of_two_edits_with_one_etag_one_succeeds(admin: User) -> None:
    made = await admin.post("/keys", {"name": "app"})
    path = f"/keys/{made.json['id']}"
    answers = await asyncio.gather(
        *(admin.patch(path, {"name": f"n{n}"}, If_Match=made.etag) for n in range(2))
    )

    assert sorted(answer.status for answer in answers) == [200, 412]
    for method, where in (("POST", f"{path}/rotate"), ("POST", f"{path}/revoke"), ("DELETE", path)):
        assert (await admin.call(method, where, If_Match=made.etag)).status == 412, where


async def test_rotation_keeps_the_old_value_for_the_grace(admin: User, fetch: Fetch) -> None:
    made = (await admin.post("/keys", {"name": "app"})).json
    rotated = await admin.post(f"/keys/{made['id']}/rotate", {"graceSeconds": 3600})
    old, new = keys.parse(made["key"]), keys.parse(rotated.json["key"])

    assert old is not None
    assert new is not None
    assert (rotated.json["status"], rotated.json["keyPrefix"]) == ("rotating", made["keyPrefix"])
    assert old.digest != new.digest
    (row,) = await fetch("SELECT digest, previous_digest, previous_until FROM gateway_api_key")
    assert (row["digest"], row["previous_digest"]) == (new.digest, old.digest)
    left = row["previous_until"] - datetime.now(UTC)  # noqa: TID251 - the database's own clock ran
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


async def test_rotation_without_grace_ends_the_old_value(admin: User, fetch: Fetch) -> None:
    made = (await admin.post("/keys", {"name": "app"})).json
    await admin.post(f"/keys/{made['id']}/rotate", {"graceSeconds": 3600})
    for body in ({"graceSeconds": 0}, {}, None):
        rotated = await admin.post(f"/keys/{made['id']}/rotate", body)
        assert (rotated.status, rotated.json["status"]) == (200, "active")
        assert rotated.json["graceUntil"] is None
    (row,) = await fetch("SELECT previous_digest, previous_until FROM gateway_api_key")
    assert row == {"previous_digest": None, "previous_until": None}


async def test_grace_ends_when_it_is_told_to(admin: User, editor: User, fetch: Fetch) -> None:
    made = (await admin.post("/keys", {"name": "app"})).json
    path = f"/keys/{made['id']}"
    rotated = await admin.post(f"{path}/rotate", {"graceSeconds": 3600})
    assert (await editor.post(f"{path}/end-grace")).status == 403
    assert (await admin.post(f"{path}/end-grace", If_Match='"1"')).status == 412

    ended = await admin.post(f"{path}/end-grace", If_Match=rotated.etag)

    assert (ended.status, ended.json["status"], ended.json["graceUntil"]) == (200, "active", None)
    assert "key" not in ended.json
    new = keys.parse(rotated.json["key"])
    assert new is not None
    (row,) = await fetch("SELECT digest, previous_digest, previous_until FROM gateway_api_key")
    assert row == {"digest": new.digest, "previous_digest": None, "previous_until": None}
    again = await admin.post(f"{path}/end-grace")
    assert (again.status, again.etag) == (200, ended.etag)
    acts = await fetch("SELECT action, difference FROM audit_log WHERE action = 'key.end_grace'")
    assert [act["difference"] for act in acts] == [
        {"graceUntil": [rotated.json["graceUntil"], None]}
    ]
    await admin.delete(path)
    assert (await admin.post(f"{path}/end-grace")).status == 409


@pytest.mark.parametrize("grace", [-1, 604_801, "60", True, 1.5])
def test_grace_is_whole_seconds_up_to_a_week(grace: Any) -> None:
    assert refused_at(Rotation(), {"graceSeconds": grace}) == ["/graceSeconds"]


async def test_revoked_key_stays_revoked(admin: User, fetch: Fetch) -> None:
    made = (await admin.post("/keys", {"name": "app"})).json
    path = f"/keys/{made['id']}"
    await admin.post(f"{path}/rotate", {"graceSeconds": 60})
    revoked = await admin.post(f"{path}/revoke")
    assert revoked.json["status"] == "revoked"
    assert (await admin.post(f"{path}/revoke")).json == revoked.json
    assert (await admin.delete(path)).status == 204
    assert (await admin.patch(path, {"name": "b"})).status == 409
    assert (await admin.post(f"{path}/rotate")).status == 409
    assert (await admin.get(path)).json == revoked.json
    (row,) = await fetch("SELECT previous_digest FROM gateway_api_key")
    assert row["previous_digest"] is None


async def test_expired_key_is_given_more_time_before_it_is_rotated(
    admin: User, fetch: Fetch
) -> None:
    made = (await admin.post("/keys", {"name": "app", "expiresAt": later(hours=1)})).json
    await fetch("UPDATE gateway_api_key SET expires_at = now() - interval '1 second'")
    path = f"/keys/{made['id']}"
    assert (await admin.get(path)).json["status"] == "expired"
    assert (await admin.post(f"{path}/rotate")).status == 409
    assert (await admin.patch(path, {"name": "still expired"})).status == 200
    assert (await admin.patch(path, {"expiresAt": later(hours=-1)})).status == 422
    assert (await admin.patch(path, {"expiresAt": None})).json["status"] == "active"
    assert (await admin.post(f"{path}/rotate")).status == 200


async def test_list_is_searched_and_narrowed(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    connector = await make_connector()
    plan = (await admin.post("/plans", {"name": "gold"})).json["id"]
    await admin.post("/keys", {"name": "beta", "connectorId": "maps"})
    alpha = (await admin.post("/keys", {"name": "Alpha", "planId": plan})).json
    gone = (await admin.post("/keys", {"name": "gamma"})).json
    await admin.delete(f"/keys/{gone['id']}")

    async def names(query: str) -> list[str]:
        return [item["name"] for item in await admin.all(f"/keys{query}")]

    assert await names("") == ["gamma", "Alpha", "beta"]
    assert await names("?sort=name") == ["Alpha", "beta", "gamma"]
    assert await names("?q=ALPH") == ["Alpha"]
    assert await names(f"?q={alpha['keyPrefix']}") == ["Alpha"]
    assert await names(f"?q={alpha['keyPrefix'][3:]}") == ["Alpha"]
    assert await names(f"?q={alpha['key']}") == ["Alpha"]
    assert await names("?status=revoked") == ["gamma"]
    assert await names("?status=active") == ["Alpha", "beta"]
    assert await names(f"?planId={plan}") == ["Alpha"]
    assert await names("?connectorId=maps") == ["beta"]
    assert await names(f"?connectorId={connector['id']}&q=x") == []
    assert (await admin.get("/keys?connectorId=nowhere")).status == 422
    assert (await admin.get("/keys?planId=gold")).status == 422


async def test_first_key_brings_the_default_plan(admin: User) -> None:
    made = (await admin.post("/keys", {"name": "app"})).json
    (plan,) = (await admin.get("/plans")).json["items"]

    assert (plan["name"], made["planId"]) == ("default", None)
