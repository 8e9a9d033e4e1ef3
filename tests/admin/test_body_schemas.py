"""Schemas of a connector: endpoints refer to them, and nothing that they need goes unseen."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from admin import body_schemas
from tests.admin.client import Answer, Fetch, User

PET = {"$ref": "#/$defs/Pet"}
SCHEMAS = {
    "Pet": {"properties": {"owner": {"$ref": "#/$defs/Person"}}, "required": ["owner"]},
    "Person": {"type": "object"},
}
ENDPOINT = {"name": "add", "method": "POST", "path": "/pets", "bodySchema": PET}
BODY = {
    "slug": "pets",
    "upstreamBaseUrl": "https://pets.example.com",
    "schemas": SCHEMAS,
    "endpoints": [ENDPOINT],
}


async def make(user: User, **more: Any) -> Answer:
    made = await user.post("/connectors", {**BODY, **more})
    assert made.status == 201, made.text
    return made


async def test_connector_keeps_schemas_that_its_endpoints_refer_to(editor: User) -> None:
    made = await make(editor)
    listed = (await editor.get("/connectors")).json["items"]

    assert made.json["schemas"] == SCHEMAS
    assert "schemas" not in listed[0]
    assert (await editor.post("/connectors/pets/publish")).status == 200


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"schemas": {}}, "/endpoints/0/bodySchema"),
        ({"schemas": {**SCHEMAS, "Person": {"type": 1}}}, "/schemas/Person"),
        ({"schemas": {"Pet": SCHEMAS["Pet"]}}, "/schemas/Pet"),
        ({"schemas": {"Pet": {"$ref": "#"}}}, "/schemas/Pet"),
        ({"schemas": {"Pet": 1}}, "/schemas/Pet"),
        ({"schemas": {"a b": {}}}, "/schemas/a b"),
        ({"schemas": {"Pet": {"description": "x" * (256 << 10)}}}, "/schemas/Pet"),
        ({"schemas": {"Pet": {"pattern": "("}}}, "/endpoints/0/bodySchema"),
    ],
)
async def test_fault_is_told_with_its_place(change: Any, pointer: str, editor: User) -> None:
    answer = await editor.post("/connectors", {**BODY, **change})

    assert answer.status == 422
    assert answer.pointers == [pointer]


def test_schemas_of_a_connector_are_bounded_in_all() -> None:
    with pytest.raises(ValidationError, match="2 MiB"):
        body_schemas.definitions().deserialize(
            {f"P{at}": {"description": "x" * 250_000} for at in range(9)}
        )


async def test_endpoint_that_refers_to_nothing_is_refused(editor: User) -> None:
    await make(editor)
    route = {"name": "b", "method": "POST", "path": "/b"}
    schema = {"$ref": "#/$defs/Nowhere"}

    added = await editor.post("/connectors/pets/endpoints", {**route, "bodySchema": schema})
    own = {**schema, "$defs": {"Nowhere": True}}
    taken = await editor.post("/connectors/pets/endpoints", {**route, "bodySchema": own})

    assert (added.status, added.pointers) == (422, ["/bodySchema"])
    assert "Nowhere" in added.json["detail"]
    assert taken.status == 201


async def test_schema_that_an_endpoint_refers_to_is_not_removed(editor: User) -> None:
    await make(editor)
    settings = {name: BODY[name] for name in ("slug", "upstreamBaseUrl")}

    patched = await editor.patch("/connectors/pets", {"schemas": {"Other": True}})
    cleared = await editor.patch("/connectors/pets", {"schemas": None})
    put = await editor.put("/connectors/pets", settings)
    broken = await editor.patch("/connectors/pets", {"schemas": {"Pet": {"pattern": "("}}})

    assert [one.status for one in (patched, cleared, put, broken)] == [409] * 4
    assert patched.pointers == cleared.pointers == put.pointers == ["/schemas/Pet"]
    assert broken.pointers == ["/schemas"]
    assert "add" in patched.json["detail"]
    assert (await editor.patch("/connectors/pets", {"schemas": {"Pet": True}})).status == 200


async def test_versions_hold_the_schemas(editor: User) -> None:
    await make(editor)
    first = (await editor.post("/connectors/pets/publish")).json["publishedVersion"]
    await editor.patch("/connectors/pets", {"schemas": {"Pet": True}})
    await editor.post("/connectors/pets/publish")

    diff = (await editor.get(f"/connectors/pets/versions/{first}/diff")).json["items"]
    back = await editor.post("/connectors/pets/rollback", {"version": first})

    assert [place["pointer"] for place in diff] == ["/schemas/Pet", "/schemas/Person"]
    assert back.json["schemas"] == SCHEMAS


async def test_document_of_state_holds_the_schemas(editor: User) -> None:
    await make(editor)
    told = (await editor.get("/config/export")).json
    (entry,) = told["connectors"]
    without = {**told, "connectors": [{**entry, "schemas": {}}]}
    left = {**told, "connectors": [{**entry, "schemas": {}, "endpoints": []}]}
    both = {**entry, "schemas": {"Cat": True}}
    both["endpoints"] = [{**entry["endpoints"][0], "bodySchema": {"$ref": "#/$defs/Cat"}}]

    broken = await editor.post("/config/apply?force=true", without)
    missed = await editor.post("/config/apply?force=true", left)
    moved = await editor.post("/config/apply?force=true", {**told, "connectors": [both]})

    assert entry["schemas"] == SCHEMAS
    assert broken.pointers == ["/connectors/0/endpoints/0/bodySchema"]
    assert missed.pointers[0].startswith("/connectors/0")
    assert moved.status == 200, moved.text
    assert (await editor.get("/connectors/pets")).json["schemas"] == {"Cat": True}


async def test_template_of_a_connector_holds_the_schemas(editor: User) -> None:
    await make(editor)
    template = (await editor.get("/connectors/pets/template")).json
    made = await editor.post("/templates", {"template": template, "slug": "more"})

    assert made.status == 201, made.text
    assert made.json["schemas"] == SCHEMAS


async def test_publish_refuses_what_has_come_to_be_broken_with_the_endpoint(
    editor: User, fetch: Fetch
) -> None:
    await make(editor)
    await fetch("UPDATE service_connector SET definition = definition - 'schemas'")

    answer = await editor.post("/connectors/pets/publish")

    assert (answer.status, answer.pointers) == (409, ["/endpoints/add"])
    assert "Pet" in answer.json["errors"][0]["detail"]


def test_schemas_that_refer_to_the_same_are_counted_once() -> None:
    large = {
        f"S{at}": {"$ref": f"#/$defs/S{(at + 1) % 8}", "title": "x" * 30_000} for at in range(8)
    }
    items = [{"body_schema": {"$ref": f"#/$defs/S{at % 8}"}} for at in range(400)]

    body_schemas.check(items, (), {"schemas": large})
