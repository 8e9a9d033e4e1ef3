"""Endpoints: everything comes back as it was sent, and nothing is saved that would not compile."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from marshmallow import ValidationError

from admin.endpoints import EndpointSchema
from gateway.model import EndpointDefinition
from tests.admin.client import UUID7, Make, User, refused_at

SCHEMA = EndpointSchema()
PATH = "/connectors/maps/endpoints"
FIND = {"name": "find-more", "method": "GET", "path": "/more/:place"}
FULL = {
    "name": "full",
    "description": "All of it",
    "method": "POST",
    "path": "/full/:id",
    "enabled": False,
    "upstreamMethod": "PUT",
    "upstreamPath": "/v1/full/:id?q={id}",
    "upstreamContentType": "application/json",
    "upstreamQueryParams": {"fixed": "1"},
    "defaultQueryParams": {"page": "1"},
    "setHeaders": {"x-set": "{{secrets.key}}"},
    "addHeaders": {"x-add": "b"},
    "removeHeaders": ["x-remove"],
    "bodyTransform": "static",
    "upstreamStaticBody": '{"a": 1}',
    "responseMode": "envelope",
    "streamingEnabled": True,
    "rateLimit": 5,
    "timeout": 1000,
    "idleTimeout": 2000,
    "encodedSlashes": "allow",
    "maxRequestSize": 0,
    "maxResponseSize": 100,
    "requiredHeaders": ["x-needed"],
    "mediaTypes": ["application/json", "application/vnd.api+json"],
    "bodySchema": {"type": "object", "properties": {"a": {"type": "integer"}}},
    "bodyPattern": "^\\{",
    "bodyBlacklist": ["drop"],
    "cacheTtl": 60,
    "retries": 2,
    "fieldMap": {"songs[].title": "items[].name", "n": "total"},
    "errorMapping": {"429": "Slowly."},
    "examples": [{"input": {"a": 1}, "output": None}],
}


@pytest.fixture
async def admin(admin: User) -> User:
    """An admin of a team that has a connector with one endpoint."""
    find = {"name": "find", "method": "GET", "path": "/find/:place"}
    body = {"slug": "maps", "upstreamBaseUrl": "https://maps.example.com", "endpoints": [find]}
    assert (await admin.post("/connectors", body)).status == 201
    return admin


def test_schema_has_the_fields_and_defaults_of_the_definition() -> None:
    for field in dataclasses.fields(EndpointDefinition):
        wire = SCHEMA.fields[field.name]
        default = wire.load_default() if callable(wire.load_default) else wire.load_default
        expected: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            expected = field.default_factory()
        assert default == (list(expected) if isinstance(expected, tuple) else expected), field.name
    own = {"name", "method", "path", "enabled"}
    assert set(SCHEMA.load_fields) - own == {f.name for f in dataclasses.fields(EndpointDefinition)}


def test_example_has_every_field() -> None:
    assert set(FULL) == {field.data_key for field in SCHEMA.load_fields.values()}


async def test_every_field_comes_back_as_it_was_sent(admin: User) -> None:
    made = await admin.post(PATH, FULL)
    assert (made.status, made.version) == (201, 1)
    assert UUID7.fullmatch(made.json["id"])
    assert {name: made.json[name] for name in FULL} == FULL
    where = f"{PATH}/{made.json['id']}"
    assert (await admin.get(where)).json == made.json
    plain = await admin.put(where, {"name": "full", "method": "GET", "path": "/full"})
    assert plain.json["bodySchema"] is None
    again = await admin.put(where, FULL)
    assert {name: again.json[name] for name in FULL} == FULL


async def test_any_field_is_cleared_by_null(admin: User) -> None:
    made = (await admin.post(PATH, FULL)).json
    bare = (await admin.post(PATH, {"name": "bare", "method": "GET", "path": "/bare"})).json
    optional = [name for name in FULL if name not in {"name", "method", "path"}]
    cleared = await admin.patch(f"{PATH}/{made['id']}", dict.fromkeys(optional))

    assert cleared.status == 200
    assert {n: cleared.json[n] for n in optional} == {n: bare[n] for n in optional}


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("name", "", "/name"),
        ("name", "a\nb", "/name"),
        ("name", "01a20fbf-912d-7af9-aa70-787456ed8d23", "/name"),
        ("method", "get", "/method"),
        ("method", "TRACE", "/method"),
        ("path", "a", "/path"),
        ("path", "/a//b", "/path"),
        ("path", "/:a*/b", "/path"),
        ("path", "/:a/:a", "/path"),
        ("path", "/../a", "/path"),
        ("enabled", 1, "/enabled"),
        ("upstreamPath", "v1", "/upstreamPath"),
        ("upstreamPath", "/v1/:other", "/upstreamPath"),
        ("upstreamPath", "/v1/{other}", "/upstreamPath"),
        ("upstreamPath", "/v1/ü", "/upstreamPath"),
        ("upstreamContentType", "a\r\nb", "/upstreamContentType"),
        ("setHeaders", {"Host": "x"}, "/setHeaders/Host"),
        ("addHeaders", {"x": "a\nb"}, "/addHeaders/x"),
        ("removeHeaders", ["a b"], "/removeHeaders/0"),
        ("upstreamQueryParams", {"a": 1}, "/upstreamQueryParams/a"),
        ("bodyTransform", "upper", "/bodyTransform"),
        ("bodyTransform", "extract:", "/bodyTransform"),
        ("bodyTransform", "extract:a..b", "/bodyTransform"),
        ("bodyTransform", "form\n", "/bodyTransform"),
        ("bodyTransform", "template", "/upstreamStaticBody"),
        ("fieldMap", {"a": ""}, "/fieldMap/a"),
        ("fieldMap", {"a": 1}, "/fieldMap/a"),
        ("fieldMap", {"a": "b[0]"}, "/fieldMap"),
        ("fieldMap", {"a": "b", "a.b": "c"}, "/fieldMap"),
        ("fieldMap", {"[]": "[]"}, "/fieldMap"),
        ("fieldMap", [], "/fieldMap"),
        ("rateLimit", -1, "/rateLimit"),
        ("rateLimit", True, "/rateLimit"),
        ("retries", 6, "/retries"),
        ("mediaTypes", ["json"], "/mediaTypes/0"),
        ("bodySchema", "x", "/bodySchema"),
        ("bodySchema", {"type": "objekt"}, "/bodySchema"),
        ("bodySchema", {"$ref": "https://example.com/s.json"}, "/bodySchema"),
        ("bodyPattern", "(", "/bodyPattern"),
        ("bodyPattern", "(?=a)", "/bodyPattern"),
        ("bodyBlacklist", [""], "/bodyBlacklist/0"),
        ("errorMapping", {"abc": "x"}, "/errorMapping/abc"),
        ("examples", ["x"], "/examples/0"),
        ("examples", [{}] * 6, "/examples"),
        ("headerMapping", {}, "/headerMapping"),
        ("version", 1, "/version"),
    ],
)
def test_wrong_field_is_refused_at_its_place(field: str, value: Any, pointer: str) -> None:
    assert refused_at(SCHEMA, {**FIND, field: value}) == [pointer]


@pytest.mark.parametrize(
    "transform", ["passthrough", "static", "template", "form", "extract:a.0.b"]
)
async def test_every_body_transform_comes_back_as_it_was_sent(admin: User, transform: str) -> None:
    body = {**FIND, "bodyTransform": transform, "upstreamStaticBody": '{"a": {{body.a}}}'}
    made = await admin.post(PATH, body)

    assert made.status == 201, made.text
    found = (await admin.get(f"{PATH}/{made.json['id']}")).json
    assert {name: found[name] for name in body} == body


@pytest.mark.parametrize(
    ("text", "media_type", "is_kept"),
    [
        ('{"a": "{{body.a}}", "b": {{params.place}}, "c": "{{query.c}}"}', None, True),
        ('{"a": "{{body.a}}"', "application/json", False),
        ('{"a": "{{params.gone}}"}', None, False),
        ('{"a": "{{secrets.key}}"}', None, False),
        ("<a>{{body.a}}</a>", "text/xml", True),
        ("<a>{{body.a}}</a>", None, False),
    ],
)
def test_template_is_compiled_when_it_is_saved(
    text: str, media_type: str | None, is_kept: bool
) -> None:
    body = {**FIND, "bodyTransform": "template", "upstreamStaticBody": text, "upstreamContentType": media_type}  # fmt: skip

    if is_kept:
        assert SCHEMA.load(body)["upstream_static_body"] == text
    else:
        assert refused_at(SCHEMA, body) == ["/upstreamStaticBody"]


@pytest.mark.parametrize(
    ("name", "method", "path", "pointers"),
    [
        ("other", "GET", "/find/:place", ["/path"]),
        ("other", "GET", "/find/:somewhere", ["/path"]),
        ("find", "GET", "/elsewhere", ["/name"]),
        ("find", "GET", "/find/:x", ["/name", "/path"]),
    ],
)
async def test_second_of_a_name_or_a_route_is_a_conflict(
    name: str, method: str, path: str, pointers: list[str], admin: User
) -> None:
    answer = await admin.post(PATH, {"name": name, "method": method, "path": path})

    assert (answer.status, answer.json["code"], answer.pointers) == (409, "conflict", pointers)


async def test_different_shapes_live_beside_each_other(admin: User) -> None:
    for number, (method, path) in enumerate(
        [("POST", "/find/:x"), ("GET", "/find/me"), ("GET", "/find/:x*"), ("GET", "/find/:x.json")]
    ):
        answer = await admin.post(PATH, {"name": f"n{number}", "method": method, "path": path})
        assert answer.status == 201, answer.text


async def test_conflict_within_a_create_points_to_the_second(admin: User) -> None:
    body = {"slug": "second", "upstreamBaseUrl": "https://a.example.com"}
    endpoints = [
        {"name": "a", "method": "GET", "path": "/a/:x"},
        {"name": "b", "method": "GET", "path": "/b"},
        {"name": "b", "method": "GET", "path": "/a/:y"},
    ]
    answer = await admin.post("/connectors", {**body, "endpoints": endpoints})

    assert (answer.status, answer.pointers) == (409, ["/endpoints/2/name", "/endpoints/2/path"])
    assert (await admin.get("/connectors/second")).status == 404


async def test_of_simultaneous_creates_of_one_shape_one_succeeds(admin: User) -> None:
    """Their texts differ, so that no constraint of the database could tell."""
    bodies = [{"name": f"n{n}", "method": "GET", "path": f"/same/:x{n}"} for n in range(8)]
    answers = await asyncio.gather(*(admin.post(PATH, body) for body in bodies))

    assert sorted(answer.status for answer in answers) == [201] + [409] * 7


async def test_edit_may_not_take_anothers_route_but_keep_its_own(admin: User) -> None:
    made = (await admin.post(PATH, FIND)).json
    where = f"{PATH}/{made['id']}"
    assert (await admin.patch(where, {"path": "/find/:place"})).status == 409
    assert (await admin.patch(where, {"path": "/more/:place", "timeout": 5})).status == 200
    assert (await admin.patch(where, {"path": "/more/:renamed"})).status == 200


async def test_of_two_edits_with_one_etag_one_succeeds(admin: User) -> None:
    made = await admin.post(PATH, FIND)
    where = f"{PATH}/{made.json['id']}"
    answers = await asyncio.gather(
        *(admin.patch(where, {"timeout": n}, If_Match=made.etag) for n in (1, 2))
    )

    assert sorted(answer.status for answer in answers) == [200, 412]
    assert (await admin.delete(where, If_Match=made.etag)).status == 412
    assert (await admin.delete(where, If_Match='"2"')).status == 204
    assert (await admin.get(where)).status == 404


async def test_each_change_is_a_new_version_of_the_connector(admin: User) -> None:
    async def version() -> int:
        return int((await admin.get("/connectors/maps")).json["version"])

    assert await version() == 1
    where = f"{PATH}/{(await admin.post(PATH, FIND)).json['id']}"
    assert await version() == 2
    await admin.patch(where, {"timeout": 5})
    assert await version() == 3
    await admin.patch(where, {"timeout": 5})
    assert await version() == 3
    await admin.delete(where)
    assert await version() == 4


async def test_endpoint_of_another_connector_is_unknown(admin: User, make_connector: Make) -> None:
    await make_connector(slug="second")
    (own,) = (await admin.get(PATH)).json["items"]
    for method, body in (("GET", None), ("PATCH", {"timeout": 1}), ("DELETE", None)):
        answer = await admin.call(method, f"/connectors/second/endpoints/{own['id']}", body)
        assert answer.status == 404, method


async def test_list_is_searched(admin: User) -> None:
    await admin.post(PATH, FIND)

    async def names(query: str) -> list[str]:
        return [item["name"] for item in await admin.all(PATH + query)]

    assert await names("") == ["find-more", "find"]
    assert await names("?sort=name") == ["find", "find-more"]
    assert await names("?q=more/") == ["find-more"]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("method", "ANY", "For several, make an endpoint for each."),
        ("method", "*", "GET, HEAD, POST, PUT, PATCH, DELETE"),
        ("path", "/users/{id}", "as in /users/:id"),
        ("path", "/files/*", ":rest*"),
        ("timeout", "30s", "an integer of milliseconds"),
        ("cacheTtl", "1h", "an integer of seconds"),
        ("maxRequestSize", "1MB", "an integer of bytes"),
        ("methods", ["GET"], 'did you mean "method"?'),
    ],
)
def test_what_others_write_is_refused_with_what_is_written_here(
    field: str, value: Any, said: str
) -> None:
    body = {"name": "find", "method": "GET", "path": "/find", field: value}
    with pytest.raises(ValidationError) as caught:
        EndpointSchema().load(body)
    messages: Any = caught.value.messages
    assert said in messages[field][0]
