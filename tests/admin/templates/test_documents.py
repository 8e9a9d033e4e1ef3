"""Template documents: everything that can't work is found before it is used, with its place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import templates
from admin.templates.documents import TemplateFault, check_all, faults, filled

GOOD: dict[str, Any] = {
    "id": "maps",
    "name": "Maps",
    "variables": [
        {"name": "region", "description": "Where.", "pattern": "^[a-z]+$", "example": "eu"}
    ],
    "secrets": [{"name": "token", "description": "A key."}],
    "connector": {
        "slug": "maps",
        "upstreamBaseUrl": "https://{{variables.region}}.example.com",
        "authType": "bearer",
    },
    "endpoints": [
        {"name": "find", "method": "GET", "path": "/find/:place"},
        {"name": "add", "method": "POST", "path": "/places"},
    ],
}
Change = Callable[[dict[str, Any]], Any]


def changed(change: Change) -> dict[str, Any]:
    document = copy.deepcopy(GOOD)
    change(document)
    return document


def test_little_has_to_be_said() -> None:
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("change", "pointer", "detail"),
    [
        (lambda d: d.pop("id"), "", '"id" is a required property'),
        (lambda d: d.update(surprise=1), "", "surprise"),
        (lambda d: d["connector"].update(visibility="x"), "/connector", "visibility"),
        (lambda d: d["endpoints"][0].update(method="BREW"), "/endpoints/0/method", "is not one"),
        (
            lambda d: d["variables"][0].update(pattern="[a-z]+"),
            "/variables/0/pattern",
            "does not match",
        ),
        (lambda d: d["variables"][0].update(pattern="^($"), "/variables/0/pattern", "RE2 pattern"),
        (lambda d: d["variables"][0].update(example="EU"), "/variables/0/example", "must match"),
        (lambda d: d["variables"][0].update(default="E"), "/variables/0/default", "must match"),
        (lambda d: d["variables"].append(d["variables"][0]), "/variables/1/name", "twice"),
        (lambda d: d["secrets"].append(d["secrets"][0]), "/secrets/1/name", "twice"),
        (
            lambda d: d["variables"].append({**d["variables"][0], "name": "zone"}),
            "/variables/1",
            "Nothing uses the variable zone.",
        ),
        (lambda d: d.update(variables=[]), "/variables", "region is used and not declared"),
        (lambda d: d["secrets"].clear(), "/secrets", "The secret token is used and not declared."),
        (
            lambda d: d["secrets"].append({"name": "api-key", "description": "x"}),
            "/secrets/1",
            "Nothing uses the secret api-key.",
        ),
        (lambda d: d["connector"].update(slug="admin"), "/connector/slug", "taken by the gateway"),
        (
            lambda d: d["connector"].update(allowedHosts=["example.com"]),
            "/connector/allowedHosts",
            "eu.example.com, is not among them",
        ),
        (
            lambda d: d["connector"].update(authConfig={"tokenRef": "a b"}),
            "/connector/authConfig/tokenRef",
            "does not match",
        ),
        (
            lambda d: d["endpoints"][0].update(upstreamPath="/{account_sid}"),
            "/endpoints/0/upstreamPath",
            "account_sid",
        ),
        (
            lambda d: d["endpoints"][0].update(bodyPattern="(?<x"),
            "/endpoints/0/bodyPattern",
            "RE2",
        ),
        (lambda d: d["endpoints"][1].update(name="find"), "/endpoints/1/name", "this name"),
        (
            lambda d: d["endpoints"][1].update(method="GET", path="/find/:x"),
            "/endpoints/1/path",
            "matches the same paths",
        ),
    ],
)
def test_fault_is_told_with_its_place(change: Change, pointer: str, detail: str) -> None:
    found = faults(changed(change))

    assert pointer in [fault.pointer for fault in found], found
    assert any(detail in fault.detail for fault in found if fault.pointer == pointer), found


def test_example_that_leaves_its_place_is_a_fault() -> None:
    def loosen(document: dict[str, Any]) -> None:
        document["variables"][0] |= {"pattern": "^.*$", "example": "evil.com/"}

    assert [fault.pointer for fault in faults(changed(loosen))] == ["/variables/0/example"]


@pytest.mark.parametrize("document", [[], None, 1, "x", {}])
def test_other_documents_are_no_templates(document: Any) -> None:
    assert faults(document)


def test_twenty_faults_are_enough() -> None:
    document = changed(lambda d: d.update(endpoints=[{"name": "x"} for _ in range(30)]))

    assert len(faults(document)) == 20


def test_the_box_is_valid() -> None:
    check_all()


def test_fault_of_a_file_is_told_with_its_name() -> None:
    broken = {"good": GOOD, "maps": changed(lambda d: d.update(variables=[]))}

    with pytest.raises(TemplateFault, match=r"^templates/maps\.json: /variables: .* declared"):
        check_all(broken)


def test_own_base_url_leaves_the_templates_hosts_behind() -> None:
    document = changed(
        lambda d: d["connector"].update(
            allowedHosts=["*.example.com"], targets=[{"url": "https://a.example.com"}]
        )
    )
    body = filled(document, {"upstream_base_url": "https://own.example.org", "variables": {}})

    assert (body["upstreamBaseUrl"], body["allowedHosts"], body["targets"]) == (
        "https://own.example.org",
        [],
        [],
    )


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    yield path
    inner = enumerate(node) if isinstance(node, list) else ()
    for name, child in node.items() if isinstance(node, dict) else inner:
        yield from places(child, (*path, name))


BOX = [GOOD, *templates.all().values()]
PLACES = [(at, path) for at, document in enumerate(BOX) for path in places(document) if path]
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["{{variables.region}}", "{{secrets.x}}", "https://{{variables.a}}:9/", "^("]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.sampled_from(PLACES), ODD)
def test_whatever_stands_somewhere_is_judged(place: tuple[int, tuple[Any, ...]], odd: Any) -> None:
    """Any value at any place is taken or told; nothing else comes of it."""
    at, (*parents, last) = place
    document = copy.deepcopy(BOX[at])
    node: Any = document
    for name in parents:
        node = node[name]
    node[last] = odd

    for fault in faults(document):
        assert fault.detail
        assert fault.pointer == "" or fault.pointer.startswith("/")
