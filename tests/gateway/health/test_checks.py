"""Checks of real upstreams: what they send, what they find, and where they never go."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.health.checks import (
    DEGRADED,
    HEALTHY,
    UNHEALTHY,
    Checks,
    Found,
    judged,
    moment_of,
    together,
)
from gateway.ids import uuid7
from gateway.options import load
from gateway.secrets.vault import MasterKey, Vault
from gateway.settings import HealthSettings
from gateway.turns import Turns
from gateway.upstream.address_policy import AddressPolicy
from gateway.upstream.connections import Upstreams
from tests.gateway.trying import closed_port, closes, hangs, status
from tests.loopback import Upstream, saying

VAULT = Vault([MasterKey("first", bytes(range(32)))], [], {})
Make = Callable[..., Checks]


def row(url: str, path: str = "/health", **definition: Any) -> dict[str, Any]:
    """What the database gives of a connector that is due."""
    given = {"upstream_base_url": url, "health_check_path": path, **definition}
    return {"id": uuid7(), "team_id": "red", "slug": "up", "definition": given, "secrets": []}


def sealed(owner: dict[str, Any], name: str, value: str) -> dict[str, Any]:
    made = VAULT.seal(value, team="red", connector=str(owner["id"]), name=name)
    content = base64.b64encode(made.content).decode()
    return {"name": name, "key_id": made.key_id, "sealed": content, "reference": None}


@pytest.fixture
def checks(upstreams: Upstreams) -> Make:
    """Make checks with other settings than the defaults."""

    def make(**given: Any) -> Checks:
        settings = load(HealthSettings, given)
        return Checks(VAULT, upstreams, settings, Turns(settings.most_at_once))

    return make


async def only(found: Awaitable[list[Found]]) -> Found:
    (one,) = await found
    return one


async def test_check_is_a_get_of_the_path_behind_the_base_url_with_the_secret(
    checks: Make, upstream: Upstream
) -> None:
    at = row(f"{upstream.url}/v2", "/ping/:x/{y}?deep=1", auth_type="bearer")
    at["secrets"] = [sealed(at, "token", "s3cret")]
    found = await only(checks().check(at))

    assert (found.status, found.status_code, found.error) == (HEALTHY, 200, "")
    assert found.target == f"127.0.0.1:{upstream.port}"
    assert found.latency_ms is not None
    assert (found.connector_id, found.team_id) == (str(at["id"]), "red")
    call = upstream.call
    assert (call.method, call.target) == ("GET", "/v2/ping/:x/{y}?deep=1")
    assert call.field("authorization") == "Bearer s3cret"
    assert call.field("user-agent") == "service-gateway (health check)"
    assert call.field("x-request-id")


async def test_secret_in_the_query_goes_along_with_the_paths_own(
    checks: Make, upstream: Upstream
) -> None:
    config = {"param_name": "key", "secret_ref": "token"}
    at = row(upstream.url, "/ping?deep=1", auth_type="query", auth_config=config)
    at["secrets"] = [sealed(at, "token", "s3cret")]
    await checks().check(at)

    assert upstream.call.target == "/ping?deep=1&key=s3cret"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (200, HEALTHY),
        (204, HEALTHY),
        (301, UNHEALTHY),
        (401, UNHEALTHY),
        (404, UNHEALTHY),
        (429, DEGRADED),
        (500, UNHEALTHY),
        (503, UNHEALTHY),
    ],
)
async def test_status_of_the_answer_decides(
    checks: Make, upstream: Upstream, code: int, expected: str
) -> None:
    upstream.script = status(code)
    found = await only(checks().check(row(upstream.url)))

    assert (found.status, found.status_code) == (expected, code)
    assert (str(code) in found.error) is (expected != HEALTHY)


async def test_redirect_is_not_followed(checks: Make, upstream: Upstream) -> None:
    async with Upstream() as other:
        upstream.script = status(302, f"Location: {other.url}/")
        found = await only(checks().check(row(upstream.url)))

        assert (found.status, found.error) == (UNHEALTHY, "The answer had status 302.")
        assert other.connections == 0


async def test_slow_answer_is_a_degraded_one(checks: Make, upstream: Upstream) -> None:
    found = await only(checks(slow_s=0).check(row(upstream.url)))

    assert (found.status, found.status_code) == (DEGRADED, 200)
    assert "longer than 0 seconds" in found.error


@pytest.mark.parametrize("script", [closes, hangs, saying(b"SSH-2.0\r\n\r\n")])
async def test_no_answer_is_unhealthy(checks: Make, upstream: Upstream, script: Any) -> None:
    upstream.script = script
    found = await only(checks(timeout_s=0.1).check(row(upstream.url)))

    assert (found.status, found.status_code, found.latency_ms) == (UNHEALTHY, None, None)
    assert found.error


async def test_endless_body_is_not_read(checks: Make, upstream: Upstream, eventually: Any) -> None:
    upstream.script = saying(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
    found = await only(checks().check(row(upstream.url)))

    assert found.status == HEALTHY
    await eventually(lambda: upstream.open == 0)


async def test_each_target_is_checked_for_itself(checks: Make, upstream: Upstream) -> None:
    gone = closed_port()
    targets = [{"url": upstream.url}, {"url": f"http://127.0.0.1:{gone}"}]
    found = await checks().check(row("http://127.0.0.1/v2", targets=targets))

    assert {each.target: each.status for each in found} == {
        f"127.0.0.1:{upstream.port}": HEALTHY,
        f"127.0.0.1:{gone}": UNHEALTHY,
    }
    assert upstream.call.target == "/v2/health"


async def test_nothing_is_sent_without_the_secret(checks: Make, upstream: Upstream) -> None:
    found = await only(checks().check(row(upstream.url, auth_type="bearer")))

    assert found.status == UNHEALTHY
    assert found.error == 'The connector\'s secret "token" is not set.'
    assert upstream.connections == 0


async def test_refused_addresses_all_have_one_text_whether_somebody_listens_or_not(
    upstream: Upstream,
) -> None:
    strict = Upstreams(AddressPolicy())
    checks = Checks(VAULT, strict, HealthSettings(), Turns(5))
    urls = [
        upstream.url,
        f"http://127.0.0.1:{closed_port()}",
        f"http://localhost:{upstream.port}",
        "http://10.0.0.1",
        "http://169.254.169.254",
    ]
    found = [await only(checks.check(row(url))) for url in urls]
    await strict.close()

    assert {(each.status, each.error) for each in found} == {
        (UNHEALTHY, "The host has no address that may be connected to.")
    }
    assert {(each.status_code, each.latency_ms) for each in found} == {(None, None)}
    assert upstream.connections == 0


async def test_host_that_is_not_on_the_connectors_list_gets_nothing(
    checks: Make, upstream: Upstream
) -> None:
    at = row("http://api.example.com", targets=[{"url": upstream.url}])
    found = await only(checks().check(at))

    assert (found.status, upstream.connections) == (UNHEALTHY, 0)


async def test_connector_that_does_not_compile_is_left_alone(checks: Make) -> None:
    assert await checks().check(row("http://127.0.0.1", auth_type="divination")) == []


async def test_no_more_are_checked_at_once_than_there_are_slots(
    checks: Make, upstream: Upstream
) -> None:
    most = 0

    async def counting(call: Any) -> None:
        nonlocal most
        most = max(most, upstream.open)
        await call.answer(fields=[("Connection", "close")])
        call.close()

    upstream.script = counting
    made = checks(most_at_once=1)
    targets = [
        {"url": f"http://127.0.0.1:{upstream.port}"},
        {"url": f"http://[::1]:{closed_port()}"},
    ]
    hosts = ["127.0.0.1", "::1"]
    at = row(upstream.url, targets=targets, allowed_hosts=hosts)
    found = [await made.check(at) for _ in range(3)]

    assert [len(each) for each in found] == [2, 2, 2]
    assert most == 1


def test_time_of_a_check_is_that_of_its_id() -> None:
    first, second = uuid7(), uuid7()

    assert moment_of(first) <= moment_of(second)
    assert moment_of(first).timestamp() * 1000 == pytest.approx(first.int >> 80)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([UNHEALTHY], UNHEALTHY),  # the first one decides
        ([HEALTHY, UNHEALTHY, UNHEALTHY], HEALTHY),
        ([HEALTHY, UNHEALTHY, UNHEALTHY, UNHEALTHY], UNHEALTHY),
        ([HEALTHY, UNHEALTHY, UNHEALTHY, HEALTHY, UNHEALTHY], HEALTHY),
        ([HEALTHY, UNHEALTHY, DEGRADED, UNHEALTHY], UNHEALTHY),
        ([HEALTHY, UNHEALTHY, UNHEALTHY, DEGRADED], DEGRADED),
        ([UNHEALTHY, HEALTHY], UNHEALTHY),
        ([UNHEALTHY, HEALTHY, HEALTHY], HEALTHY),
        ([UNHEALTHY, DEGRADED, HEALTHY], HEALTHY),
        ([DEGRADED, HEALTHY, UNHEALTHY, HEALTHY], DEGRADED),
    ],
)
def test_status_changes_after_enough_checks_in_a_row(verdicts: list[str], expected: str) -> None:
    standing = ("unknown", 0)
    for verdict in verdicts:
        standing = judged(standing, verdict, healthy_after=2, unhealthy_after=3)

    assert standing[0] == expected


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([HEALTHY], HEALTHY),
        ([UNHEALTHY, UNHEALTHY], UNHEALTHY),
        ([HEALTHY, UNHEALTHY], DEGRADED),
        ([DEGRADED, UNHEALTHY], DEGRADED),
        ([HEALTHY, DEGRADED], DEGRADED),
    ],
)
def test_connector_is_degraded_while_its_targets_differ(statuses: list[str], expected: str) -> None:
    assert together(statuses) == expected
