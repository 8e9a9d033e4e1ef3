"""Testing a connection: what is asked for, whose secrets are used, and how often."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from admin.api import application
from admin.control import Control
from admin.trials.connections import ALLOWED
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.probe import Probe
from tests.admin.client import Fetch, Make, Tokened, User
from tests.admin.trying import ECHO, FIXED, TOKEN
from tests.loopback import Call, Upstream


@pytest.fixture
def control(control: Control) -> Control:
    """The admin API of a gateway that allows loopback."""
    policy = AddressPolicy([Allowed.parse("127.0.0.1")])
    return dataclasses.replace(control, policy=policy, probe=partial(Probe, policy))


@pytest.fixture
async def closed(control: Control, aiohttp_client: Any, token: Tokened) -> User:
    """An editor whose gateway allows no address that the table refuses."""
    policy = AddressPolicy()
    strict = dataclasses.replace(control, policy=policy, probe=partial(Probe, policy))
    http: TestClient[Any, Any] = await aiohttp_client(application(strict))
    return User(http, token({"red": "editor"}), "red")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"endpoint": "none"}, "/endpoint"),
        ({"endpoint": "echo"}, "/path"),
        ({"endpoint": "echo", "path": "/other"}, "/path"),
        ({"endpoint": "echo", "path": "/echo/../x"}, "/path"),
        ({"endpoint": "echo", "path": "/echo/a?b"}, "/path"),
        ({"path": "/echo/a"}, "/endpoint"),
        ({"body": {}}, "/endpoint"),
        ({"endpoint": "fixed", "query": "a#b"}, "/query"),
        ({"endpoint": "fixed", "headers": {"a b": "c"}}, "/headers/a b"),
        ({"endpoint": "fixed", "headers": {"a": "b\nc"}}, "/headers/a"),
        ({"endpoint": "fixed", "body": 1, "bodyText": "1"}, "/bodyText"),
        ({"method": "GET"}, "/method"),
    ],
)
async def test_request_that_is_none_is_refused(
    body: dict[str, Any], pointer: str, editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(upstreamBaseUrl=upstream.url, endpoints=[ECHO, FIXED])
    answer = await editor.post("/connectors/maps/test", body)
    assert (answer.status, answer.pointers) == (422, [pointer])
    draft = {"upstreamBaseUrl": upstream.url, "endpoints": [ECHO, FIXED], "request": body}
    answer = await editor.post("/connectors/test", draft)
    assert (answer.status, answer.pointers) == (422, [f"/request{pointer}"])
    assert upstream.calls == []


async def test_draft_is_tested_and_nothing_of_it_is_kept(
    editor: User, upstream: Upstream, fetch: Fetch
) -> None:
    draft = {
        "upstreamBaseUrl": upstream.url,
        "authType": "bearer",
        "secrets": {"token": TOKEN},
        "endpoints": [ECHO],
        "request": {"endpoint": "echo", "path": "/echo/x", "bodyText": "plain"},
    }
    answer = await editor.post("/connectors/test", draft)

    assert answer.json["ok"] is True, answer.text
    assert upstream.call.field("authorization") == f"Bearer {TOKEN}"
    assert upstream.call.body == b"plain"
    assert TOKEN not in answer.text
    for table in ("service_connector", "connector_endpoint", "connector_secret"):
        assert await fetch(f"SELECT * FROM {table}") == []  # noqa: S608 - names of ours
    (row,) = await fetch("SELECT action, object_id, difference FROM audit_log")
    assert (row["action"], row["object_id"]) == ("connector.test", "draft")
    assert row["difference"] == {"upstream": [None, upstream.url], "ok": [None, True]}


async def test_saved_secret_is_used_for_a_draft_of_its_host(
    editor: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(upstreamBaseUrl=upstream.url, authType="bearer", secrets={"token": TOKEN})
    draft = {"upstreamBaseUrl": f"{upstream.url}/v3", "authType": "bearer", "secretsOf": "maps"}
    answer = await editor.post("/connectors/test", draft)

    assert answer.json["ok"] is True, answer.text
    assert upstream.call.field("authorization") == f"Bearer {TOKEN}"
    assert TOKEN not in answer.text


@pytest.mark.parametrize("reference", ["env:DAYDREAM_API_KEY", "file:/etc/hostname", "env:NONE"])
async def test_reference_is_used_by_who_may_set_it(
    reference: str, admin: User, editor: User, upstream: Upstream
) -> None:
    draft = {"upstreamBaseUrl": "https://api.daydream.live", "authType": "bearer"}
    draft["secrets"] = {"token": reference}  # type: ignore[assignment] # a body is anything
    refused = await editor.post("/connectors/test?dryRun=true", draft)

    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    allowed = await admin.post("/connectors/test?dryRun=true", draft)
    assert allowed.status == (200 if reference == "env:DAYDREAM_API_KEY" else 422)


async def test_saved_secret_goes_to_no_other_host(
    admin: User, stranger: User, make_connector: Make, upstream: Upstream
) -> None:
    await make_connector(
        upstreamBaseUrl="https://maps.example.com", authType="bearer", secrets={"token": TOKEN}
    )
    draft = {"upstreamBaseUrl": upstream.url, "authType": "bearer", "secretsOf": "maps"}
    answer = await admin.post("/connectors/test", draft)
    assert (answer.status, answer.pointers) == (422, ["/secretsOf"])
    both = {
        **draft,
        "upstreamBaseUrl": "https://maps.example.com",
        "allowedHosts": ["maps.example.com", "127.0.0.1"],
        "targets": [{"url": upstream.url}],
    }
    assert (await admin.post("/connectors/test", both)).status == 422
    assert (await stranger.post("/connectors/test", draft)).status == 404
    assert upstream.connections == 0


async def test_faulty_draft_is_refused_like_a_create(closed: User) -> None:
    draft = {"upstreamBaseUrl": "ftp://x", "authType": "none", "other": 1}

    assert (await closed.post("/connectors/test", draft)).status == 422
    unknown = {"upstreamBaseUrl": "https://a.example.com", "secrets": {"no": "x"}}
    assert (await closed.post("/connectors/test", unknown)).pointers == ["/secrets/no"]


async def test_dry_run_sends_nothing(editor: User, upstream: Upstream, fetch: Fetch) -> None:
    answer = await editor.post("/connectors/test?dryRun=true", {"upstreamBaseUrl": upstream.url})

    assert (answer.json["ok"], answer.json["answer"]) == (False, None)
    assert answer.json["request"]["url"] == f"{upstream.url}/"
    assert upstream.connections == 0
    assert await fetch("SELECT id FROM audit_log") == []


async def test_team_has_so_many_tests_a_minute(
    editor: User, stranger: User, upstream: Upstream
) -> None:
    draft = {"upstreamBaseUrl": "https://YOUR_HOST.example.com"}
    allowed = 0
    while (answer := await editor.post("/connectors/test", draft)).status == 200:
        allowed += 1  # while it takes its time, further ones become due

    assert allowed >= ALLOWED.a_minute
    assert (answer.status, answer.json["code"]) == (429, "rate_limited")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await stranger.post("/connectors/test", draft)).status == 200


async def test_team_has_so_many_tests_at_once(editor: User, upstream: Upstream) -> None:
    may_answer = asyncio.Event()

    async def late(call: Call) -> None:
        await may_answer.wait()
        await call.answer()

    upstream.script = late
    draft = {"upstreamBaseUrl": upstream.url}
    calls = [editor.post("/connectors/test", draft) for _ in range(ALLOWED.at_once + 1)]
    running = iter(asyncio.as_completed(calls))
    assert (await next(running)).json["code"] == "too_many_concurrent"
    may_answer.set()
    assert [(await answer).status for answer in running] == [200] * ALLOWED.at_once
    assert (await editor.post("/connectors/test", draft)).status == 200


async def test_viewer_tests_nothing(viewer: User, make_connector: Make) -> None:
    await make_connector()

    assert (await viewer.post("/connectors/maps/test")).status == 403
    assert (await viewer.post("/connectors/test", {})).status == 403


@pytest.mark.parametrize(
    ("rules", "request_", "said"),
    [
        ({"bodySchema": {"type": "object", "required": ["a"]}}, {"body": {"b": 1}}, "JSON Schema"),
        ({"bodyBlacklist": ["drop"]}, {"bodyText": "drop it"}, "forbids"),
        ({"requiredHeaders": ["X-Own"]}, {"body": {}}, "x-own"),
        ({"mediaTypes": ["text/csv"]}, {"body": {}}, "text/csv"),
        ({"maxRequestSize": 3}, {"bodyText": "1234"}, "at most 3 bytes"),
    ],
)
async def test_request_that_the_endpoint_would_refuse_is_not_sent(
    rules: dict[str, Any], request_: dict[str, Any], said: str, editor: User, upstream: Upstream
) -> None:
    asked = {"name": "ask", "method": "POST", "path": "/ask", **rules}
    draft = {
        "upstreamBaseUrl": upstream.url,
        "endpoints": [asked],
        "request": {"endpoint": "ask", **request_},
    }
    told = (await editor.post("/connectors/test", draft)).json

    assert (told["ok"], told["steps"][-1]["name"], told["steps"][-1]["ok"]) == (False, "request", False)  # fmt: skip
    assert said in told["steps"][-1]["detail"]
    assert upstream.calls == []
