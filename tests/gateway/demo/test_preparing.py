"""What `serve --demo` prepares, on a gateway of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo import preparing
from gateway.demo.upstream import DemoUpstream
from gateway.settings import Settings
from gateway.upstream.address_policy import AddressPolicy, Allowed
from tests.e2e.process import Gateway


@pytest.fixture
def gateway(open_directory: Path) -> Iterator[Gateway]:
    folder = Path(tempfile.mkdtemp(dir=open_directory))
    folder.chmod(0o711)
    made = Gateway(folder)
    yield made
    made.stop()


def kept_key(gateway: Gateway) -> str:
    return (gateway.data / "demo.key").read_text().strip()


def start_with_key(gateway: Gateway) -> str:
    gateway.start("--demo")
    gateway.wait_for("-H 'Authorization: Bearer gw_")
    return kept_key(gateway)


def test_printed_command_calls_the_demo_upstream(gateway: Gateway) -> None:
    key = start_with_key(gateway)

    assert f"{gateway.base}/api/v1/gw/demo/json -H 'Authorization: Bearer {key}'" in gateway.said()
    assert gateway.call("/demo/json", key).json["message"]


def test_key_is_on_the_demo_plan_and_made_once(gateway: Gateway) -> None:
    first = start_with_key(gateway)
    gateway.stop()

    second = start_with_key(gateway)

    token = gateway.token("demo")
    (plan,) = [
        p for p in gateway.admin("GET", "/plans", token=token)["items"] if p["name"] == "demo"
    ]
    (key,) = gateway.admin("GET", "/keys", token=token)["items"]
    assert first == second
    assert key["planId"] == plan["id"]


def test_lost_key_gets_a_new_value(gateway: Gateway) -> None:
    lost = start_with_key(gateway)
    gateway.stop()
    (gateway.data / "demo.key").unlink()
    gateway.output.unlink()

    found = start_with_key(gateway)

    assert found != lost
    assert gateway.call("/demo/json", found).status == 200
    assert gateway.call("/demo/json", lost).status == 401


def test_every_demo_endpoint_answers(gateway: Gateway) -> None:
    key = start_with_key(gateway)
    chat = {"model": "demo-chat", "messages": [{"role": "user", "content": "Hi"}]}

    statuses = {
        path: gateway.call(f"/demo{path}", key, method, content).status
        for method, path, content in (
            ("GET", "/json", None),
            ("POST", "/echo", {"a": 1}),
            ("GET", "/slow?seconds=0.01", None),
            ("GET", "/fail", None),
            ("GET", "/events?count=2&interval_ms=1", None),
            ("GET", "/status/418", None),
            ("GET", "/bytes/100000", None),
            ("POST", "/chat/completions", chat),
            ("GET", "/models", None),
        )
    }

    assert statuses == {
        "/json": 200,
        "/echo": 200,
        "/slow?seconds=0.01": 200,
        "/fail": 503,
        "/events?count=2&interval_ms=1": 200,
        "/status/418": 418,
        "/bytes/100000": 200,
        "/chat/completions": 200,
        "/models": 200,
    }


def test_demo_opens_loopback_for_its_own_upstream_only() -> None:
    demo = DemoUpstream("a secret")
    demo.port = 8090

    settings = preparing.settings_for(Settings(), demo)

    policy = AddressPolicy(map(Allowed.parse, settings.upstream.allow_networks))
    assert policy.permits_host("127.0.0.1", 8090)
    assert not policy.permits_host("127.0.0.1", 8081)
    assert not policy.permits_host("10.0.0.1", 8090)
    assert {r.hosts for r in settings.secrets.environment} == {("127.0.0.1",)}
