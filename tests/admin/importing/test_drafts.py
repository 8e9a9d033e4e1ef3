"""Importing OpenAPI documents through the API: the connector, its credentials, warnings, bounds."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest
import yaml

from admin.importing.drafts import MOST_BYTES as MOST_IMPORTED
from admin.routes import MOST_BYTES
from tests.admin.client import BASE, Fetch, User

SCHEMES = {
    "bearer": {"type": "http", "scheme": "Bearer"},
    "basic": {"type": "http", "scheme": "basic"},
    "query": {"type": "apiKey", "in": "query", "name": "token"},
    "head-er": {"type": "apiKey", "in": "header", "name": "X-Key"},
    "app": {"type": "apiKey", "in": "header", "name": "X-App"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
    "oauth": {"type": "oauth2", "flows": {}},
    "digest": {"type": "http", "scheme": "digest"},
}


def document(**more: Any) -> dict[str, Any]:
    return {
        "openapi": "3.0.3",
        "info": {"title": "Pet Store!", "description": "All pets.", "version": "1"},
        "servers": [{"url": "https://pets.example.com/v1/"}],
        "externalDocs": {"url": "https://docs.example.com"},
        "paths": {
            "/pets": {"get": {"operationId": "list"}, "post": {"operationId": "add"}},
            "/pets/{id}": {"get": {"operationId": "one"}},
        },
        **more,
    }


async def imported(editor: User, given: Any, **options: Any) -> Any:
    answer = await editor.post("/import/openapi", {"document": given, **options})
    assert answer.status == 201, answer.text
    return answer.json


@pytest.mark.parametrize("form", ["object", "json", "yaml"])
async def test_document_becomes_a_draft(form: str, editor: User) -> None:
    texts = {"json": orjson.dumps(document()).decode(), "yaml": yaml.safe_dump(document())}
    given = texts.get(form, document())

    answer = await editor.post("/import/openapi", {"document": given})

    assert answer.status == 201, answer.text
    made = answer.json
    assert (made["slug"], made["displayName"], made["status"]) == (
        "pet-store",
        "Pet Store!",
        "draft",
    )
    assert (made["upstreamBaseUrl"], made["allowedHosts"]) == (
        "https://pets.example.com/v1",
        ["pets.example.com"],
    )
    assert (made["description"], made["documentationUrl"]) == (
        "All pets.",
        "https://docs.example.com",
    )
    assert (made["endpointCount"], made["warnings"]) == (3, [])
    assert answer.headers["Location"] == f"../connectors/{made['id']}"
    names = {entry["name"] for entry in await editor.all("/connectors/pet-store/endpoints")}
    assert names == {"list", "add", "one"}


async def test_imported_connector_can_be_published_and_described(editor: User) -> None:
    await imported(editor, document())

    assert (await editor.post("/connectors/pet-store/publish")).status == 200
    described = (await editor.get("/connectors/pet-store/openapi")).json
    assert described["paths"].keys() == document()["paths"].keys()


async def test_what_is_said_beside_the_document_counts(editor: User) -> None:
    made = await imported(
        editor,
        document(servers=[{"url": "/v1"}]),
        slug="mine",
        displayName="Mine",
        upstreamBaseUrl="https://mine.example.com",
        category="pets",
        tags=["a"],
        onlyPaths=["/pets/{id}"],
    )

    assert (made["slug"], made["displayName"], made["category"]) == ("mine", "Mine", "pets")
    assert (made["upstreamBaseUrl"], made["tags"]) == ("https://mine.example.com", ["a"])
    assert made["endpointCount"] == 1


@pytest.mark.parametrize(
    ("security", "kind", "config"),
    [
        ([{"bearer": []}], "bearer", {"tokenRef": "token"}),
        ([{"basic": []}], "basic", {"usernameRef": "username", "passwordRef": "password"}),
        ([{"query": []}], "query", {"paramName": "token", "secretRef": "query"}),
        ([{"head-er": []}], "header", {"headers": {"X-Key": "{{secrets.head_er}}"}}),
        (
            [{"head-er": [], "app": []}],
            "header",
            {"headers": {"X-Key": "{{secrets.head_er}}", "X-App": "{{secrets.app}}"}},
        ),
        ([{"oauth": ["read"]}], "bearer", {"tokenRef": "token"}),
        ([{"cookie": []}, {"digest": []}, {"basic": []}], "basic", None),
        ([{}], "none", {}),
        ([], "none", {}),
    ],
)
async def test_security_becomes_credentials(
    security: Any, kind: str, config: Any, editor: User
) -> None:
    given = document(security=security, components={"securitySchemes": SCHEMES})

    made = await imported(editor, given)

    assert made["authType"] == kind
    assert config is None or made["authConfig"] == config


async def test_security_of_operations_counts_where_the_document_has_none(editor: User) -> None:
    operation: dict[str, Any] = {"security": [{"bearer": []}]}
    given = document(paths={"/a": {"get": operation}}, components={"securitySchemes": SCHEMES})

    assert (await imported(editor, given))["authType"] == "bearer"


async def test_server_of_a_path_counts_where_the_document_has_none(editor: User) -> None:
    item = {"servers": [{"url": "https://b.example.com"}], "get": {}}
    given = {**document(paths={"/a": item}), "servers": []}

    assert (await imported(editor, given))["upstreamBaseUrl"] == "https://b.example.com"


async def test_warnings_point_into_the_document(editor: User) -> None:
    given = document(
        security=[{"oauth": []}],
        components={"securitySchemes": SCHEMES},
        servers=[{"url": "https://a.example.com"}, {"url": "https://b.example.com"}],
        paths={"/a": {"get": {}, "trace": {}}},
    )

    told = (await imported(editor, given))["warnings"]

    assert [warning["pointer"] for warning in told] == [
        "/document/servers",
        "/document/components/securitySchemes/oauth",
        "/document/paths/~1a/trace",
    ]


@pytest.mark.parametrize(
    ("given", "at"),
    [
        (document(servers=[{"url": "/v1"}]), "/upstreamBaseUrl"),
        (document(servers=[{"url": "https://a b"}]), "/document/servers/0/url"),
        (
            document(servers=[{"url": "https://{x}.example.com", "variables": {"x": {}}}]),
            "/document/servers/0/variables/x/default",
        ),
        (document(info={"title": "☃"}), "/slug"),
        (document(info={"title": "Admin"}), "/slug"),
        (document(info=[]), "/document/info"),
        (document(paths={}), "/document/paths"),
        (document(security=[{"unknown": []}]), "/document/security/0/unknown"),
        (document(openapi="2.0"), "/document/openapi"),
        ("", "/document"),
        (7, "/document"),
        ("{", "/document"),
    ],
)
async def test_documents_that_cannot_be_imported_say_where(
    given: Any, at: str, editor: User
) -> None:
    answer = await editor.post("/import/openapi", {"document": given})

    assert (answer.status, answer.json["code"]) == (422, "validation_failed")
    assert answer.pointers[0] == at


async def test_document_in_parts_is_told_which_parts_are_elsewhere(editor: User) -> None:
    given = document(paths={"/a": {"get": {"$ref": "a.yaml"}}})

    answer = await editor.post("/import/openapi", {"document": given})

    assert answer.pointers == ["/document/paths", "/document/paths/~1a/get"]


async def test_taken_slug_is_a_conflict_and_nothing_is_made(editor: User) -> None:
    await imported(editor, document())

    answer = await editor.post("/import/openapi", {"document": document()})

    assert (answer.status, answer.pointers) == (409, ["/slug"])


async def test_dry_run_keeps_nothing(editor: User) -> None:
    answer = await editor.post("/import/openapi?dryRun=true", {"document": document()})

    assert (answer.status, answer.json["endpointCount"]) == (201, 3)
    assert await editor.all("/connectors") == []


async def test_every_part_is_in_the_audit_log(editor: User, fetch: Fetch) -> None:
    made = await imported(editor, document())

    rows = await fetch("SELECT action, object_id FROM audit_log ORDER BY id")
    actions = [row["action"] for row in rows]
    assert actions.count("endpoint.create") == 3
    assert [row["object_id"] for row in rows if row["action"] == "connector.create"] == [made["id"]]


async def test_viewer_may_not_import(viewer: User) -> None:
    assert (await viewer.post("/import/openapi", {"document": document()})).status == 403


async def test_what_is_described_can_be_imported_again(editor: User) -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/node"}}}
    schema = {"$ref": "#/components/schemas/node"}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    paths = {"/nodes/{id}": {"put": {"operationId": "put", "requestBody": body}}}
    await imported(editor, document(paths=paths, components={"schemas": {"node": node}}))
    told = (await editor.get("/connectors/pet-store/openapi")).json

    again = await imported(editor, told, slug="again", upstreamBaseUrl="https://b.example.com")

    assert again["warnings"] == []
    (first,) = await editor.all("/connectors/pet-store/endpoints")
    (second,) = await editor.all("/connectors/again/endpoints")
    assert second["path"] == first["path"]
    assert second["mediaTypes"] == first["mediaTypes"]
    assert second["bodySchema"] is not None


async def sent(by: User, path: str, body: dict[str, Any]) -> int:
    """The status of a request with a large body."""
    headers = {"Authorization": f"Bearer {by.token}", "Content-Type": "application/json"}
    content = io.BytesIO(orjson.dumps(body))
    return (await by.http.post(BASE + path, data=content, headers=headers)).status


async def test_document_may_be_larger_than_other_bodies(editor: User) -> None:
    large = {"x-filling": "x" * MOST_BYTES}

    assert await sent(editor, "/import/openapi", {"document": document(**large)}) == 201
    assert await sent(editor, "/plans", {"name": "a", **large}) == 413


async def test_document_beyond_the_bound_is_too_large(editor: User) -> None:
    assert await sent(editor, "/import/openapi", {"document": "x" * MOST_IMPORTED}) == 413
