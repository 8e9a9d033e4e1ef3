"""Each way to authenticate has a schema that says exactly what its implementation takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from admin.auth_config import SCHEMAS
from admin.connectors import SCHEMA
from gateway import upstream_auth
from tests.admin.client import Make, User, refused_at

CONFIGS: dict[str, dict[str, Any]] = {
    "none": {},
    "bearer": {"tokenRef": "api-key"},
    "basic": {"usernameRef": "user", "passwordRef": "word"},
    "header": {"headers": {"x-api-key": "{{secrets.key}}", "x-version": "2023-06-01"}},
    "query": {"paramName": "api_key", "secretRef": "key"},
}


def test_there_is_a_schema_for_each_type() -> None:
    assert list(SCHEMAS) == list(upstream_auth.TYPES) == list(CONFIGS)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_schema_has_the_fields_and_defaults_of_the_type(kind: str) -> None:
    schema = SCHEMAS[kind]
    for field in dataclasses.fields(upstream_auth.TYPES[kind]):
        wire = schema.fields[field.name]
        assert wire.required or wire.load_default == field.default, field.name
    assert set(schema.fields) == {f.name for f in dataclasses.fields(upstream_auth.TYPES[kind])}


@pytest.mark.parametrize("kind", CONFIGS)
async def test_configuration_comes_back_as_it_was_sent(
    kind: str, admin: User, make_connector: Make
) -> None:
    made = await make_connector(authType=kind, authConfig=CONFIGS[kind])
    found = await admin.get(f"/connectors/{made['id']}")

    assert made["authConfig"] == found.json["authConfig"] == CONFIGS[kind]
    again = await admin.put(
        f"/connectors/{made['id']}",
        {name: found.json[name] for name in ("slug", "upstreamBaseUrl", "authType", "authConfig")},
    )
    assert again.json["authConfig"] == CONFIGS[kind]


@pytest.mark.parametrize(
    ("kind", "config", "pointer"),
    [
        ("bearer", {"token": "x"}, "/authConfig/token"),
        ("bearer", {"tokenRef": "no spaces"}, "/authConfig/tokenRef"),
        ("bearer", {"tokenRef": 1}, "/authConfig/tokenRef"),
        ("bearer", [], "/authConfig"),
        ("bearer", None, "/authConfig"),
        ("basic", {"tokenRef": "x"}, "/authConfig/tokenRef"),
        ("header", {}, "/authConfig/headers"),
        ("header", {"headers": {}}, "/authConfig/headers"),
        ("header", {"headers": {"bad name": "x"}}, "/authConfig/headers/bad name"),
        ("header", {"headers": {"Host": "x"}}, "/authConfig/headers/Host"),
        ("header", {"headers": {"X-A": "a\r\nb"}}, "/authConfig/headers/X-A"),
        ("query", {"paramName": ""}, "/authConfig/paramName"),
        ("none", {"tokenRef": "x"}, "/authConfig/tokenRef"),
        ("aws", {}, "/authType"),
        (["bearer"], {}, "/authType"),
    ],
)
def test_wrong_configuration_is_refused_at_its_place(kind: Any, config: Any, pointer: str) -> None:
    body = {"slug": "maps", "upstreamBaseUrl": "https://a.example.com"}

    assert refused_at(SCHEMA, {**body, "authType": kind, "authConfig": config}) == [pointer]


async def test_type_alone_has_the_defaults_of_the_type(make_connector: Make) -> None:
    made = await make_connector(authType="basic")

    assert made["authConfig"] == {"usernameRef": "username", "passwordRef": "password"}
