"""Slugs and paths to endpoints, with a real directory."""

from __future__ import annotations

import pytest

from filters.resolve import Options, Resolve
from gateway.exchange import Exchange
from gateway.lifecycle.wiring import Worker
from gateway.runtime import Runtime
from tests.dataplane import (
    Rows,
    answering,
    assert_honest,
    caller,
    endpoint,
    exchange,
    refusal_of,
)

URL = "http://127.0.0.1:9"
ENDPOINTS = (
    endpoint("GET", "/items/:id", "item"),
    endpoint("GET", "/items/new", "new"),
    endpoint("POST", "/items", "create"),
    endpoint("GET", "/files/:path*", "file"),
    endpoint("GET", "/keys/:path*", "key", encoded_slashes="allow"),
)


def asking(path: str, method: str = "GET", team: str = "red") -> Exchange:
    request = exchange(method, path)
    request.caller = caller(team=team)
    return request


@pytest.fixture
async def stage(worker: Worker, rows: Rows) -> Resolve:
    """The filter, for a team that has the connector `up`."""
    await rows.connector(URL, *ENDPOINTS)
    return Resolve(Options(), worker.runtime)


@pytest.mark.parametrize(
    ("method", "path", "name", "params"),
    [
        ("GET", "/up/items/7", "item", {"id": "7"}),
        ("HEAD", "/up/items/7", "item", {"id": "7"}),
        ("GET", "/up/items/new", "new", {}),
        ("GET", "/up/items/a%20b", "item", {"id": "a%20b"}),
        ("GET", "/up/items/%61", "item", {"id": "a"}),
        ("POST", "/up/items?dry=1", "create", {}),
        ("GET", "/up/files/a/b%20c", "file", {"path": "a/b%20c"}),
        ("GET", "/up/files/a%252Fb", "file", {"path": "a%252Fb"}),
        ("GET", "/up/keys/a/b%2fc", "key", {"path": "a/b%2Fc"}),
    ],
)
async def test_most_specific_endpoint_is_found(
    stage: Resolve, method: str, path: str, name: str, params: dict[str, str]
) -> None:
    request = asking(path, method)
    await stage(request, answering())

    assert (request.connector.slug, request.endpoint.name) == ("up", name)
    assert request.params == params


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/up", "endpoint_not_found"),
        ("GET", "/up/files/a/b%2Fc", "bad_request"),
        ("GET", "/up/files/b%2fc", "bad_request"),
        ("GET", "/up/", "endpoint_not_found"),
        ("GET", "/up/nothing", "endpoint_not_found"),
        ("GET", "/up/items/a%2Fb", "bad_request"),
        ("GET", "/up/items/../items/7", "bad_request"),
        ("GET", "/up/items/%2e%2e", "bad_request"),
        ("GET", "/up//items/7", "bad_request"),
        ("GET", "/up/items/7/", "bad_request"),
        ("GET", "/up/items/%00", "bad_request"),
        ("GET", "/up/items/%0d%0a", "bad_request"),
        ("GET", "/up/items/a%5Cb", "bad_request"),
        ("GET", "/up/items/%zz", "bad_request"),
        ("GET", "/up/items/\udce9", "bad_request"),
        ("GET", "/up" + "/a" * 65, "bad_request"),
    ],
)
async def test_path_that_fits_nothing_or_two_things_is_refused(
    stage: Resolve, method: str, path: str, code: str
) -> None:
    assert (await refusal_of(stage, asking(path, method))).code == code


async def test_wrong_method_is_told_what_the_path_takes(stage: Resolve) -> None:
    refused = await refusal_of(stage, asking("/up/items/new", "DELETE"))
    created = await refusal_of(stage, asking("/up/items", "GET"))

    assert (refused.code, refused.headers) == ("method_not_allowed", [(b"Allow", b"GET, HEAD")])
    assert created.headers == [(b"Allow", b"POST")]


async def test_connector_of_another_team_looks_like_none(stage: Resolve, rows: Rows) -> None:
    await rows.connector(URL, slug="theirs", team="blue")
    await rows.run("UPDATE service_connector SET status = 'draft' WHERE slug = 'theirs'")
    none = await refusal_of(stage, asking("/nothing/x"))
    foreign = await refusal_of(stage, asking("/theirs/x"))
    published = await refusal_of(stage, asking("/up/items/7", team="blue"))

    assert none.code == foreign.code == published.code == "connector_not_found"
    assert none.detail == foreign.detail == published.detail


async def test_draft_of_the_own_team_says_so(stage: Resolve, rows: Rows) -> None:
    await rows.connector(URL, slug="plan")
    await rows.run("UPDATE service_connector SET status = 'draft' WHERE slug = 'plan'")
    refused = await refusal_of(stage, asking("/plan/x"))

    assert refused.code == "connector_not_found"
    assert "draft" in refused.detail


@pytest.mark.parametrize(
    "slug", ["", "A", "a" * 65, "a_b", "up%20red", "\udcff", "é", "-a", "%75p"]
)
async def test_what_cannot_be_a_slug_is_not_looked_up(runtime: Runtime, slug: str) -> None:
    """The runtime's database is away: a look-up would be 503."""
    refused = await refusal_of(Resolve(Options(), runtime), asking(f"/{slug}/x"))

    assert refused.code == "connector_not_found"


async def test_connector_that_cannot_be_looked_up_is_503(runtime: Runtime) -> None:
    refused = await refusal_of(Resolve(Options(), runtime), asking("/up/x"))

    assert (refused.code, refused.headers) == ("store_unavailable", [(b"Retry-After", b"1")])


async def test_it_reads_and_fills_what_it_says(stage: Resolve) -> None:
    await assert_honest(stage, asking("/up/items/7"))
