"""A connector's own OpenAPI document: valid, in both forms, and what callers really get."""

from __future__ import annotations

from typing import Any

import schemathesis.openapi
import yaml

from tests.admin.client import User

BODY_SCHEMA = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": {"$ref": "#/$defs/kind"}, "inner": {"$ref": "#"}},
    "$defs": {"kind": {"enum": ["a", "b"]}},
}
ENDPOINTS = [
    {"name": "find", "method": "GET", "path": "/find/:place"},
    {"name": "drop", "method": "DELETE", "path": "/find/:id"},
    {"name": "file", "method": "GET", "path": "/files/:path*"},
    {"name": "call", "method": "POST", "path": "/models/:model:generate"},
    {
        "name": "make it",
        "method": "POST",
        "path": "/things",
        "description": "Makes one.",
        "bodySchema": BODY_SCHEMA,
        "mediaTypes": ["application/json"],
        "requiredHeaders": ["X-Tenant", "Content-Type"],
        "defaultQueryParams": {"unit": "m"},
        "examples": [{"body": {"kind": "a"}}],
        "responseMode": "envelope",
    },
    {"name": "off", "method": "GET", "path": "/off", "enabled": False},
]


async def document(admin: User, query: str = "", **options: Any) -> Any:
    answer = await admin.get(f"/connectors/maps/openapi{query}", **options)
    assert answer.status == 200, answer.text
    return answer.json


async def make(admin: User) -> None:
    body = {
        "slug": "maps",
        "displayName": "Maps",
        "description": "Places.",
        "documentationUrl": "https://docs.example.com",
        "upstreamBaseUrl": "https://maps.example.com",
        "endpoints": ENDPOINTS,
    }
    answer = await admin.post("/connectors", body)
    assert answer.status == 201, answer.text


async def test_document_is_valid_and_has_what_is_enabled(admin: User) -> None:
    await make(admin)
    found = await document(admin)

    schemathesis.openapi.from_dict(found).validate()
    assert found["info"] == {"title": "Maps", "version": "draft-1", "description": "Places."}
    assert found["externalDocs"] == {"url": "https://docs.example.com"}
    assert {path: sorted(item) for path, item in found["paths"].items()} == {
        "/files/{path}": ["get"],
        "/find/{id}": ["delete", "get"],
        "/models/{model}:generate": ["post"],
        "/things": ["post"],
    }


async def test_endpoint_says_what_it_asks_for(admin: User) -> None:
    await make(admin)
    found = await document(admin)
    made = found["paths"]["/things"]["post"]

    assert (made["operationId"], made["description"]) == ("make it", "Makes one.")
    assert [(p["name"], p["in"], p.get("required")) for p in made["parameters"]] == [
        ("unit", "query", None),
        ("X-Tenant", "header", True),
    ]
    assert made["requestBody"]["required"] is True
    content = made["requestBody"]["content"]["application/json"]
    assert content["examples"] == {"example1": {"value": {"kind": "a"}}}
    name = content["schema"]["$ref"].rpartition("/")[2]
    schema = found["components"]["schemas"][name]
    assert schema["properties"]["kind"] == {"$ref": f"#/components/schemas/{name}/$defs/kind"}
    assert schema["properties"]["inner"] == {"$ref": f"#/components/schemas/{name}"}
    assert "$ref" in made["responses"]["2XX"]["content"]["application/json"]["schema"]


async def test_callers_are_told_of_the_gateways_errors_and_credentials(admin: User) -> None:
    await make(admin)
    found = await document(admin)
    statuses = found["paths"]["/things"]["post"]["responses"].keys()

    assert {"400", "401", "403", "404", "413", "415", "422", "429", "502", "503", "504"} < statuses
    assert "422" not in found["paths"]["/find/{id}"]["get"]["responses"]
    assert "Retry-After" in found["components"]["responses"]["TooManyRequests"]["headers"]
    assert {scheme["type"] for scheme in found["components"]["securitySchemes"].values()} == {
        "apiKey",
        "http",
    }


async def test_server_is_relative_unless_it_is_said(admin: User) -> None:
    await make(admin)

    assert (await document(admin))["servers"] == [{"url": "../../../maps"}]
    said = await document(admin, "?server=https://api.example.com/gw/")
    assert said["servers"] == [{"url": "https://api.example.com/gw/maps"}]
    assert (await admin.get("/connectors/maps/openapi?server=ftp://x")).pointers == ["/server"]
    assert (await admin.get("/connectors/maps/openapi?form=yaml")).pointers == ["/form"]


async def test_yaml_is_the_same_document(admin: User) -> None:
    await make(admin)
    whole = await document(admin)
    url = "/api/v1/gw/admin/connectors/maps/openapi"
    headers = {"Authorization": f"Bearer {admin.token}"}

    for query, accept in (("?format=yaml", "*/*"), ("", "application/yaml"), ("", "text/x-yaml")):
        response = await admin.http.get(url + query, headers={**headers, "Accept": accept})
        assert response.content_type == "application/yaml"
        assert yaml.safe_load(await response.text()) == whole
    for accept in ("application/json, application/yaml", "*/*", "text/html"):
        response = await admin.http.get(url, headers={**headers, "Accept": accept})
        assert response.content_type == "application/json"


async def test_published_connector_shows_what_callers_get(admin: User) -> None:
    await make(admin)
    assert (await admin.post("/connectors/maps/publish")).status == 200
    ids = {item["name"]: item["id"] for item in await admin.all("/connectors/maps/endpoints")}
    await admin.delete(f"/connectors/maps/endpoints/{ids['file']}")

    found = await document(admin)

    assert found["info"]["version"] == "2"
    assert "/files/{path}" in found["paths"]
    assert "/off" not in found["paths"]


async def test_schemas_of_the_connector_are_components_once_each(admin: User) -> None:
    pet, problem = {"$ref": "#/$defs/Pet"}, {"$ref": "#/$defs/Problem"}
    schemas = {
        "Pet": {"properties": {"next": pet, "fault": problem}},
        "Problem": {"type": "string"},
        "Unused": {},
    }
    routes = {"method": "POST"}
    own = [
        {"name": "a", "path": "/a", "bodySchema": pet, **routes},
        {"name": "b", "path": "/b", "bodySchema": {"items": pet}, **routes},
    ]
    base_url = "https://maps.example.com"
    body = {"slug": "maps", "upstreamBaseUrl": base_url, "schemas": schemas, "endpoints": own}
    assert (await admin.post("/connectors", body)).status == 201
    found = await document(admin)
    components = found["components"]["schemas"]
    schema = found["paths"]["/a"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    schemathesis.openapi.from_dict(found)
    assert components.keys() == {"Problem", "Envelope", "Pet", "Problem1", "b.body"}
    assert schema == {"$ref": "#/components/schemas/Pet"}
    assert components["b.body"] == {"items": schema}
    assert components["Pet"]["properties"]["fault"] == {"$ref": "#/components/schemas/Problem1"}
