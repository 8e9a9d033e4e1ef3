"""Variables of templates: values stay where they are put, whatever their pattern lets through."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from admin.templates.variables import misfit, pattern_fault, put_in, used

ANYTHING = "^(?s).*$"
HOSTILE = [
    "evil.com/",
    "evil.com#",
    "evil.com?x=",
    "evil.com:443",
    "evil.com\\",
    "me@evil.com",
    "evil.com%2f",
    "%2e%2e",
    "..",
    ".evil.com",
    "evil..com",
    "evil.com.",
    "EVIL",
    "evil com",
    "evil\n",
    "evil\r\nHost: x",
    "ev\x00il",
    "[::1]",
    "\uff45vil",
    "e\uff0fvil",
    "{{secrets.token}}",
    "{region}",
    "",
]
HOSTILE_IN_A_PATH = [
    "..",
    ".",
    "a/../b",
    "/a",
    "a/",
    "a//b",
    "a?b",
    "a#b",
    "a%2fb",
    ":id",
    "a/:id",
    "{id}",
    "a b",
    "a\\b",
    "a\n",
    "é",
    "",
]


def variable(name: str = "region", pattern: str = ANYTHING, **more: str) -> dict[str, Any]:
    return {"name": name, "description": "Where.", "pattern": pattern, "example": "eu", **more}


def body(**said: Any) -> dict[str, Any]:
    return {"upstreamBaseUrl": "https://example.com", "endpoints": [], **said}


def refused(made: dict[str, Any], values: dict[str, str]) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        put_in(made, [variable()], values)
    assert caught.value.messages_dict.keys() == {"variables"}
    found: dict[str, list[str]] = caught.value.messages_dict["variables"]
    return found


def test_a_value_is_put_wherever_a_variable_may_stand() -> None:
    mark = "{{variables.region}}"
    made = put_in(
        body(
            upstreamBaseUrl=f"https://{mark}.example.com:8443/{mark}",
            allowedHosts=[f"{mark}.example.com", "*.example.com"],
            targets=[{"url": f"https://{mark}.example.com", "weight": 2}],
            healthCheckPath=f"/{mark}/ping",
            authConfig={"headers": {"x-region": f"in {mark}"}, "region": mark},
            description=mark,
            endpoints=[
                {
                    "path": f"/{mark}/a",
                    "upstreamPath": f"/v1/{mark}/a?r={{{{ variables.region }}}}",
                    "upstreamQueryParams": {"r": mark},
                    "defaultQueryParams": {"d": mark},
                    "setHeaders": {"x": mark},
                    "addHeaders": {"y": mark},
                    "upstreamStaticBody": mark,
                }
            ],
        ),
        [variable()],
        {"region": "eu"},
    )

    assert made == body(
        upstreamBaseUrl="https://eu.example.com:8443/eu",
        allowedHosts=["eu.example.com", "*.example.com"],
        targets=[{"url": "https://eu.example.com", "weight": 2}],
        healthCheckPath="/eu/ping",
        authConfig={"headers": {"x-region": "in eu"}, "region": "eu"},
        description=mark,
        endpoints=[
            {
                "path": "/eu/a",
                "upstreamPath": "/v1/eu/a?r=eu",
                "upstreamQueryParams": {"r": "eu"},
                "defaultQueryParams": {"d": "eu"},
                "setHeaders": {"x": "eu"},
                "addHeaders": {"y": "eu"},
                "upstreamStaticBody": mark,
            }
        ],
    )


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    "made",
    [
        body(upstreamBaseUrl="https://{{variables.region}}.example.com"),
        body(upstreamBaseUrl="https://{{variables.region}}"),
        body(allowedHosts=["{{variables.region}}.example.com"]),
        body(targets=[{"url": "https://{{variables.region}}.example.com"}]),
    ],
    ids=["label", "whole", "allowed", "target"],
)
def test_no_value_leaves_a_host(made: dict[str, Any], value: str) -> None:
    """The pattern lets everything through here: what holds is not the pattern."""
    assert refused(made, {"region": value}).keys() == {"region"}


@pytest.mark.parametrize("value", HOSTILE_IN_A_PATH)
@pytest.mark.parametrize(
    "made",
    [
        body(upstreamBaseUrl="https://example.com/{{variables.region}}"),
        body(healthCheckPath="/{{variables.region}}"),
        body(endpoints=[{"upstreamPath": "/{{variables.region}}/a"}]),
        body(endpoints=[{"path": "/{{variables.region}}/a"}]),
    ],
    ids=["base", "health", "upstream", "path"],
)
def test_no_value_leaves_a_path(made: dict[str, Any], value: str) -> None:
    assert refused(made, {"region": value}).keys() == {"region"}


@pytest.mark.parametrize("value", ["{{secrets.token}}", "}}", "a\r\nb", "\x7f"])
def test_no_value_names_a_secret_or_breaks_a_header(value: str) -> None:
    made = body(authConfig={"headers": {"x": "{{variables.region}}"}})

    assert refused(made, {"region": value}).keys() == {"region"}


@given(st.text(max_size=40))
def test_host_is_the_one_that_was_meant_whatever_the_value(value: str) -> None:
    url = "https://{{variables.region}}.example.com/v1"
    try:
        made = put_in(body(upstreamBaseUrl=url), [variable()], {"region": value})
    except ValidationError:
        return
    parts = urlsplit(made["upstreamBaseUrl"])

    assert (parts.hostname, parts.path) == (f"{value}.example.com", "/v1")
    assert (parts.port, parts.username, parts.query, parts.fragment) == (None, None, "", "")


@pytest.mark.parametrize(
    ("values", "details"),
    [
        ({}, {"region": "Needed: Where."}),
        ({"region": "EU"}, {"region": "It must match ^[a-z-]+$, as eu does."}),
        ({"region": "eu\n"}, {"region": "It must match ^[a-z-]+$, as eu does."}),
        ({"region": "eu", "zone": "a"}, {"zone": "The template has no such variable."}),
        ({"zone": "a"}, {"region": "Needed: Where.", "zone": "The template has no such variable."}),
    ],
)
def test_faults_are_told_by_name(values: dict[str, str], details: dict[str, str]) -> None:
    made = body(upstreamBaseUrl="https://{{variables.region}}.example.com")
    with pytest.raises(ValidationError) as caught:
        put_in(made, [variable(pattern="^[a-z-]+$")], values)

    assert caught.value.messages_dict == {"variables": {n: [t] for n, t in details.items()}}


def test_default_is_for_what_is_not_given() -> None:
    made = body(upstreamBaseUrl="https://{{variables.region}}.example.com")
    known = [variable(default="us")]

    assert put_in(made, known, {})["upstreamBaseUrl"] == "https://us.example.com"
    assert put_in(made, known, {"region": "eu"})["upstreamBaseUrl"] == "https://eu.example.com"


@pytest.mark.parametrize(
    ("pattern", "value"),
    [("^a$|^b$", "b; DROP"), ("^a|b$", "xb"), ("^(?m)a$", "a\nb"), ("^a$", "a\n"), ("^a$", "xa")],
)
def test_pattern_is_for_the_whole_value(pattern: str, value: str) -> None:
    assert misfit(variable(pattern=pattern), value) is not None


def test_pattern_that_would_take_for_ever_elsewhere_does_not() -> None:
    assert misfit(variable(pattern="^(a+)+$"), "a" * 1000 + "!") is not None


@pytest.mark.parametrize("pattern", ["^($", "^(?=a)a$", r"^(a)\1$"])
def test_pattern_that_does_not_compile_is_a_fault(pattern: str) -> None:
    assert "not an RE2 pattern" in str(pattern_fault(variable(pattern=pattern)))


def test_used_variables_are_found_where_they_may_stand() -> None:
    made = body(
        upstreamBaseUrl="https://{{variables.a}}/{{ variables.b }}",
        description="{{variables.not_here}}",
        authConfig={"headers": {"x": "{{variables.c}} {{secrets.d}}"}},
        endpoints=[{"path": "/x", "upstreamPath": "/{{variables.e}}/{{variables.a}}"}],
    )

    assert used(made) == ("a", "b", "c", "e")
