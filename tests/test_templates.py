"""Templates: read in order, valid, complete, and each endpoint gets its answer from a mock upstream."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
import pytest

import templates
from admin.connectors import CREATE
from admin.templates import documents, variables
from admin.templates.catalogue import Instantiation
from gateway.exchange import Outgoing
from gateway.model import Connector, ConnectorDefinition, EndpointDefinition
from gateway.transform import auth as upstream_auth
from gateway.transform import request as mapping
from gateway.transform import rules
from gateway.transform.compiling import compile_connector, definition_of
from gateway.transform.request import MappingFault
from tests.templates import instance
from tests.templates.instance import camel, outgoing, snapshot
from tests.templates.mock import Call
from tests.templates.services import EVERY_CALL, SERVICES, variables_of

IDS = list(SERVICES)
CALLS = [
    pytest.param(id_, call, id=f"{id_}-{number}-{call.endpoint}")
    for id_, number, call in EVERY_CALL
]
CATEGORIES = {"ai", "analytics", "database", "email", "infrastructure", "messaging"}
CATEGORIES |= {"payments", "storage", "video"}


def connector(id_: str, base_url: str = "https://upstream.example") -> Connector:
    entry = SERVICES[id_]
    return instance.connector(id_, entry.SECRETS, base_url, variables_of(entry))


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
    names = tuple(templates.all())

    assert names[: len(templates.FIRST)] == templates.FIRST
    assert sorted(names[len(templates.FIRST) :]) == list(names[len(templates.FIRST) :])


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
        (
            b'{"x": [{"a": 1, "a": 2}]}',
            r"templates/broken\.json: \"a\" is there twice in one object",
        ),
    ],
)
def test_broken_file_is_named_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "broken.json").write_bytes(content)

    with pytest.raises(templates.TemplateFault, match=message):
        templates.load(tmp_path)


@pytest.mark.parametrize("id_", IDS)
def test_template_is_valid(id_: str) -> None:
    assert documents.faults(templates.all()[id_]) == []


@pytest.mark.parametrize("id_", IDS)
def test_template_in_the_box_says_all_that_a_gallery_shows(id_: str) -> None:
    template = templates.all()[id_]
    made = template["connector"]

    assert all(template[name] for name in ("description", "category", "icon", "documentationUrl"))
    assert template["category"] in CATEGORIES
    assert all(tag == tag.lower() for tag in made["tags"])
    assert {"displayName", "description", "authType", "responseMode"} <= made.keys()
    assert all(entry["description"] for entry in template["endpoints"])
    assert all(example["description"] and "input" in example for example in examples(template))
    for link in (made["documentationUrl"], *(s["url"] for s in template["secrets"] if "url" in s)):
        assert link.startswith("https://")


def test_variables_stand_where_they_are_put_in() -> None:
    """Elsewhere they would be shown, or sent, as they are written."""
    for template in templates.all().values():
        plain = filled_with_examples(template)
        assert "{{variables" not in json.dumps(plain), template["id"]


def filled_with_examples(template: dict[str, Any]) -> dict[str, Any]:
    chosen = {variable["name"]: variable["example"] for variable in template["variables"]}
    own = {} if "upstreamBaseUrl" in template["connector"] else {"upstream_base_url": "https://x.y"}
    return documents.filled(template, {"variables": chosen, **own})


def examples(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in template["endpoints"]:
        yield from entry.get("examples", [])


def test_schema_says_everything_that_a_connector_can() -> None:
    parts = templates.schema()["$defs"]
    of_connector = {camel(field.name) for field in dataclasses.fields(ConnectorDefinition)}
    of_endpoint = {camel(field.name) for field in dataclasses.fields(EndpointDefinition)}
    columns = {"slug", "displayName", "tags"}

    assert set(parts["connector"]["properties"]) == of_connector | columns
    assert set(parts["endpoint"]["properties"]) == of_endpoint | {
        "name",
        "method",
        "path",
        "enabled",
    }


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
        ("connector/surprise", 1),
        ("connector/upstreamBaseUrl", "ftp://example.org"),
        ("connector/upstreamBaseUrl", "https://user:pass@example.org"),
        ("connector/authType", "magic"),
        ("connector/authConfig", {"headers": {}}),
        ("connector/authType", "aws-sigv4"),
        ("connector/defaultTimeout", 0),
        ("endpoints/0/examples", ["x"]),
        ("secrets", [{"name": "token", "description": "x", "env": "a b"}]),
        ("endpoints/0/surprise", 1),
        ("endpoints/0/method", "BREW"),
        ("endpoints/0/path", "streams"),
        ("endpoints/0/bodyTransform", "binary"),
        ("endpoints/0/bodyTransform", "extract:"),
        ("endpoints/0/fieldMap", {"a": ""}),
        ("endpoints/0/fieldMap", {"": "a"}),
        ("endpoints/0/retries", 6),
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


def example_path(pattern: str) -> str:
    """A path that a pattern matches."""
    return re.sub(r"(?<=/):[A-Za-z]+\*?", "x", pattern)


@pytest.mark.parametrize("id_", IDS)
def test_every_endpoint_compiles_with_the_secrets_set(id_: str) -> None:
    made = connector(id_)
    template = templates.all()[id_]

    for entry in template["endpoints"]:
        call = Call("", entry["method"], example_path(entry["path"]))
        match = made.router.match(call.method, call.path)
        assert match.route.name == entry["name"]
        assert match.route.mapped.missing_secret is None


@pytest.mark.parametrize("id_", IDS)
def test_secrets_declared_are_the_secrets_used(id_: str) -> None:
    template = templates.all()[id_]
    made = snapshot(template, "https://example.org", variables_of(SERVICES[id_]))
    used = mapping.secret_names(
        definition_of(ConnectorDefinition, made["definition"]),
        [definition_of(EndpointDefinition, entry["definition"]) for entry in made["endpoints"]],
    )

    assert [secret["name"] for secret in template["secrets"]] == list(used)
    assert set(SERVICES[id_].SECRETS) == set(used)
    if used:
        unset = instance.connector(id_, {}, variables=variables_of(SERVICES[id_]))
        assert all(
            unset.router.match(e["method"], e["path"]).route.mapped.missing_secret
            for e in template["endpoints"]
            if ":" not in e["path"]
        )


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
    base = urlsplit(
        filled_with_examples(templates.all()[id_]).get("upstreamBaseUrl", "https://given.example")
    )

    assert base.scheme == "https"
    assert "." in str(base.hostname)
    assert "YOUR" not in base.netloc.upper()
    assert "allowedHosts" not in made


def test_upstream_url_is_asked_for_where_there_is_no_public_one() -> None:
    without = {id_ for id_ in IDS if "upstreamBaseUrl" not in templates.all()[id_]["connector"]}

    assert without - {"s3"} == {"clickhouse"}  # these are servers of one's own


def test_host_of_the_original_is_the_one_that_is_allowed() -> None:
    """A bare parent domain in the allow-list refuses the real host."""
    given = {"variables": {"project": "abcdefghijklmnopqrst"}}
    made = CREATE.load(documents.filled(templates.all()["supabase"], given))

    assert made["allowed_hosts"] == ["abcdefghijklmnopqrst.supabase.co"]


@pytest.mark.parametrize("id_", IDS)
def test_health_is_asked_at_a_path_that_says_something(id_: str) -> None:
    """At / there is a page for people, or nothing."""
    assert templates.all()[id_]["connector"]["healthCheckPath"] != "/"


@pytest.mark.parametrize("id_", IDS)
def test_only_safe_methods_are_cached(id_: str) -> None:
    made = templates.all()[id_]["endpoints"]

    assert {entry["method"] for entry in made if entry.get("cacheTtl")} <= {"GET", "HEAD"}


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
            path = example_path(entry["path"])
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
    wrong, chosen = dict.fromkeys(entry.SECRETS, "wrong"), variables_of(entry)
    base_url, stop = await entry.start()
    try:
        made = instance.connector(id_, wrong, base_url, chosen)
        _, request = outgoing(made, entry.CALLS[0])
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

    assert {id_ for id_, mode in modes.items() if mode != "raw"} == {
        "daydream",
        "livepeer-leaderboard",
        "livepeer-studio",
    }


@pytest.mark.parametrize("id_", IDS)
def test_an_answer_that_may_stream_is_let(id_: str) -> None:
    """Whatever is streamed in a call: events, audio, files."""
    made = connector(id_)
    for call in SERVICES[id_].CALLS:
        if call.holds.startswith((b"data:", b"event:")):
            assert outgoing(made, call)[0].streaming, call


@pytest.mark.parametrize("id_", IDS)
def test_streams_have_time(id_: str) -> None:
    template = templates.all()[id_]
    streaming = [
        entry
        for entry in template["endpoints"]
        if entry.get("streamingEnabled", template["connector"]["streamingEnabled"])
    ]

    assert all(entry.get("timeout", 0) >= 60_000 for entry in streaming)


PAGE = Path(__file__).parents[1].joinpath("docs", "templates.md").read_text("utf-8")


def row(template: dict[str, Any]) -> str:
    """What the page says of a template."""
    variables = [
        f"`{v['name']}`: {v['description']} "
        + (f"Default: `{v['default']}`." if "default" in v else f"As in `{v['example']}`.")
        for v in template["variables"]
    ]
    secrets = [
        f"`{s['name']}`"
        + (f" (`{s['env']}`)" if "env" in s else "")
        + f": {s['description']}"
        + (f" [Get one]({s['url']})" if "url" in s else "")
        for s in template["secrets"]
    ]
    link = f"[`{template['id']}`]({template['documentationUrl']})"
    cells = [link, template["description"], "<br>".join(variables), "<br>".join(secrets)]
    assert not any("|" in cell for cell in cells)
    return "| " + " | ".join(cells) + " |"


def test_page_tells_every_template_in_the_box() -> None:
    told = [line for line in PAGE.split("\n") if line.startswith("| [`")]
    expected = [row(template) for template in templates.all().values()]

    assert told == expected, "the table should be\n" + "\n".join(expected)


def test_document_that_the_page_shows_is_valid() -> None:
    shown = [
        json.loads(text)
        for text in re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)
        if '"connector": {\n' in text
    ]

    assert [document["id"] for document in shown] == ["weather"]
    assert documents.faults(shown[0]) == []


def test_page_says_where_variables_may_stand() -> None:
    (told,) = re.findall(
        r"^- `\{\{variables\.name\}\}` may stand (.*?)\. Elsewhere", PAGE, re.M | re.S
    )

    assert re.findall(r"`(\w+)`", told) == [*variables.OF_CONNECTOR, *variables.OF_ENDPOINT]


def test_page_says_what_must_be_there() -> None:
    parts = templates.schema()
    (told,) = re.findall(r"^(`id`, .*?) are all that must be there", PAGE, re.M | re.S)

    assert re.findall(r"`([\w.]+)`", told) == [
        *(name for name in parts["required"] if name not in {"connector", "endpoints"}),
        *(f"connector.{name}" for name in parts["$defs"]["connector"]["required"]),
        *parts["$defs"]["endpoint"]["required"],
    ]


def test_page_tells_every_field_of_a_post() -> None:
    told = re.findall(r"^\| `(\w+)` \|.*", PAGE, re.M)
    fields = {str(field.data_key) for field in Instantiation().load_fields.values()}

    assert set(told) | {"template", "templateIds"} == fields
