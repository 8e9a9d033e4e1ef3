"""Each way to authenticate has a schema that says exactly what its implementation takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from admin.auth_config import SCHEMAS
from admin.connectors import SCHEMA
from gateway.transform import auth
from tests.admin.client import Make, User, refused_at

CONFIGS: dict[str, dict[str, Any]] = {
    "none": {},
    "bearer": {"tokenRef": "api-key"},
    "basic": {"usernameRef": "user", "passwordRef": "word"},
    "header": {"headers": {"x-api-key": "{{secrets.key}}", "x-version": "2023-06-01"}},
    "query": {"paramName": "api_key", "secretRef": "key"},
    "aws-sigv4": {
        "accessKeyRef": "id",
        "secretKeyRef": "key",
        "sessionTokenRef": "session",
        "region": "eu-west-3",
        "service": "execute-api",
        "signPayload": True,
    },
    "passthrough": {"headerName": "X-Upstream-Key"},
}


def test_there_is_a_schema_for_each_type() -> None:
    assert list(SCHEMAS) == list(auth.TYPES) == list(CONFIGS)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_schema_has_the_fields_and_defaults_of_the_type(kind: str) -> None:
    schema = SCHEMAS[kind]
    for field in dataclasses.fields(auth.TYPES[kind]):
        wire = schema.fields[field.name]
        assert wire.required or wire.load_default == field.default, field.name
    assert set(schema.fields) == {f.name for f in dataclasses.fields(auth.TYPES[kind])}


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
        ("aws-sigv4", {}, "/authConfig/region"),
        ("aws-sigv4", {"region": ""}, "/authConfig/region"),
        ("aws-sigv4", {"region": "eu west"}, "/authConfig/region"),
        ("aws-sigv4", {"region": "eu\n"}, "/authConfig/region"),
        ("aws-sigv4", {"region": "eu", "service": "s3/x"}, "/authConfig/service"),
        ("aws-sigv4", {"region": "eu", "accessKeyRef": "a b"}, "/authConfig/accessKeyRef"),
        ("aws-sigv4", {"region": "eu", "accessKeyRef": None}, "/authConfig/accessKeyRef"),
        ("aws-sigv4", {"region": "eu", "sessionTokenRef": ""}, "/authConfig/sessionTokenRef"),
        ("aws-sigv4", {"region": "eu", "signPayload": "yes"}, "/authConfig/signPayload"),
        ("aws-sigv4", {"region": "eu", "secretKey": "x"}, "/authConfig/secretKey"),
        ("passthrough", {"headerName": ""}, "/authConfig/headerName"),
        ("passthrough", {"headerName": "a b"}, "/authConfig/headerName"),
        ("passthrough", {"headerName": "Host"}, "/authConfig/headerName"),
        ("passthrough", {"headerName": "X-API-Key"}, "/authConfig/headerName"),
        ("passthrough", {"headerName": "x-forwarded-user"}, "/authConfig/headerName"),
        ("passthrough", {"headerName": "Cookie"}, "/authConfig/headerName"),
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


async def test_aws_needs_no_more_than_a_region(make_connector: Make) -> None:
    made = await make_connector(authType="aws-sigv4", authConfig={"region": "auto"})

    assert made["authConfig"] == {
        "accessKeyRef": "access_key", "secretKeyRef": "secret_key", "sessionTokenRef": None,
        "region": "auto", "service": "s3", "signPayload": False,
    }  # fmt: skip


async def test_secrets_of_a_signature_are_asked_for_and_checked(
    admin: User, make_connector: Make
) -> None:
    config = {"region": "auto", "sessionTokenRef": "session"}
    made = await make_connector(authType="aws-sigv4", authConfig=config)
    where = f"/connectors/{made['id']}/secrets"
    named = [item["name"] for item in (await admin.get(where)).json["items"]]
    refused = await admin.put(where, {"access_key": "AKIA/x", "secret_key": "any/thing,else"})

    assert named == ["access_key", "secret_key", "session"]
    assert (refused.status, refused.pointers) == (422, ["/access_key"])
