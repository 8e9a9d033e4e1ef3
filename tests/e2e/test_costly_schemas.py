"""A team whose bodies are much work to check: the process answers its operators all along, and ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from tests.costly_schemas import CIRCLE, RECURSIVE, nested
from tests.e2e.process import Gateway, eventually, fetch


def test_process_is_healthy_while_costly_bodies_are_checked_and_ends_when_told(
    make_gateway: Callable[..., Gateway],
) -> None:
    gateway = make_gateway()
    gateway.start()
    token = gateway.token()
    endpoint = {"name": "x", "method": "POST", "path": "/x", "bodySchema": RECURSIVE}
    body = {"slug": "red", "upstreamBaseUrl": "https://red.example.com", "endpoints": [endpoint]}
    gateway.admin("POST", "/connectors", body, token=token)
    gateway.admin("POST", "/connectors/red/publish", token=token)
    key = gateway.admin("POST", "/keys", {"name": "red"}, token=token)["key"]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def attack(levels: int) -> int:
        url = f"{gateway.base}/api/v1/gw/red/x"
        try:
            return fetch(url, "POST", headers=headers, content=json.loads(nested(levels))).status
        except OSError:
            return 0

    with ThreadPoolExecutor(4) as callers:
        attacks = [callers.submit(attack, levels) for levels in (16, 24, 32, 40) * 2]
        while not attacks[1].done():
            assert fetch(f"{gateway.status}/healthz").status == 200
        assert gateway.stop() == 0, gateway.said()

    assert attacks[0].result() == 422
    assert {attack.result() for attack in attacks} <= {0, 422, 503}
    assert '"level":"ERROR"' not in gateway.said()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/connectors/circle/publish", {}),
        (
            "/config/apply",
            {"connectors": [{"slug": "new", "upstreamBaseUrl": "https://a.example"}]},
        ),
        (
            "/explain",
            {"connector": "circle", "method": "POST", "path": "/a1", "caller": {"user": "a"}},
        ),
    ],
    ids=["publish", "apply", "explain"],
)
def test_work_whose_client_has_left_holds_no_place(
    path: str, body: object, make_gateway: Callable[..., Gateway]
) -> None:
    gateway = make_gateway()
    gateway.start()
    token = gateway.token()
    gateway.admin("POST", "/import/openapi", {"document": CIRCLE, "slug": "circle"}, token=token)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    for _ in range(20):
        leaving = HTTPConnection(urlsplit(gateway.base).netloc)
        leaving.request("POST", f"/api/v1/gw/admin{path}", json.dumps(body), headers)
        leaving.close()

    def is_served() -> bool:
        url = f"{gateway.base}/api/v1/gw/admin{path}"
        return fetch(url, "POST", headers=headers, content=body).status == 200

    eventually(is_served, gateway)
    assert gateway.stop() == 0, gateway.said()
    assert '"level":"ERROR"' not in gateway.said()
