"""Targets of a connector: origins alone, on allowed hosts, and nowhere that secrets may not go."""

from __future__ import annotations

from typing import Any

import pytest

from admin.connectors import CREATE
from admin.targets import origins
from admin.templates.documents import filled
from gateway.model import Destination
from gateway.transform.compiling import compile_connector
from tests.admin.client import Fetch, Make, User, refused_at

A, B = "https://a.maps.example.com", "https://b.maps.example.com:8443"
HOSTS = ["maps.example.com", "*.maps.example.com"]
MAPS = {"slug": "maps", "upstreamBaseUrl": "https://maps.example.com/v2", "allowedHosts": HOSTS}
REFERENCE = {"authType": "bearer", "secrets": {"token": "env:DAYDREAM_API_KEY"}}


def with_targets(*urls: str, **more: Any) -> dict[str, Any]:
    return {**MAPS, "targets": [{"url": url} for url in urls], **more}


async def test_targets_come_back_with_their_defaults(admin: User) -> None:
    given = {**MAPS, "targets": [{"url": A, "weight": 1000, "priority": 2}, {"url": B}]}
    made = (await admin.post("/connectors", given)).json

    assert made["targets"] == [
        {"url": A, "weight": 1000, "priority": 2},
        {"url": B, "weight": 1, "priority": 0},
    ]
    cleared = await admin.patch("/connectors/maps", {"targets": None})
    assert cleared.json["targets"] == []


async def test_defaults_are_those_of_the_data_plane(admin: User) -> None:
    made = (await admin.post("/connectors", with_targets(A))).json
    target = Destination(None)  # type: ignore[arg-type] # for its other fields

    assert (made["targets"][0]["weight"], made["targets"][0]["priority"]) == (
        target.weight, target.priority,
    )  # fmt: skip


async def test_callers_get_the_targets_with_the_next_publish(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector(**with_targets(A, B), loadBalancing="least-request", maxConnections=7)
    assert (await admin.post("/connectors/maps/publish")).status == 200
    (row,) = await fetch("SELECT snapshot FROM connector_version")
    compiled = compile_connector(row["snapshot"], team="red", secrets={})

    assert [each.url.netloc for each in compiled.destinations] == [
        "a.maps.example.com", "b.maps.example.com:8443",
    ]  # fmt: skip
    assert compiled.hosts == ("maps.example.com", "a.maps.example.com", "b.maps.example.com")
    definition = compiled.definition
    assert (definition.load_balancing, definition.max_connections) == ("least-request", 7)


@pytest.mark.parametrize(
    ("target", "pointer"),
    [
        ({}, "/targets/0/url"),
        ({"url": "maps.example.com"}, "/targets/0/url"),
        ({"url": f"{A}/"}, "/targets/0/url"),
        ({"url": f"{A}/v1"}, "/targets/0/url"),
        ({"url": f"{A}?x=1"}, "/targets/0/url"),
        ({"url": "https://me:secret@a.maps.example.com"}, "/targets/0/url"),
        ({"url": "ftp://a.maps.example.com"}, "/targets/0/url"),
        ({"url": "https://evil.example.net"}, "/targets/0/url"),
        ({"url": A, "weight": 0}, "/targets/0/weight"),
        ({"url": A, "weight": 1001}, "/targets/0/weight"),
        ({"url": A, "weight": 1.5}, "/targets/0/weight"),
        ({"url": A, "priority": -1}, "/targets/0/priority"),
        ({"url": A, "name": "a"}, "/targets/0/name"),
        (A, "/targets/0"),
    ],
)
def test_wrong_target_is_refused_at_its_place(target: Any, pointer: str) -> None:
    assert [
        at.removesuffix("/_schema") for at in refused_at(CREATE, {**MAPS, "targets": [target]})
    ] == [pointer]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("targets", [{"url": f"https://t{n}.maps.example.com"} for n in range(33)]),
        ("targets", {"url": A}),
        ("loadBalancing", "random"),
        ("maxConnections", 0),
        ("maxConnections", 10_001),
        ("maxWaiting", -1),
        ("maxWaiting", "5"),
    ],
)
def test_wrong_field_is_refused(field: str, value: Any) -> None:
    assert refused_at(CREATE, {**MAPS, field: value}) == [f"/{field}"]


def test_second_target_with_one_origin_is_refused() -> None:
    same = "HTTPS://A.maps.example.com:443"

    assert refused_at(CREATE, with_targets(A, B, same)) == ["/targets/2/url"]


def test_host_of_the_base_url_alone_is_allowed_when_no_hosts_are_given() -> None:
    urls = ["http://maps.example.com:81", A]

    assert refused_at(CREATE, with_targets(*urls, allowedHosts=[])) == ["/targets/1/url"]


async def test_hosts_that_a_target_needs_are_not_taken_away(admin: User) -> None:
    await admin.post("/connectors", with_targets(A))
    answer = await admin.patch("/connectors/maps", {"allowedHosts": ["maps.example.com"]})

    assert (answer.status, answer.pointers) == (422, ["/targets/0/url"])


async def test_editor_cannot_send_secrets_to_another_target(
    admin: User, editor: User, make_connector: Make
) -> None:
    """Who may not set a secret may not read it at a host of one's own."""
    await make_connector(**with_targets(A), authType="bearer", secrets={"token": "t"})
    for urls in ([A, B], [B], ["http://a.maps.example.com"], ["https://a.maps.example.com:444"]):
        body = {"targets": [{"url": url} for url in urls]}
        assert (await editor.patch("/connectors/maps", body)).status == 403, urls

    narrower = {"targets": [{"url": A, "weight": 5}]}
    assert (await editor.patch("/connectors/maps", narrower)).status == 200
    moved = {"upstreamBaseUrl": A, "targets": []}
    assert (await editor.patch("/connectors/maps", moved)).status == 200
    assert (await admin.patch("/connectors/maps", {"targets": [{"url": B}]})).status == 200


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1:9000", "The address of the upstream is not allowed."),
        ("http://10.0.0.1", "The address of the upstream is not allowed."),
        ("https://YOUR_HOST.maps.example.com", "YOUR_HOST"),
    ],
)
async def test_target_that_could_not_be_called_stops_the_publish(
    url: str, fault: str, admin: User, make_connector: Make
) -> None:
    hosts = [*HOSTS, "127.0.0.1", "10.0.0.1"]
    await make_connector(**with_targets(A, url, allowedHosts=hosts))
    answer = await admin.post("/connectors/maps/publish")

    assert (answer.status, answer.pointers) == (409, ["/targets/1/url"])
    assert fault in answer.text


async def test_reference_needs_every_target_to_be_allowed_it(
    admin: User, make_connector: Make
) -> None:
    base = {"upstreamBaseUrl": "https://api.daydream.live", "allowedHosts": []}
    await make_connector(**REFERENCE, **base)
    assert (await admin.post("/connectors/maps/publish?dryRun=true")).status == 200
    await admin.patch(
        "/connectors/maps",
        {"allowedHosts": ["api.daydream.live", "other.example.com"],
         "targets": [{"url": "https://api.daydream.live"}, {"url": "https://other.example.com"}]},
    )  # fmt: skip

    assert (await admin.post("/connectors/maps/publish")).pointers == ["/secrets/token"]
    again = await admin.put("/connectors/maps/secrets", {"token": "env:DAYDREAM_API_KEY"})
    assert (again.status, again.pointers) == (422, ["/token"])
    assert "other.example.com" in again.json["detail"]


def test_origins_of_a_connector_from_before_there_were_targets() -> None:
    row = {"upstream_base_url": "https://maps.example.com/v2"}

    assert origins(row) == {("https", "maps.example.com", 443)}


def test_template_for_another_base_url_brings_no_targets_along() -> None:
    connector = with_targets(A)
    template = {"connector": connector, "endpoints": [], "variables": []}
    given: dict[str, Any] = {"variables": {}}

    assert filled(template, given)["targets"] == [{"url": A}]
    moved = filled(template, {**given, "upstream_base_url": "https://other.example.com"})
    assert (moved["targets"], moved["allowedHosts"]) == ([], [])
