"""A connector as a template: exported and made again, it is the same, without anybody's secrets."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import templates
from admin import connectors, endpoints
from admin.templates.documents import faults, filled
from admin.templates.export import template_of
from gateway.problems import Rejected
from tests.admin.client import Make, User

ENDPOINT = endpoints.EndpointSchema()
OF_THE_OBJECT = {"id", "createdAt", "updatedAt", "publishedAt", "createdBy", "version"}
OF_THE_OBJECT |= {"publishedVersion", "publishFaults", "status"}
RICH: dict[str, Any] = {
    "slug": "rich",
    "displayName": "Rich",
    "description": "All that a connector can say.",
    "category": "maps",
    "tags": ["A tag", "b"],
    "documentationUrl": "http://docs.example.com/",
    "schemas": {"Point": {"type": "object", "required": ["x"]}},
    "upstreamBaseUrl": "https://api.example.com:8443/v2",
    "allowedHosts": ["api.example.com", "*.api.example.com"],
    "targets": [{"url": "https://eu.api.example.com", "weight": 3, "priority": 1}],
    "loadBalancing": "least-request",
    "authType": "header",
    "authConfig": {"headers": {"x-key": "k {{secrets.api-key}}", "x-plain": "1"}},
    "defaultTimeout": 1,
    "connectTimeout": 2,
    "idleTimeout": 3,
    "healthCheckPath": "/ping?deep=1",
    "responseMode": "envelope",
    "streamingEnabled": True,
    "errorMapping": {"404": "Not there."},
    "passCookies": True,
    "forwardedHeaders": "x-forwarded",
    "sandboxResponses": False,
    "maxConnections": 5,
    "maxWaiting": 0,
    "endpoints": [
        {
            "name": "An odd name!",
            "description": "",
            "method": "POST",
            "path": "/a/:id/:rest*",
            "enabled": False,
            "upstreamMethod": "PUT",
            "upstreamPath": "/b/:id?x={rest}",
            "upstreamContentType": "application/xml",
            "upstreamQueryParams": {"fixed": ""},
            "defaultQueryParams": {"d": "1"},
            "setHeaders": {"x-set": "{{secrets.other}}"},
            "addHeaders": {"x-add": ""},
            "removeHeaders": ["x-gone"],
            "bodyTransform": "template",
            "upstreamStaticBody": "<a>{{body.x}}</a>",
            "responseMode": "raw",
            "streamingEnabled": False,
            "rateLimit": 0,
            "timeout": 9,
            "idleTimeout": 8,
            "maxRequestSize": 0,
            "maxResponseSize": 7,
            "requiredHeaders": ["X-Must"],
            "mediaTypes": ["application/json"],
            "bodySchema": {},
            "bodyPattern": ".",
            "bodyBlacklist": ["drop"],
            "retries": 5,
            "fieldMap": {"a[].b": "c[].d"},
            "errorMapping": {"500": "Broken."},
            "examples": [{"anything": [1]}],
        },
        {"name": "empty body", "method": "POST", "path": "/s", "bodyTransform": "static",
         "upstreamStaticBody": ""},
        {"name": "any", "method": "POST", "path": "/t", "bodySchema": False},
        {"name": "cached", "method": "GET", "path": "/", "cacheTtl": 5, "encodedSlashes": "allow"},
    ],
}  # fmt: skip


async def said(user: User, slug: str) -> dict[str, Any]:
    """A connector with its endpoints, without what belongs to the object alone."""
    found = (await user.get(f"/connectors/{slug}")).json
    own = [
        {name: value for name, value in entry.items() if name not in OF_THE_OBJECT}
        for entry in await user.all(f"/connectors/{slug}/endpoints")
    ]
    return {n: v for n, v in found.items() if n not in OF_THE_OBJECT} | {"endpoints": own}


async def test_everything_that_a_connector_says_comes_again(
    admin: User, viewer: User, stranger: User, make_connector: Make
) -> None:
    await make_connector(**RICH, secrets={"api-key": "very secret"})
    exported = await viewer.get("/connectors/rich/template")
    assert exported.status == 200
    assert "very secret" not in exported.text
    assert [secret["name"] for secret in exported.json["secrets"]] == ["api-key", "other"]

    made = await stranger.post("/templates", {"template": exported.json})

    assert made.status == 201, made.text
    assert [f["pointer"] for f in made.json["publishFaults"]] == [
        "/secrets/api-key",
    ]
    assert await said(stranger, "rich") == await said(admin, "rich")
    again = (await stranger.get("/connectors/rich/template")).json
    assert again == exported.json


async def test_rich_says_all_there_is() -> None:
    wire = {str(f.data_key) for f in connectors.SCHEMA.load_fields.values()}
    wire_of_endpoint = {str(f.data_key) for f in ENDPOINT.load_fields.values()}

    assert wire <= RICH.keys()
    assert wire_of_endpoint <= {name for entry in RICH["endpoints"] for name in entry}


@pytest.mark.parametrize("template_id", templates.all())
async def test_each_template_in_the_box_comes_again(
    template_id: str, admin: User, stranger: User
) -> None:
    template = templates.all()[template_id]
    variables = {variable["name"]: variable["example"] for variable in template["variables"]}
    body: dict[str, Any] = {"templateId": template_id, "variables": variables, "publish": False}
    if "upstreamBaseUrl" not in template["connector"]:
        body["upstreamBaseUrl"] = "https://chosen.example.com"
    made = await admin.post("/templates", body)
    exported = (await admin.get(f"/connectors/{made.json['id']}/template")).json

    assert faults(exported) == []
    assert (await stranger.post("/templates", {"template": exported})).status == 201
    slug = template["connector"]["slug"]
    assert await said(stranger, slug) == await said(admin, slug)
    names = [secret["name"] for secret in exported["secrets"]]
    assert names == [secret["name"] for secret in template["secrets"]]


async def test_reference_to_the_environment_comes_along(admin: User) -> None:
    await admin.post("/templates", {"templateId": "daydream"})
    exported = (await admin.get("/connectors/daydream/template")).json
    assert [secret["env"] for secret in exported["secrets"]] == ["DAYDREAM_API_KEY"]

    made = (await admin.post("/templates", {"template": exported, "slug": "second"})).json

    assert made["status"] == "published"


async def test_connector_without_endpoints_comes_again(admin: User, make_connector: Make) -> None:
    await make_connector(endpoints=[], upstreamBaseUrl="https://<YOUR_ACCOUNT>.example.com")
    exported = (await admin.get("/connectors/maps/template")).json
    made = await admin.post("/templates", {"template": exported, "slug": "second"})

    assert (made.status, made.json["status"]) == (201, "draft"), made.text


async def test_what_a_template_would_fill_in_is_not_exported(
    admin: User, make_connector: Make
) -> None:
    await make_connector(upstreamBaseUrl="https://{{variables.region}}.example.com")
    answer = await admin.get("/connectors/maps/template")

    assert (answer.status, answer.json["code"]) == (409, "conflict")
    assert "{{variables.region}}" in answer.json["detail"]


async def test_other_teams_connector_is_not_exported(stranger: User, make_connector: Make) -> None:
    made = await make_connector()

    for name in (made["id"], "maps", "nothing"):
        assert (await stranger.get(f"/connectors/{name}/template")).status == 404


# Names, texts and numbers of all sorts; what has to compile is taken from a few that do.
NAME = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=20)
FIELD = st.text(string.ascii_letters + "-", min_size=1, max_size=20).map("x".__add__)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
LINE = st.text(string.ascii_letters + " é", max_size=20)
FULL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
HEADERS = st.dictionaries(FIELD, LINE, max_size=3)
QUERY = st.dictionaries(FULL, TEXT, max_size=3)
ERRORS = st.dictionaries(st.sampled_from(["400", "404", "503"]), FULL, max_size=2)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
AUTH = st.one_of(
    st.just(("none", {})),
    st.builds(lambda name: ("bearer", {"tokenRef": name}), NAME),
    st.builds(lambda a, b: ("basic", {"usernameRef": a, "passwordRef": b}), NAME, NAME),
    st.builds(lambda f, s: ("header", {"headers": {f: f"{{{{secrets.{s}}}}}"}}), FIELD, NAME),
    st.builds(lambda p, s: ("query", {"paramName": p, "secretRef": s}), FULL, NAME),
    st.just(("aws-sigv4", {"region": "eu-west-1", "signPayload": True})),
    st.just(("aws-sigv4", {"region": "auto", "sessionTokenRef": "t", "service": "iam"})),
    st.just(("passthrough", {"headerName": "X-Mine"})),
)
BODY = st.sampled_from(
    [
        {},
        {"bodyTransform": "static", "upstreamStaticBody": ""},
        {"bodyTransform": "template", "upstreamStaticBody": '{"a": {{body.a}}}'},
        {"bodyTransform": "form"},
        {"bodyTransform": "extract:a.0"},
    ]
)
COUNT = st.integers(0, 2**31 - 1)
OPTIONAL = {
    "description": TEXT,
    "enabled": st.booleans(),
    "upstreamMethod": st.sampled_from(["GET", "DELETE"]),
    "upstreamPath": st.sampled_from(["/", "/v1/:id", "/a?b={id}", "/%41"]),
    "upstreamQueryParams": QUERY,
    "defaultQueryParams": QUERY,
    "setHeaders": HEADERS,
    "addHeaders": HEADERS,
    "removeHeaders": st.lists(FIELD, max_size=2, unique=True),
    "responseMode": st.sampled_from(["raw", "envelope"]),
    "streamingEnabled": st.booleans(),
    "encodedSlashes": st.sampled_from(["refuse", "allow"]),
    "rateLimit": COUNT,
    "timeout": st.integers(1, 3_600_000),
    "maxRequestSize": st.integers(0, 1 << 40),
    "requiredHeaders": st.lists(FIELD, max_size=2, unique=True),
    "bodySchema": st.sampled_from([{}, True, False, {"type": "object"}]),
    "bodyPattern": st.sampled_from(["^a", "x|y"]),
    "bodyBlacklist": st.lists(FULL, max_size=2, unique=True),
    "cacheTtl": COUNT,
    "retries": st.integers(0, 5),
    "errorMapping": ERRORS,
    "examples": st.lists(st.dictionaries(TEXT, JSON, max_size=2), max_size=2),
}
ENDPOINTS = st.builds(
    lambda name, body, more: {"method": "POST", "path": "/:id", "name": name, **body, **more},
    FULL.map(str.strip).filter(bool).filter(str.isprintable),
    BODY,
    st.fixed_dictionaries({}, optional=OPTIONAL),
)
CONNECTORS = st.builds(
    lambda slug, auth, more, endpoint: {
        "slug": f"a{slug}z",
        "upstreamBaseUrl": "https://api.example.com/v1",
        "authType": auth[0],
        "authConfig": auth[1],
        **more,
        "endpoints": endpoint,
    },
    NAME,
    AUTH,
    st.fixed_dictionaries(
        {},
        optional={
            "displayName": FULL,
            "description": TEXT,
            "category": TEXT,
            "tags": st.lists(FULL, max_size=3, unique=True),
            "allowedHosts": st.just(["*.example.com"]),
            "defaultTimeout": st.integers(1, 3_600_000),
            "healthCheckPath": st.sampled_from(["/", "/up?x=1"]),
            "responseMode": st.sampled_from(["raw", "envelope"]),
            "streamingEnabled": st.booleans(),
            "errorMapping": ERRORS,
            "passCookies": st.booleans(),
            "maxWaiting": st.integers(0, 10_000),
        },
    ),
    st.lists(ENDPOINTS, max_size=1),
)


@given(CONNECTORS)
def test_whatever_a_connector_says_comes_again(said: dict[str, Any]) -> None:
    item = connectors.CREATE.load(said)
    try:
        document = template_of(item, item["endpoints"], {})
    except Rejected:
        pytest.fail("no text of these names a variable")

    assert faults(document) == []
    assert connectors.CREATE.load(filled(document, {"variables": {}})) == item
