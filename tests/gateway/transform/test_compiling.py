"""What was published becomes what requests are served with: defaults put in, rules compiled, no secret shown."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gateway.model import ConnectorDefinition, Endpoint, EndpointDefinition, Plan
from gateway.problems import Rejected
from gateway.transform.compiling import compile_connector, compile_rules, definition_of
from gateway.transform.request import MappingFault
from gateway.transform.routes import PatternFault
from gateway.transform.rules import RuleFault


def endpoint(path: str = "/a", method: str = "GET", **definition: Any) -> dict[str, Any]:
    name = f"{method} {path}"
    return {
        "id": f"id of {name}",
        "name": name,
        "method": method,
        "path": path,
        "definition": definition,
    }


def snapshot(*endpoints: dict[str, Any], **definition: Any) -> dict[str, Any]:
    known = {"upstream_base_url": "https://api.example.com:8443/base", **definition}
    return {"id": "c", "slug": "maps", "definition": known, "endpoints": list(endpoints)}


def compiled(own: dict[str, Any], connector: dict[str, Any]) -> Endpoint:
    made = compile_connector(snapshot(endpoint(**own), **connector), team="t", secrets={})
    return made.router.match("GET", "/a").route


def test_connector_is_what_was_published() -> None:
    made = compile_connector(
        snapshot(endpoint(), endpoint("/a/:id", "POST"), connect_timeout=2500), team="t", secrets={}
    )
    match = made.router.match("POST", "/a/7")

    assert (made.id, made.team, made.slug) == ("c", "t", "maps")
    assert (made.base.hostname, made.base.port) == ("api.example.com", 8443)
    assert made.connect_timeout_s == 2.5
    assert (match.route.id, match.route.name) == ("id of POST /a/:id", "POST /a/:id")
    assert match.params == {"id": "7"}
    with pytest.raises(Rejected):
        made.router.match("GET", "/b")


def test_requests_go_to_the_base_url_or_to_the_targets_instead() -> None:
    plain = compile_connector(snapshot(endpoint()), team="t", secrets={})
    assert [made.url for made in plain.destinations] == [plain.base]
    assert plain.hosts == ("api.example.com",)
    targets = [{"url": "http://a.example.com:81", "weight": 3}, {"url": "https://b", "priority": 1}]
    spread = compile_connector(snapshot(endpoint(), targets=targets), team="t", secrets={})

    assert [(made.url.netloc, made.weight, made.priority) for made in spread.destinations] == [
        ("a.example.com:81", 3, 0), ("b", 1, 1),
    ]  # fmt: skip
    assert spread.hosts == ("api.example.com", "a.example.com", "b")


@pytest.mark.parametrize(
    ("own", "connector", "field", "value"),
    [
        ({}, {}, "timeout_s", 30), ({}, {"default_timeout": 1500}, "timeout_s", 1.5),
        ({"timeout": 200}, {"default_timeout": 1500}, "timeout_s", 0.2),
        ({"timeout": 0}, {"default_timeout": 1500}, "timeout_s", 0),
        ({}, {}, "idle_timeout_s", 60), ({}, {"idle_timeout": 10}, "idle_timeout_s", 0.01),
        ({"idle_timeout": 20}, {"idle_timeout": 10}, "idle_timeout_s", 0.02),
        ({}, {}, "streaming", False), ({}, {"streaming_enabled": True}, "streaming", True),
        ({"streaming_enabled": False}, {"streaming_enabled": True}, "streaming", False),
        ({}, {}, "envelope", False), ({}, {"response_mode": "envelope"}, "envelope", True),
        ({"response_mode": "raw"}, {"response_mode": "envelope"}, "envelope", False),
        ({"response_mode": "envelope"}, {}, "envelope", True),
        ({"error_mapping": {"404": "own"}}, {"error_mapping": {"404": "c", "500": "c"}},
         "error_mapping", {"404": "own", "500": "c"}),
    ],
)  # fmt: skip
def test_endpoint_takes_what_it_does_not_say_from_its_connector(
    own: dict[str, Any], connector: dict[str, Any], field: str, value: Any
) -> None:
    assert getattr(compiled(own, connector), field) == value


@pytest.mark.parametrize(("own", "most"), [(None, 100), (0, 0), (99, 99), (100, 100), (101, 100)])
def test_tighter_size_of_plan_and_endpoint_counts(own: int | None, most: int) -> None:
    plan = Plan("p", "p", max_request_size=100, max_response_size=100)
    bounded: dict[str, Any] = {"max_request_size": own, "max_response_size": own}
    made = compile_connector(snapshot(endpoint(**bounded)), team="t", secrets={})
    route = made.router.match("GET", "/a").route

    assert route.most_request_bytes(plan) == route.most_response_bytes(plan) == most


@pytest.mark.parametrize("cls", [ConnectorDefinition, EndpointDefinition])
def test_stored_definition_of_another_version_is_understood(cls: type[Any]) -> None:
    required = {"upstream_base_url": "u"} if cls is ConnectorDefinition else {}

    assert definition_of(cls, {**required, "of_the_future": 1}) == cls(**required)


def test_stored_lists_become_immutable_but_a_schema_stays_json() -> None:
    definition = definition_of(EndpointDefinition, {"media_types": ["a"], "body_schema": [1]})

    assert (definition.media_types, definition.body_schema) == (("a",), [1])


def test_mappings_that_say_nothing_are_one_and_an_empty_schema_stays() -> None:
    stored: dict[str, Any] = {"set_headers": {}, "error_mapping": {}, "body_schema": {}}
    said, unsaid = definition_of(EndpointDefinition, stored), EndpointDefinition()

    assert said.set_headers is said.error_mapping is unsaid.field_map
    assert said.body_schema == {}
    assert compile_rules(said).schema is not None


def test_rules_are_compiled_in_any_spelling() -> None:
    rules = compile_rules(
        EndpointDefinition(
            required_headers=("X-Reason",), media_types=("Application/JSON",),
            body_schema={"type": "object"}, body_pattern="a", body_blacklist=("drop",),
        )
    )  # fmt: skip

    assert rules.required_headers == ("x-reason",)
    assert rules.media_types == frozenset({"application/json"})
    assert None not in {rules.schema, rules.pattern, rules.words}
    assert compile_rules(EndpointDefinition()).need_body is False


def test_endpoints_with_the_same_schema_share_its_compiled_form() -> None:
    same = [endpoint(f"/{name}", body_schema={"type": "object"}) for name in "abc"]
    other = endpoint("/d", body_schema={"type": "array"})
    made = compile_connector(snapshot(*same, other), team="t", secrets={})
    rules = [made.router.match("GET", f"/{name}").route.rules for name in "abcd"]

    assert len({found.schema for found in rules}) == 2


def test_falsy_rules_are_rules() -> None:
    assert compile_rules(EndpointDefinition(body_schema=False)).schema is not None
    assert compile_rules(EndpointDefinition(body_pattern="")).pattern is not None


@pytest.mark.parametrize(
    ("endpoints", "fault"),
    [
        ([endpoint(), endpoint()], PatternFault), ([endpoint("/a//b")], PatternFault),
        ([endpoint("/:a"), endpoint("/:b")], PatternFault),
        ([endpoint(body_pattern="(")], RuleFault),
        ([endpoint(upstream_path="/:gone")], MappingFault),
        ([endpoint(body_transform="magic")], MappingFault),
    ],
    ids=["twice", "empty segment", "tie", "pattern", "parameter", "transform"],
)  # fmt: skip
def test_snapshot_that_does_not_compile_is_refused(
    endpoints: list[dict[str, Any]], fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        compile_connector(snapshot(*endpoints), team="t", secrets={})


@pytest.mark.parametrize("auth", ["bearer", "basic", "query"])
def test_no_repr_of_a_connector_or_an_endpoint_shows_a_secret(auth: str) -> None:
    own = endpoint(set_headers={"X-Key": "{{secrets.extra}}"})
    secrets = dict.fromkeys(["token", "username", "password", "extra"], "hush-hush")
    made = compile_connector(snapshot(own, auth_type=auth), team="t", secrets=secrets)
    route = made.router.match("GET", "/a").route
    shown = repr((made, route, route.mapped, dataclasses.replace(route, name="x")))

    assert "maps" in shown
    assert "hush" not in shown
    assert "aHVzaC1odXNo" not in shown  # as Basic would send it
