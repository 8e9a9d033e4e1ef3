"""Templates: read in order, valid, complete, and each endpoint gets its answer from a mock upstream."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import h11
import pytest

import templates
from gateway import mapping, rules, upstream_auth
from gateway.exchange import Outgoing
from gateway.mapping import MappingFault
from gateway.model import (
    Connector,
    ConnectorDefinition,
    EndpointDefinition,
    compile_connector,
    definition_of,
)
from tests.templates import ai_llm, clickhouse, daydream, gemini, instance, livepeer_leaderboard
from tests.templates.instance import camel, outgoing, snapshot
from tests.templates.mock import Call, Stop


class Service(Protocol):
    SECRETS: Mapping[str, str]
    CALLS: list[Call]

    async def start(self) -> tuple[str, Stop]: ...


def service(module: ModuleType) -> Service:
    return cast("Service", module)


SERVICES = {
    "daydream": service(daydream),
    "ai-llm": service(ai_llm),
    "clickhouse": service(clickhouse),
    "gemini": service(gemini),
    "livepeer-leaderboard": service(livepeer_leaderboard),
}
IDS = list(SERVICES)
CALLS = [
    pytest.param(id_, call, id=f"{id_}-{number}-{call.endpoint}")
    for id_, entry in SERVICES.items()
    for number, call in enumerate(entry.CALLS)
]


def connector(id_: str, base_url: str = "https://upstream.example") -> Connector:
    return instance.connector(id_, SERVICES[id_].SECRETS, base_url)


async def exchange_bytes(base_url: str, request: Outgoing, body: bytes) -> tuple[int, bytes]:
    """Send a request byte for byte and read the answer strictly."""
    where = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    content = body if request.body is None else request.body
    length = [(b"Content-Length", b"%d" % len(content))] if content else []
    fields = [
        (b"Host", where.netloc.encode()),
        (b"Connection", b"close"),
        *request.headers,
        *length,
    ]
    client = h11.Connection(h11.CLIENT)
    head = h11.Request(method=request.method, target=request.target, headers=fields)
    for event in (head, h11.Data(data=content), h11.EndOfMessage()):
        writer.write(client.send(event) or b"")
    status, pieces = 0, []
    while not isinstance(came := client.next_event(), h11.EndOfMessage):
        if isinstance(came, h11.Response):
            status = came.status_code
        elif isinstance(came, h11.Data):
            pieces.append(bytes(came.data))
        else:
            client.receive_data(await reader.read(65536))
    writer.close()
    await writer.wait_closed()
    return status, b"".join(pieces)


def texts(node: Any) -> Iterator[str]:
    """Every text of a document, at any depth."""
    match node:
        case str():
            yield node
        case dict() | list():
            for child in node.values() if isinstance(node, dict) else node:
                yield from texts(child)


def test_templates_come_in_the_order_of_importance() -> None:
    assert tuple(templates.all()) == templates.FIRST == tuple(IDS)


def test_schema_is_no_template() -> None:
    assert "template" not in {name.partition(".")[0] for name in templates.all()}
    assert templates.schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_templates_are_read_once() -> None:
    assert templates.all() is templates.all()
    with pytest.raises(TypeError):
        templates.all()["new"] = {}  # type: ignore[index] # that is what is tried


def test_unnamed_templates_follow_by_name(tmp_path: Path) -> None:
    for name in ("zebra", "gemini", "aardvark", "daydream"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"id": name}))
    (tmp_path / "other.schema.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("no template")

    assert list(templates.load(tmp_path)) == ["daydream", "gemini", "aardvark", "zebra"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "id": "broken",\n  oops\n}', r"templates/broken\.json:3:3: .*double quotes"),
        (b"", r"templates/broken\.json:1:1: Expecting value"),
        (b'{"id": "\xff"}', r"templates/broken\.json: byte 8 is not UTF-8"),
        (b"[]", r"templates/broken\.json:1:1: a template is a JSON object"),
        (b'{"id": "other"}', r"templates/broken\.json: its id is not the file's name"),
    ],
)
def test_broken_file_is_named_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "broken.json").write_bytes(content)

    with pytest.raises(templates.TemplateFault, match=message):
        templates.load(tmp_path)


@pytest.mark.parametrize("id_", IDS)
def test_template_is_valid(id_: str) -> None:
    validator = rules.compile_schema(templates.schema())

    faults = [
        f"{rules.pointer(fault.instance_path)}: {fault.message}"
        for fault in validator.iter_errors(templates.all()[id_])
    ]
    assert faults == []


def test_schema_says_everything_that_a_connector_can() -> None:
    parts = templates.schema()["$defs"]
    of_connector = {camel(field.name) for field in dataclasses.fields(ConnectorDefinition)}
    of_endpoint = {camel(field.name) for field in dataclasses.fields(EndpointDefinition)}
    columns = {"slug", "displayName", "tags"}

    assert set(parts["connector"]["properties"]) == of_connector | columns
    assert set(parts["endpoint"]["properties"]) == of_endpoint | {"name", "method", "path"}


def test_schema_knows_the_auth_types_and_their_settings() -> None:
    part = templates.schema()["$defs"]["connector"]
    settings = {
        rule["if"]["properties"]["authType"]["const"]: set(
            rule["then"]["properties"]["authConfig"].get("properties", {})
        )
        for rule in part["allOf"]
    }

    assert part["properties"]["authType"]["enum"] == list(upstream_auth.TYPES)
    assert settings == {
        name: {camel(field.name) for field in dataclasses.fields(auth)}
        for name, auth in upstream_auth.TYPES.items()
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("surprise", 1),
        (
            "variables",
            [{"name": "account", "description": "x", "pattern": "[a-z]+", "example": "a"}],
        ),
        ("variables", [{"name": "a b", "description": "x", "pattern": "^a$", "example": "a"}]),
        ("secrets", [{"name": "to ken", "description": "x"}]),
        ("secrets", [{"name": "token", "description": "x", "env": "lower"}]),
        ("endpoints", []),
        ("connector/surprise", 1),
        ("connector/upstreamBaseUrl", "ftp://example.org"),
        ("connector/upstreamBaseUrl", "https://user:pass@example.org"),
        ("connector/authType", "magic"),
        ("connector/authConfig", {"headers": {}}),
        ("connector/authType", "aws-sigv4"),
        ("connector/defaultTimeout", 0),
        ("connector/healthCheckPath", "/"),
        ("endpoints/0/surprise", 1),
        ("endpoints/0/method", "BREW"),
        ("endpoints/0/path", "streams"),
        ("endpoints/0/bodyTransform", "binary"),
        ("endpoints/0/bodyTransform", "static"),
        ("endpoints/0/bodyTransform", "template"),
        ("endpoints/0/bodyTransform", "extract:"),
        ("endpoints/0/fieldMap", {"a": ""}),
        ("endpoints/0/fieldMap", {"": "a"}),
        ("endpoints/0/upstreamStaticBody", "x"),
        ("endpoints/0/cacheTtl", 60),
        ("endpoints/0/retries", 6),
        ("endpoints/0/examples", [{"input": {}}]),
    ],
)
def test_schema_refuses(path: str, value: Any) -> None:
    validator = rules.compile_schema(templates.schema())
    template = copy.deepcopy(templates.all()["daydream"])
    *parents, last = path.split("/")
    node: Any = template
    for name in parents:
        node = node[int(name) if name.isdigit() else name]
    assert validator.is_valid(template)

    node[last] = value

    assert not validator.is_valid(template)


@pytest.mark.parametrize("id_", IDS)
def test_every_endpoint_compiles_with_the_secrets_set(id_: str) -> None:
    made = connector(id_)
    template = templates.all()[id_]

    for entry in template["endpoints"]:
        call = Call("", entry["method"], re.sub(r"(?<=/):[A-Za-z]+\*?", "x", entry["path"]))
        match = made.router.match(call.method, call.path)
        assert match.route.name == entry["name"]
        assert match.route.mapped.missing_secret is None


@pytest.mark.parametrize("id_", IDS)
def test_secrets_declared_are_the_secrets_used(id_: str) -> None:
    template = templates.all()[id_]
    made = snapshot(template, "https://example.org")
    used = mapping.secret_names(
        definition_of(ConnectorDefinition, made["definition"]),
        [definition_of(EndpointDefinition, entry["definition"]) for entry in made["endpoints"]],
    )

    assert [secret["name"] for secret in template["secrets"]] == list(used)
    assert set(SERVICES[id_].SECRETS) == set(used)
    if used:
        unset = instance.connector(id_, {})
        assert all(
            unset.router.match(e["method"], e["path"]).route.mapped.missing_secret
            for e in template["endpoints"]
            if ":" not in e["path"]
        )


@pytest.mark.parametrize("id_", IDS)
def test_variables_declared_are_the_variables_used(id_: str) -> None:
    template = templates.all()[id_]
    used = set(re.findall(r"\{\{variables\.([A-Za-z0-9_]+)\}\}", "\n".join(texts(template))))

    assert {variable["name"] for variable in template["variables"]} == used


@pytest.mark.parametrize("id_", IDS)
def test_gallery_and_connector_agree(id_: str) -> None:
    template = templates.all()[id_]
    made = template["connector"]

    assert made["slug"] == id_
    assert made["category"] == template["category"]
    assert made["documentationUrl"] == template["documentationUrl"]


@pytest.mark.parametrize("id_", IDS)
def test_upstream_is_public_and_its_host_is_allowed(id_: str) -> None:
    """A template with a local or placeholder host, or an allow-list of another one, can't work."""
    made = templates.all()[id_]["connector"]
    base = urlsplit(made.get("upstreamBaseUrl", "https://given.example"))

    assert base.scheme == "https"
    assert "." in str(base.hostname)
    assert "YOUR" not in base.netloc.upper()
    assert "allowedHosts" not in made


def test_upstream_url_is_asked_for_where_there_is_no_public_one() -> None:
    without = {id_ for id_ in IDS if "upstreamBaseUrl" not in templates.all()[id_]["connector"]}

    assert without == {"clickhouse"}


def test_parameter_without_a_source_does_not_compile() -> None:
    made = snapshot(templates.all()["daydream"], "https://example.org")
    made["endpoints"][0]["definition"]["upstream_path"] = "/accounts/{account_sid}/streams"

    with pytest.raises(MappingFault, match="account_sid"):
        compile_connector(made, team="t1", secrets={})


@pytest.mark.parametrize("id_", IDS)
def test_content_type_is_left_to_the_caller_or_is_what_the_service_takes(id_: str) -> None:
    forced = {
        entry["name"]: entry["upstreamContentType"]
        for entry in templates.all()[id_]["endpoints"]
        if "upstreamContentType" in entry
    }

    assert forced == ({"query": "text/plain; charset=UTF-8"} if id_ == "clickhouse" else {})


@pytest.mark.parametrize("id_", IDS)
def test_only_safe_methods_are_repeated(id_: str) -> None:
    made = templates.all()[id_]["endpoints"]

    assert {entry["method"] for entry in made if entry.get("retries")} <= {"GET"}


@pytest.mark.parametrize("id_", IDS)
def test_examples_keep_the_rules_of_their_endpoint(id_: str) -> None:
    made = connector(id_)
    for entry in templates.all()[id_]["endpoints"]:
        for example in entry.get("examples", []):
            sent = example["input"]
            body = sent.encode() if isinstance(sent, str) else json.dumps(sent).encode()
            path = entry["path"].replace(":id", "x").replace(":model", "x")
            endpoint = made.router.match(entry["method"], path).route
            assert endpoint.name == entry["name"]
            endpoint.rules.check_body(body)


@pytest.mark.parametrize("id_", IDS)
def test_every_endpoint_is_called(id_: str) -> None:
    names = [entry["name"] for entry in templates.all()[id_]["endpoints"]]

    assert list(dict.fromkeys(call.endpoint for call in SERVICES[id_].CALLS)) == names


@pytest.mark.parametrize(("id_", "call"), CALLS)
async def test_call_gets_the_upstreams_answer(id_: str, call: Call) -> None:
    base_url, stop = await SERVICES[id_].start()
    try:
        endpoint, request = outgoing(connector(id_, base_url), call)
        status, content = await exchange_bytes(base_url, request, call.body)
    finally:
        await stop()

    assert endpoint.name == call.endpoint
    assert (status, call.holds in content) == (call.status, True), content


@pytest.mark.parametrize("id_", [id_ for id_ in IDS if SERVICES[id_].SECRETS])
async def test_wrong_secret_is_refused_by_the_mock(id_: str) -> None:
    entry = SERVICES[id_]
    wrong = dict.fromkeys(entry.SECRETS, "wrong")
    base_url, stop = await entry.start()
    try:
        _, request = outgoing(instance.connector(id_, wrong, base_url), entry.CALLS[0])
        status, _ = await exchange_bytes(base_url, request, entry.CALLS[0].body)
    finally:
        await stop()

    assert status in {400, 401, 403}


@pytest.mark.parametrize(("id_", "call"), CALLS)
def test_callers_credential_stays_here(id_: str, call: Call) -> None:
    """The gateway's own key, in whatever field the service's client sends it."""
    clients = {**call.headers, "x-goog-api-key": "gw_key"} if id_ == "gemini" else call.headers

    _, request = outgoing(connector(id_), call._replace(headers=clients))

    assert b"gw_key" not in b"".join(value for _, value in request.headers)
    assert "gw_key" not in request.target


def test_answers_are_raw_where_a_client_of_the_service_reads_them() -> None:
    modes = {id_: templates.all()[id_]["connector"]["responseMode"] for id_ in IDS}

    assert modes == {
        "daydream": "envelope",
        "ai-llm": "raw",
        "clickhouse": "raw",
        "gemini": "raw",
        "livepeer-leaderboard": "envelope",
    }


def test_streams_have_no_total_deadline_and_nothing_else_lacks_one() -> None:
    streaming = {
        entry["name"]
        for id_ in IDS
        for entry in templates.all()[id_]["endpoints"]
        if entry.get("streamingEnabled", templates.all()[id_]["connector"]["streamingEnabled"])
    }
    of_llm = {"chat-completions", "completions", "responses"}

    expected = of_llm | {f"v1-{name}" for name in of_llm} | {"messages", "stream-generate-content"}
    assert streaming == expected
