"""The admin API under requests made from its own description: what fits it and what does not.

`SCHEMATHESIS_EXAMPLES` is how many requests each operation gets of each kind; `make soak` sets more.
"""

from __future__ import annotations

import copy
import os
import re
from typing import Any

import pytest
import schemathesis.openapi
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.core import NotSet
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.admin.described import DOCUMENT
from tests.e2e.process import Gateway, fetch

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))
NOWHERE = "https://127.0.0.1:9"
ADDRESSES = {"url", "upstreamBaseUrl"}
"""The members of bodies that say where requests go: they must not leave this machine."""
CHECKS: list[Any] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
QUIET = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def without_credentials(document: dict[str, Any]) -> dict[str, Any]:
    """The document for callers whose token, which is for one team, is put in by `send`."""
    made = copy.deepcopy(document)
    for item in made["paths"].values():
        for operation in item.values():
            kept = [each for each in operation["parameters"] if each["name"] != "x-team-id"]
            operation |= {"parameters": kept, "security": []}
    return made


SCHEMA = schemathesis.openapi.from_dict(without_credentials(DOCUMENT))
OPERATIONS: dict[str, Any] = {
    found.ok().label: found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)
}


def is_address(value: Any) -> bool:
    """True for what the description takes as a URL."""
    return isinstance(value, str) and re.fullmatch("https?://[!-~]{1,2000}", value) is not None


def kept_here(value: Any) -> Any:
    """A body whose addresses lead nowhere; what is none stays wrong."""
    if isinstance(value, list):
        return [kept_here(part) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: NOWHERE if name in ADDRESSES and is_address(part) else kept_here(part)
        for name, part in value.items()
    }


def links_of(name: str) -> list[tuple[str, str]]:
    """The operations on what this one makes, each with the parameter that takes the new id."""
    verb, path = name.split(" ", 1)
    answer = DOCUMENT["paths"][path][verb.lower()]["responses"].get("201", {})
    known = {
        operation.definition.raw["operationId"]: label for label, operation in OPERATIONS.items()
    }
    return [
        (known[link["operationId"]], parameter)
        for link in answer.get("links", {}).values()
        for parameter, value in link["parameters"].items()
        if value.startswith("$response")
    ]


@pytest.fixture(scope="module")
def tokens(demo: Gateway) -> dict[str, str]:
    """An admin's token for each of two teams."""
    return {team: demo.token(team) for team in ("red", "blue")}


def send(case: Case[Any], gateway: Gateway, token: str, *, is_wrong: bool = False) -> Response:
    """Send a request and hold its answer against the description."""
    case.body = kept_here(case.body)
    headers = {"Authorization": f"Bearer {token}"}
    base_url = f"{gateway.base}/api/v1/gw/admin"
    checked = [*CHECKS, checks.negative_data_rejection] if is_wrong else CHECKS
    return case.call_and_validate(base_url=base_url, headers=headers, checks=checked)


def can_be_wrong(name: str) -> bool:
    """True for an operation that takes more than a path."""
    raw = OPERATIONS[name].definition.raw
    return "requestBody" in raw or any(each["in"] == "query" for each in raw["parameters"])


def is_on_the_wire(case: Case[Any]) -> bool:
    """False where what is wrong is not sent: an empty list in a query, a body that may be left out."""
    body = case.operation.definition.raw.get("requestBody", {"required": True})
    left_out = isinstance(case.body, NotSet) and not body["required"]
    return not left_out and not any(value in ([], {}) for value in (case.query or {}).values())


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_as_described(name: str, demo: Gateway, tokens: dict[str, str]) -> None:
    @settings(QUIET, max_examples=EXAMPLES)
    @given(case=OPERATIONS[name].as_strategy())
    def run(case: Case[Any]) -> None:
        send(case, demo, tokens["red"])

    run()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if can_be_wrong(name)])
def test_what_does_not_fit_is_refused(name: str, demo: Gateway, tokens: dict[str, str]) -> None:
    @settings(QUIET, max_examples=EXAMPLES)
    @given(case=OPERATIONS[name].as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def run(case: Case[Any]) -> None:
        assume(is_on_the_wire(case))
        send(case, demo, tokens["red"], is_wrong=True)

    run()


@pytest.fixture(scope="module")
def connector(demo: Gateway, tokens: dict[str, str]) -> str:
    """A connector of the first team, for what is made inside of one."""
    body = {"slug": "fuzzed", "upstreamBaseUrl": NOWHERE}
    return str(demo.admin("POST", "/connectors", body, token=tokens["red"])["id"])


@pytest.mark.parametrize("name", [name for name in OPERATIONS if links_of(name)])
def test_what_is_made_can_be_used_and_the_other_team_sees_nothing_of_it(
    name: str, demo: Gateway, tokens: dict[str, str], connector: str
) -> None:
    steps = st.sampled_from(links_of(name)).flatmap(
        lambda link: st.tuples(st.just(link), OPERATIONS[link[0]].as_strategy())
    )

    @settings(QUIET, max_examples=EXAMPLES * 4)
    @given(case=OPERATIONS[name].as_strategy(), chain=st.lists(steps, min_size=2, max_size=5))
    def run(case: Case[Any], chain: list[tuple[tuple[str, str], Case[Any]]]) -> None:
        case.path_parameters = dict.fromkeys(case.path_parameters or {}, connector)
        made = send(case, demo, tokens["red"])
        if made.status_code != 201:
            return
        for (_, parameter), step in chain:
            step.path_parameters = {**case.path_parameters, parameter: made.json()["id"]}
            found = send(step, demo, tokens["red"])
            if found.status_code < 400:
                url = f"{demo.base}/api/v1/gw/admin{step.formatted_path}"
                foreign = fetch(url, headers={"Authorization": f"Bearer {tokens['blue']}"})
                assert foreign.status in {404, 405}, url

    run()
