"""Connectors: created whole, changed without losing an edit, put away, and found again."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from typing import Any

import pytest
from marshmallow import missing

from admin.connectors import CREATE, RESERVED, SCHEMA
from gateway.model import ConnectorDefinition
from tests.admin.client import UUID7, Fetch, Make, User, refused_at

MAPS = {"slug": "maps", "upstreamBaseUrl": "https://maps.example.com"}


def test_schema_has_the_fields_and_defaults_of_the_definition() -> None:
    for field in dataclasses.fields(ConnectorDefinition):
        wire = SCHEMA.fields[field.name]
        default = wire.load_default() if callable(wire.load_default) else wire.load_default
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            assert wire.required, field.name
        elif field.default_factory is not dataclasses.MISSING:
            assert default == field.default_factory(), field.name
        else:
            expected = list(field.default) if isinstance(field.default, tuple) else field.default
            assert default == expected, field.name
    loaded = set(SCHEMA.load_fields) - {"slug", "display_name", "tags"}
    assert loaded == {field.name for field in dataclasses.fields(ConnectorDefinition)}
    assert SCHEMA.fields["slug"].load_default is missing


async def test_created_connector_is_a_draft(admin: User) -> None:
    answer = await admin.post("/connectors", MAPS)
    made = answer.json

    assert answer.status == 201
    assert answer.version == 1
    assert UUID7.fullmatch(made["id"])
    assert (made["status"], made["version"], made["createdBy"]) == ("draft", 1, "ana")
    assert (made["displayName"], made["allowedHosts"]) == ("maps", ["maps.example.com"])
    assert (made["publishedVersion"], made["hasUnpublishedChanges"]) == (None, False)
    assert made["createdAt"].endswith("Z")
    assert (await admin.get("/connectors/maps")).json == made


async def test_every_field_comes_back_as_it_was_sent(admin: User) -> None:
    body = {
        "slug": "full",
        "displayName": "Full — ünïcode",
        "description": "All of it",
        "category": "geo",
        "tags": ["a", "b"],
        "documentationUrl": "https://docs.example.com/full",
        "upstreamBaseUrl": "https://full.example.com:8443/v1",
        "allowedHosts": ["full.example.com", "*.example.org"],
        "authType": "bearer",
        "authConfig": {"tokenRef": "api-key"},
        "defaultTimeout": 1000,
        "connectTimeout": 2000,
        "idleTimeout": 3000,
        "healthCheckPath": "/ping?deep=1",
        "responseMode": "envelope",
        "streamingEnabled": True,
        "errorMapping": {"404": "No such place."},
        "passCookies": True,
        "forwardedHeaders": "x-forwarded",
        "sandboxResponses": False,
        "targets": [{"url": "https://a.example.org:8443", "weight": 3, "priority": 1}],
        "loadBalancing": "least-request",
        "maxConnections": 7,
        "maxWaiting": 0,
    }
    made = (await admin.post("/connectors", body)).json
    assert {name: made[name] for name in body} == body

    await admin.put("/connectors/full", MAPS | {"slug": "full"})
    again = (await admin.put("/connectors/full", body)).json
    assert {name: again[name] for name in body} == body


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "A"),
        ("slug", "a"),
        ("slug", "-a"),
        ("slug", "a-"),
        ("slug", "a_b"),
        ("slug", "a" * 65),
        ("slug", "maps\n"),
        ("slug", 7),
        ("slug", "01a20fbf-912d-7af9-aa70-787456ed8d23"),
        ("displayName", ""),
        ("displayName", None),
        ("tags", ["a", "a"]),
        ("tags", "a"),
        ("documentationUrl", "javascript:alert(1)"),
        ("upstreamBaseUrl", "ftp://maps.example.com"),
        ("upstreamBaseUrl", None),
        ("allowedHosts", ["other.example.com"]),
        ("defaultTimeout", 0),
        ("defaultTimeout", "1000"),
        ("defaultTimeout", 1e3),
        ("healthCheckPath", "ping"),
        ("responseMode", "wrapped"),
        ("streamingEnabled", 1),
        ("passCookies", "true"),
        ("forwardedHeaders", True),
        ("forwardedHeaders", "x-forwarded-for"),
        ("status", "published"),
        ("version", 3),
        ("id", "x"),
        ("endpoints", {}),
        ("secretRefs", []),
    ],
)
def test_wrong_field_is_refused_at_its_place(field: str, value: Any) -> None:
    pointers = refused_at(CREATE, {**MAPS, field: value})

    assert {pointer.split("/")[1] for pointer in pointers} == {field}


def test_fault_in_a_mapping_points_into_it() -> None:
    pointers = refused_at(CREATE, {**MAPS, "errorMapping": {"200": "x", "404": 1}})

    assert sorted(pointers) == ["/errorMapping/200", "/errorMapping/404"]


@pytest.mark.parametrize("slug", sorted(RESERVED))
def test_reserved_slug_is_refused(slug: str) -> None:
    assert refused_at(CREATE, {**MAPS, "slug": slug}) == ["/slug"]


async def test_endpoints_and_secrets_come_with_the_create(admin: User) -> None:
    body: dict[str, Any] = {
        **MAPS,
        "authType": "bearer",
        "endpoints": [
            {"name": "a", "method": "GET", "path": "/a"},
            {"name": "b", "method": "GET", "path": "/b", "setHeaders": {"x-b": "{{secrets.b}}"}},
        ],
        "secrets": {"token": "t0k3n", "b": "other"},
    }
    made = await admin.post("/connectors", body)

    assert made.json["endpointCount"] == 2
    listed = await admin.all("/connectors/maps/endpoints?sort=name")
    assert [entry["name"] for entry in listed] == ["a", "b"]
    secrets = (await admin.get("/connectors/maps/secrets")).json["items"]
    assert {secret["name"]: secret["set"] for secret in secrets} == {"token": True, "b": True}


async def test_secrets_in_a_create_need_an_admin(editor: User) -> None:
    body: dict[str, Any] = {**MAPS, "authType": "bearer", "secrets": {"token": "t"}}

    assert (await editor.post("/connectors", body)).status == 403
    assert (await editor.post("/connectors", {**body, "secrets": {}})).status == 201


async def test_taken_slug_is_a_conflict_at_the_field(admin: User, stranger: User) -> None:
    await admin.post("/connectors", MAPS)
    answer = await admin.post("/connectors", MAPS)

    assert (answer.status, answer.json["code"], answer.pointers) == (409, "conflict", ["/slug"])
    assert (await stranger.post("/connectors", MAPS)).status == 201


async def test_of_fifty_creates_of_one_slug_one_succeeds(admin: User) -> None:
    answers = await asyncio.gather(*(admin.post("/connectors", MAPS) for _ in range(50)))

    assert Counter(answer.status for answer in answers) == {201: 1, 409: 49}
    assert len(await admin.all("/connectors")) == 1


async def test_of_two_edits_with_one_etag_one_succeeds(admin: User) -> None:
    etag = (await admin.post("/connectors", MAPS)).etag
    for method in ("PATCH", "PUT"):
        bodies = [{**MAPS, "category": f"{method}{n}"} for n in range(2)]
        answers = await asyncio.gather(
            *(admin.call(method, "/connectors/maps", body, If_Match=etag) for body in bodies)
        )
        assert sorted(answer.status for answer in answers) == [200, 412]
        (won,) = [answer for answer in answers if answer.status == 200]
        now = await admin.get("/connectors/maps")
        assert (now.json, now.etag) == (won.json, won.etag)
        etag = now.etag


async def test_simultaneous_patches_of_different_fields_both_stay(admin: User) -> None:
    await admin.post("/connectors", MAPS)
    await asyncio.gather(
        *(
            admin.patch("/connectors/maps", patch)
            for patch in ({"category": "geo"}, {"tags": ["a"]}, {"description": "d"})
        )
    )
    found = (await admin.get("/connectors/maps")).json

    assert (found["category"], found["tags"], found["description"]) == ("geo", ["a"], "d")
    assert found["version"] == 4


async def test_verbs_honour_the_etag(admin: User, make_connector: Make) -> None:
    made = await make_connector()
    path = f"/connectors/{made['id']}"
    for method, where in (
        ("POST", f"{path}/publish"),
        ("POST", f"{path}/unpublish"),
        ("POST", f"{path}/restore"),
        ("PUT", f"{path}/secrets"),
        ("DELETE", path),
    ):
        body: dict[str, str] | None = {} if method == "PUT" else None
        assert (await admin.call(method, where, body, If_Match='"9"')).status == 412, where


async def test_put_replaces_and_patch_merges(admin: User) -> None:
    await admin.post("/connectors", {**MAPS, "category": "geo", "description": "d"})
    patched = (await admin.patch("/connectors/maps", {"description": "e"})).json
    assert (patched["category"], patched["description"]) == ("geo", "e")
    cleared = (await admin.patch("/connectors/maps", {"description": None, "category": None})).json
    assert (cleared["category"], cleared["description"]) == ("", "")
    await admin.patch("/connectors/maps", {"category": "geo"})
    replaced = (await admin.put("/connectors/maps", MAPS)).json
    assert replaced["category"] == ""


async def test_null_does_not_clear_what_is_needed(admin: User) -> None:
    await admin.post("/connectors", MAPS)
    answer = await admin.patch("/connectors/maps", {"upstreamBaseUrl": None, "other": None})

    assert answer.status == 422
    assert sorted(answer.pointers) == ["/other", "/upstreamBaseUrl"]


async def test_what_follows_from_a_field_follows_it(admin: User) -> None:
    await admin.post("/connectors", {**MAPS, "authType": "bearer"})
    moved = await admin.patch("/connectors/maps", {"upstreamBaseUrl": "https://new.example.com"})
    assert moved.json["allowedHosts"] == ["new.example.com"]
    basic = await admin.patch("/connectors/maps", {"authType": "basic"})
    assert basic.json["authConfig"] == {"usernameRef": "username", "passwordRef": "password"}
    named = await admin.patch("/connectors/maps", {"slug": "atlas"})
    assert named.json["displayName"] == "atlas"


async def test_chosen_hosts_stay_with_their_connector(admin: User) -> None:
    await admin.post("/connectors", {**MAPS, "allowedHosts": ["*.example.com"]})
    moved = {"upstreamBaseUrl": "https://maps.example.org"}
    answer = await admin.patch("/connectors/maps", moved)

    assert (answer.status, answer.pointers) == (422, ["/allowedHosts"])


async def test_editor_cannot_send_secrets_elsewhere(
    admin: User, editor: User, make_connector: Make
) -> None:
    """Who may not set a secret may not read it by way of a host of one's own."""
    await make_connector(authType="bearer", secrets={"token": "t"})
    for url in (
        "https://evil.example.net",
        "http://maps.example.com",
        "https://maps.example.com:1",
    ):
        answer = await editor.patch("/connectors/maps", {"upstreamBaseUrl": url})
        assert (answer.status, answer.json["code"]) == (403, "forbidden"), url
    same = {"upstreamBaseUrl": "https://maps.example.com/v3"}
    assert (await editor.patch("/connectors/maps", same)).status == 200
    assert (
        await admin.patch("/connectors/maps", {"upstreamBaseUrl": "https://new.example.com"})
    ).status == 200


async def test_archived_connector_frees_its_slug_and_takes_no_edits(
    admin: User, make_connector: Make
) -> None:
    old = await make_connector()
    path = f"/connectors/{old['id']}"
    endpoint = (await admin.get(f"{path}/endpoints")).json["items"][0]
    assert (await admin.delete(path)).status == 204
    assert (await admin.get(path)).json["status"] == "archived"
    assert (await admin.get("/connectors/maps")).json["id"] == old["id"]
    for method, where, body in (
        ("PATCH", path, {"category": "x"}),
        ("PUT", path, MAPS),
        ("POST", f"{path}/publish", None),
        ("POST", f"{path}/endpoints", {"name": "n", "method": "GET", "path": "/n"}),
        ("DELETE", f"{path}/endpoints/{endpoint['id']}", None),
        ("PUT", f"{path}/secrets", {}),
    ):
        assert (await admin.call(method, where, body)).status == 409, where
    new = await make_connector()
    assert (await admin.get("/connectors/maps")).json["id"] == new["id"]
    again = await admin.post(f"{path}/restore")
    assert (again.status, again.pointers) == (409, ["/slug"])


async def test_archiving_twice_is_archiving_once(admin: User, make_connector: Make) -> None:
    made = await make_connector()
    for _ in range(2):
        assert (await admin.delete(f"/connectors/{made['id']}")).status == 204
    assert (await admin.get(f"/connectors/{made['id']}")).json["version"] == 2


async def test_purge_is_for_admins_and_archived_connectors(
    admin: User, editor: User, make_connector: Make, fetch: Fetch
) -> None:
    made = await make_connector(authType="bearer", secrets={"token": "t"})
    path = f"/connectors/{made['id']}"
    await admin.post(f"{path}/publish")
    assert (await editor.delete(f"{path}?purge=true")).status == 403
    assert (await admin.delete(f"{path}?purge=true")).status == 409
    await editor.delete(path)
    assert (await admin.delete(f"{path}?purge=true")).status == 204
    assert (await admin.get(path)).status == 404
    for table in (
        "service_connector",
        "connector_endpoint",
        "connector_secret",
        "connector_version",
    ):
        assert await fetch(f"TABLE {table}") == [], table


async def test_list_is_searched_and_narrowed(admin: User, make_connector: Make) -> None:
    await make_connector(slug="alpha", displayName="Zeta", tags=["geo"])
    await make_connector(slug="beta", upstreamBaseUrl="https://special.example.com")
    gone = await make_connector(slug="gamma", tags=["geo"])
    await admin.delete(f"/connectors/{gone['id']}")
    await admin.post("/connectors/alpha/publish")

    async def slugs(query: str) -> list[str]:
        return [item["slug"] for item in (await admin.get(f"/connectors{query}")).json["items"]]

    assert await slugs("") == ["beta", "alpha"]
    assert await slugs("?sort=name") == ["beta", "alpha"]
    assert await slugs("?q=ZET") == ["alpha"]
    assert await slugs("?q=special") == ["beta"]
    assert await slugs("?q=%25") == []
    assert await slugs("?tag=geo") == ["alpha"]
    assert await slugs("?status=published") == ["alpha"]
    assert await slugs("?status=archived") == ["gamma"]


async def test_members_of_a_list_are_what_they_are_alone_without_their_schemas(
    admin: User, make_connector: Make
) -> None:
    made = await make_connector()

    del made["schemas"]
    assert (await admin.get("/connectors")).json["items"] == [made]


async def test_first_connector_brings_the_default_plan(admin: User, make_connector: Make) -> None:
    await make_connector()
    (plan,) = (await admin.get("/plans")).json["items"]

    assert (plan["name"], plan["rateLimit"], plan["dailyQuota"]) == ("default", 100, 10_000)
