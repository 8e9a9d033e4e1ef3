"""Operations as endpoints: paths, names, rules, and what is left out and why."""

from __future__ import annotations

from typing import Any

import pytest

from admin.endpoints import MOST_ENDPOINTS
from admin.importing.bodies import Bodies
from admin.importing.endpoints import Wanted, endpoints_of, pattern_of, servers_of
from admin.importing.source import Source
from gateway.transform.routes import PatternFault


def made(
    paths: dict[str, Any], base_url: str | None = None, wanted: Wanted | None = None, **more: Any
) -> tuple[list[dict[str, Any]], Source]:
    source = Source({"openapi": "3.1.0", "paths": paths, **more})
    found = endpoints_of(source, Bodies(source), base_url, {"x-own"}, wanted or Wanted((), ()))
    return found, source


@pytest.mark.parametrize(
    ("path", "pattern", "upstream"),
    [
        ("/", "/", None),
        ("/a/{b}", "/a/:b", None),
        ("/a/{b}.json", "/a/:b.json", None),
        ("/a/{b}:run", "/a/:b:run", None),
        ("/a/{user-id}/{1}", "/a/:user_id/:_1", None),
        ("/a/{x.y}/{x_y}", "/a/:x_y/:x_y_", None),
        ("/compare/{base}...{head}", "/compare/:base_head", None),
        ("/v{version}/x", "/:version/x", None),
        ("/pets/", "/pets", "/pets/"),
        ("/pets/{id}/", "/pets/:id", "/pets/:id/"),
    ],
)
def test_path_templates_become_patterns(path: str, pattern: str, upstream: str | None) -> None:
    assert pattern_of(path) == (pattern, upstream)


@pytest.mark.parametrize("path", ["/a//b", "/a/:b", "/a?b=c", "/a#b", "/ä", "/a/../b"])
def test_paths_that_no_pattern_says_are_refused(path: str) -> None:
    with pytest.raises(PatternFault):
        pattern_of(path)


def test_operation_becomes_an_endpoint() -> None:
    operation = {
        "operationId": "make",
        "summary": "Make one.",
        "description": "It is new.",
        "parameters": [
            {"name": "X-Tenant", "in": "header", "required": True},
            {"name": "X-Maybe", "in": "header"},
            {"name": "X-Own", "in": "header", "required": True},
            {"name": "Authorization", "in": "header", "required": True},
            {"$ref": "#/components/parameters/version"},
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json; charset=utf-8": {"schema": {"type": "object"}}},
        },
        "responses": {"200": {"content": {"text/event-stream": {}}}},
    }
    shared = {"name": "version", "in": "query", "required": True, "schema": {"enum": [2]}}
    item = {"parameters": [{"name": "X-Tenant", "in": "header"}], "post": operation}
    (entry,), source = made({"/things": item}, components={"parameters": {"version": shared}})

    assert (entry["name"], entry["method"], entry["path"]) == ("make", "POST", "/things")
    assert entry["description"] == "Make one.\n\nIt is new."
    assert entry["required_headers"] == ["X-Tenant"]
    assert entry["default_query_params"] == {"version": "2"}
    assert entry["media_types"] == ["application/json"]
    assert entry["body_schema"] == {"type": "object"}
    assert entry["streaming_enabled"] is True
    assert (source.faults, source.warnings) == ([], [])


def test_names_are_unique_printable_and_short() -> None:
    long = "x" * 100
    found, _ = made(
        {
            "/a": {"get": {"operationId": long}, "put": {"operationId": long}},
            "/b": {"get": {}, "put": {"summary": "a\n\tb"}},
            "/c": {"get": {"operationId": "01a20fb8-a448-7b99-b300-81468b18847a"}},
        }
    )

    assert [entry["name"] for entry in found] == [
        "x" * 64,
        "x" * 62 + " 2",
        "GET /b",
        "a b",
        "operation 01a20fb8-a448-7b99-b300-81468b18847a",
    ]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"content": {"application/json": {"schema": {}}}}, "lets requests have none"),
        (
            {"required": True, "content": {"application/json": {"schema": {}}, "text/csv": {}}},
            "something else than JSON",
        ),
        (
            {
                "required": True,
                "content": {"application/json": {"schema": {}}, "a/b+json": {"schema": True}},
            },
            "its own schema",
        ),
    ],
)
def test_import_is_never_stricter_than_the_document(body: Any, why: str) -> None:
    (entry,), source = made({"/a": {"post": {"requestBody": body}}})

    assert entry["body_schema"] is None
    assert why in source.warnings[0].detail
    assert source.warnings[0].pointer == "/document/paths/~1a/post/requestBody"


def test_any_media_type_means_no_restriction() -> None:
    (entry,), _ = made({"/a": {"post": {"requestBody": {"content": {"*/*": {}}}}}})

    assert entry["media_types"] == []


def test_what_no_endpoint_can_be_is_left_out_and_told() -> None:
    found, source = made(
        {
            "/a/{b}": {"get": {}, "options": {}, "trace": {}},
            "/a/{c}": {"get": {}},
            "/x//y": {"get": {}},
            "/remote": {"$ref": "other.yaml"},
            "/operation": {"get": {"$ref": "other.yaml"}},
            "/cookie": {"get": {"parameters": [{"name": "s", "in": "cookie"}]}},
            "/ours": {"get": {"parameters": [{"name": "Cookie", "in": "header", "required": True}]}},
        }
    )  # fmt: skip

    assert [entry["path"] for entry in found] == ["/a/:b", "/cookie", "/ours"]
    assert source.faults == []
    told = {warning.pointer.removeprefix("/document/paths/"): warning.detail for warning in source.warnings}  # fmt: skip
    assert told["~1a~1{b}/options"] == "Left out: OPTIONS is not passed on."
    assert "GET /a/{b} matches the same paths" in told["~1a~1{c}/get"]
    assert "empty" in told["~1x~1~1y/get"]
    assert "another document" in told["~1remote"]
    assert "another document" in told["~1operation/get"]
    assert "passCookies" in told["~1cookie/get/parameters/0"]
    assert "never passed on" in told["~1ours/get/parameters/0"]


def test_too_many_operations_have_to_be_chosen_from() -> None:
    paths = {f"/{number}": {"get": {"tags": [f"t{number % 2}"]}} for number in range(600)}

    _, source = made(paths)
    assert source.faults[0].pointer == "/document/paths"
    assert f"More than {MOST_ENDPOINTS}" in source.faults[0].detail
    assert len(made(paths, wanted=Wanted(["t1"], []))[0]) == 300
    assert len(made(paths, wanted=Wanted([], ["/59"]))[0]) == 11


def test_servers_have_their_variables_filled_in() -> None:
    server = {
        "url": "https://{region}.example.com/{v}/",
        "variables": {"region": {"default": "eu"}, "v": {"default": "v1"}},
    }
    source = Source({})

    found = [*servers_of(source, {"servers": [server]}, ())]

    assert found == [("https://eu.example.com/v1", ("servers", 0, "url"))]


def test_operations_of_other_servers_are_left_out() -> None:
    other = [{"url": "https://other.example.com"}]
    paths = {"/a": {"get": {"servers": other}, "put": {}}, "/b": {"servers": other, "get": {}}}

    found, source = made(paths, "https://a.example.com")
    assert [entry["name"] for entry in found] == ["PUT /a"]
    assert len(source.warnings) == 2
    assert len(made(paths, None)[0]) == 3


@pytest.mark.parametrize(
    ("paths", "at"),
    [
        ({"a": {}}, "/document/paths/a"),
        ({"/a": 1}, "/document/paths/~1a"),
        ({"/a": {"get": 1}}, "/document/paths/~1a/get"),
        ({"/a": {"get": {"operationId": 1}}}, "/document/paths/~1a/get/operationId"),
        ({"/a": {"get": {"parameters": [1]}}}, "/document/paths/~1a/get/parameters/0"),
        ({"/a": {"get": {"parameters": 1}}}, "/document/paths/~1a/get/parameters"),
        ({"/a": {"post": {"requestBody": []}}}, "/document/paths/~1a/post/requestBody"),
        ({"/a": {"$ref": "#/nowhere"}}, "/document/paths/~1a/$ref"),
    ],
)
def test_broken_documents_are_told_where(paths: Any, at: str) -> None:
    assert at in [fault.pointer for fault in made(paths)[1].faults]
