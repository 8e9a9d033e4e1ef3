"""Health over the admin API: of the own team alone, as real upstreams were found."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from admin.api import application
from admin.control import Control
from admin.health import ALLOWED
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.breaker import State
from gateway.upstream.connections import Upstreams
from tests.admin.client import Fetch, Make, User, Users
from tests.admin.controls import health_with
from tests.gateway.trying import closed_port, status
from tests.loopback import Upstream, say_ok

ITEM = {"id", "slug", "displayName", "isChecked", "status", "since", "checkedAt", "latencyMs"}
ITEM |= {"checks", "uptime", "strip"}


@pytest.fixture
async def control(control: Control) -> AsyncIterator[Control]:
    """One that lets connectors of loopback be published and checked."""
    policy = AddressPolicy([Allowed.parse("127.0.0.1")])
    upstreams = Upstreams(policy)
    health = health_with(control.database, control.vault, upstreams)
    await health._keep_partitions()  # noqa: SLF001 - what is done when it starts
    yield dataclasses.replace(control, policy=policy, health=health)
    await health.close()
    await upstreams.close()


@pytest.fixture
def publish(admin: User, make_connector: Make) -> Make:
    """Make a published connector that is checked at `/health`."""

    async def make(by: User = admin, **overrides: Any) -> dict[str, Any]:
        given = {"healthCheckPath": "/health", **overrides}
        made = await make_connector(by=by, **given)
        answer = await by.post(f"/connectors/{made['id']}/publish")
        assert answer.status == 200, answer.text
        published: dict[str, Any] = answer.json
        return published

    return make


async def test_check_now_tells_what_it_found_and_it_stays(
    viewer: User, editor: User, publish: Make, upstream: Upstream
) -> None:
    made = await publish(upstreamBaseUrl=upstream.url)
    answer = await editor.post("/health/check", {"connector": "maps"})

    assert answer.status == 200, answer.text
    (found,) = answer.json["items"]
    (target,) = found["targets"]
    assert (found["id"], found["status"]) == (made["id"], "healthy")
    assert target["target"] == f"127.0.0.1:{upstream.port}"
    assert (target["status"], target["statusCode"], target["error"]) == ("healthy", 200, "")
    assert upstream.call.target == "/health"

    (item,) = (await viewer.get("/health")).json["items"]
    assert item.keys() == ITEM
    assert (item["id"], item["slug"], item["status"]) == (made["id"], "maps", "healthy")
    assert (item["isChecked"], item["checks"], item["uptime"]) == (True, 1, 1.0)
    assert item["checkedAt"] == target["at"]
    assert item["latencyMs"] > 0
    assert (len(item["strip"]), [*filter(None, item["strip"])]) == (96, ["healthy"])
    assert (await viewer.get("/connectors/maps")).json["health"] == "healthy"


async def test_detail_has_targets_and_pages_of_history(
    viewer: User, editor: User, publish: Make, upstream: Upstream
) -> None:
    gone = f"http://127.0.0.1:{closed_port()}"
    await publish(upstreamBaseUrl=upstream.url, targets=[{"url": gone}, {"url": upstream.url}])
    for _ in range(3):
        await editor.post("/health/check", {"connector": "maps"})
    found = (await viewer.get("/health/maps")).json

    assert (found["status"], found["uptime"], found["checks"]) == ("degraded", 0.5, 6)
    assert "unhealthy" in found["strip"][-2:]
    by_target = {target["target"]: target for target in found["targets"]}
    bad, good = by_target[gone.removeprefix("http://")], by_target[f"127.0.0.1:{upstream.port}"]
    assert (bad["status"], bad["statusCode"]) == ("unhealthy", None)
    assert bad["error"] == "The upstream could not be reached."
    assert (good["status"], good["statusCode"], good["error"]) == ("healthy", 200, "")
    whole = found["history"]["items"]
    assert (len(whole), found["history"]["nextCursor"]) == (6, None)
    assert [entry["at"] for entry in whole] == sorted((e["at"] for e in whole), reverse=True)

    paged, cursor = [], ""
    for _ in range(3):
        page = (await viewer.get(f"/health/maps?limit=2{cursor}")).json["history"]
        paged += page["items"]
        cursor = f"&cursor={page['nextCursor']}"
    assert paged == whole
    assert page["nextCursor"] is None


async def test_what_requests_have_shown_is_told_apart(
    control: Control, aiohttp_client: Any, viewer: User, make_connector: Make
) -> None:
    made = await make_connector()
    assert (await viewer.get("/health/maps")).json["circuit"] is None
    half_open = {made["id"]: State.HALF_OPEN}
    client: TestClient[Any, Any] = await aiohttp_client(
        application(dataclasses.replace(control, circuit=half_open.get))
    )
    found = (await User(client, viewer.token, "red").get("/health/maps")).json

    assert (found["circuit"], found["status"]) == ("half-open", "unknown")


async def test_connector_that_flips_is_found_by_the_filters(
    viewer: User, editor: User, publish: Make, upstream: Upstream
) -> None:
    await publish(upstreamBaseUrl=upstream.url)
    upstream.script = status(500)
    await editor.post("/health/check")
    assert [c["slug"] for c in await viewer.all("/connectors?health=unhealthy")] == ["maps"]
    assert [c["slug"] for c in await viewer.all("/health?status=unhealthy&sort=name")] == ["maps"]
    upstream.script = say_ok
    await editor.post("/health/check")
    assert (await viewer.get("/connectors/maps")).json["health"] == "unhealthy", (
        "once is not enough"
    )
    await editor.post("/health/check")

    assert await viewer.all("/connectors?health=unhealthy") == []
    assert [c["slug"] for c in await viewer.all("/connectors?health=healthy&sort=name")] == ["maps"]
    assert await viewer.all("/health?status=unhealthy") == []


async def test_what_is_not_checked_is_unknown(
    viewer: User, editor: User, make_connector: Make, publish: Make
) -> None:
    await make_connector(slug="draft")
    await publish(slug="plain", healthCheckPath=None)
    await publish(slug="waiting")
    items = await viewer.all("/health")

    assert [(i["slug"], i["isChecked"], i["status"], i["uptime"]) for i in items] == [
        ("waiting", True, "unknown", None),
        ("plain", False, "unknown", None),
    ]
    slugs = {c["slug"] for c in await viewer.all("/connectors?health=unknown")}
    assert slugs == {"draft", "plain", "waiting"}
    for slug in ("draft", "plain"):
        answer = await editor.post("/health/check", {"connector": slug})
        assert (answer.status, answer.json["code"]) == (409, "conflict")
        detail = (await viewer.get(f"/health/{slug}")).json
        assert (detail["status"], detail["targets"]) == ("unknown", [])


async def test_list_is_paged_and_searched(viewer: User, publish: Make) -> None:
    for number in range(5):
        await publish(slug=f"c{number}", displayName=f"Name {4 - number}")

    assert [i["slug"] for i in await viewer.all("/health?limit=2")] == [
        "c4",
        "c3",
        "c2",
        "c1",
        "c0",
    ]
    by_name = await viewer.all("/health?limit=2&sort=name")
    assert [i["slug"] for i in by_name] == ["c4", "c3", "c2", "c1", "c0"]
    assert [i["slug"] for i in await viewer.all("/health?q=NAME%203")] == ["c1"]


async def test_dry_run_checks_and_keeps_nothing(
    admin: User, publish: Make, upstream: Upstream, fetch: Fetch
) -> None:
    await publish(upstreamBaseUrl=upstream.url)
    answer = await admin.post("/health/check?dryRun=true")

    assert answer.json["items"][0]["status"] == "healthy"
    assert len(upstream.calls) == 1
    assert (await admin.get("/health")).json["items"][0]["status"] == "unknown"
    assert await fetch("SELECT 1 FROM audit_log WHERE action = 'connector.check'") == []


async def test_check_leaves_an_audit_row(
    editor: User, publish: Make, upstream: Upstream, fetch: Fetch
) -> None:
    made = await publish(upstreamBaseUrl=upstream.url)
    await editor.post("/health/check")

    rows = await fetch("SELECT actor, object_id FROM audit_log WHERE action = 'connector.check'")
    assert rows == [{"actor": "ed", "object_id": made["id"]}]


async def test_teams_see_and_check_their_own_alone(
    admin: User, stranger: User, publish: Make, upstream: Upstream
) -> None:
    mine = await publish(upstreamBaseUrl=upstream.url)
    await publish(by=stranger, slug="theirs", upstreamBaseUrl=upstream.url)
    await admin.post("/health/check")
    assert len(upstream.calls) == 1

    assert [i["slug"] for i in await stranger.all("/health")] == ["theirs"]
    for path in (f"/health/{mine['id']}", "/health/maps"):
        assert (await stranger.get(path)).status == 404
    answer = await stranger.post("/health/check", {"connector": mine["id"]})
    assert answer.status == 404
    found = (await stranger.post("/health/check")).json["items"]
    assert len(found) == 1
    assert found[0]["id"] != mine["id"]
    assert len(upstream.calls) == 2


async def test_refused_address_tells_nothing_of_what_listens_there(
    control: Control, aiohttp_client: Any, admin: User, publish: Make, upstream: Upstream
) -> None:
    """Published when the operator still allowed it; the policy is asked at every check."""
    await publish(slug="open", upstreamBaseUrl=upstream.url)
    await publish(slug="closed", upstreamBaseUrl=f"http://127.0.0.1:{closed_port()}")
    strict = health_with(control.database, control.vault, Upstreams(AddressPolicy()))
    client: TestClient[Any, Any] = await aiohttp_client(
        application(dataclasses.replace(control, health=strict))
    )
    found = (await User(client, admin.token, "red").post("/health/check")).json["items"]
    await strict.close()

    seen = [
        {k: v for k, v in each["targets"][0].items() if k not in {"at", "target"}} for each in found
    ]
    assert len(found) == 2
    assert seen[0] == seen[1]
    assert seen[0]["error"] == "The host has no address that may be connected to."
    assert upstream.connections == 0


async def test_redirect_to_a_private_address_is_not_followed(
    editor: User, publish: Make, upstream: Upstream
) -> None:
    async with Upstream() as private:
        upstream.script = status(307, f"Location: {private.url}/")
        await publish(upstreamBaseUrl=upstream.url)
        (found,) = (await editor.post("/health/check")).json["items"]

        assert found["targets"][0]["error"] == "The answer had status 307."
        assert private.connections == 0


async def test_secret_of_a_connector_shows_nowhere(
    admin: User, publish: Make, upstream: Upstream
) -> None:
    await publish(upstreamBaseUrl=upstream.url, authType="bearer", secrets={"token": "s3cret"})
    answers = [await admin.post("/health/check"), await admin.get("/health/maps")]

    assert upstream.call.field("authorization") == "Bearer s3cret"
    assert [answer.text for answer in answers if "s3cret" in answer.text] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("GET", "/health?status=fine", None, "/status"),
        ("GET", "/health?limit=0", None, "/limit"),
        ("GET", "/health/maps?limit=101", None, "/limit"),
        ("GET", "/health/maps?cursor=x", None, "/cursor"),
        ("GET", "/health/maps?q=x", None, "/q"),
        ("POST", "/health/check", {"connector": 7}, "/connector"),
        ("POST", "/health/check", {"connectors": []}, "/connectors"),
        ("GET", "/connectors?health=fine", None, "/health"),
    ],
)
async def test_odd_input_is_refused(
    admin: User, make_connector: Make, method: str, path: str, body: Any, pointer: str
) -> None:
    await make_connector()
    answer = await admin.call(method, path, body)

    assert (answer.status, answer.pointers) == (422, [pointer])


async def test_cursor_that_no_check_has_ends_nothing(viewer: User, make_connector: Make) -> None:
    await make_connector()
    for cursor in ("ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000"):
        answer = await viewer.get(f"/health/maps?cursor={cursor}")
        assert (answer.status, answer.json["history"]["items"]) == (200, [])


async def test_checks_on_demand_are_bounded_for_each_team(
    editor: User, user: Users, publish: Make, upstream: Upstream
) -> None:
    await publish(upstreamBaseUrl=upstream.url)
    goes_on = asyncio.Event()

    async def waits(call: Any) -> None:
        await goes_on.wait()
        await call.answer()

    upstream.script = waits
    waiting = [asyncio.ensure_future(editor.post("/health/check")) for _ in range(ALLOWED.at_once)]  # noqa: TID251 - ended below
    while len(upstream.calls) < ALLOWED.at_once:  # noqa: ASYNC110 - they come from elsewhere
        await asyncio.sleep(0.005)
    refused = await editor.post("/health/check")
    goes_on.set()
    answers = await asyncio.gather(*waiting)

    assert (refused.status, refused.json["code"]) == (429, "too_many_concurrent")
    assert [answer.status for answer in answers] == [200] * ALLOWED.at_once
    statuses = []
    while 429 not in statuses:  # while they take their time, further ones become due
        statuses.append((await editor.post("/health/check?dryRun=true")).status)
    assert len(statuses) > ALLOWED.a_minute - ALLOWED.at_once
    assert (await user("editor", team="blue").post("/health/check")).status == 200
