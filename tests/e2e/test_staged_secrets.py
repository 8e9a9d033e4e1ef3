"""URL and secret change together: no request of many carries the one's URL and the other's secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from aiohttp import web

from tests.e2e.process import Gateway
from tests.e2e.services import serving
from tests.templates import mock
from tests.templates.mock import Seen, Stop

Make = Callable[..., Gateway]
CHANGES = 20
LONGEST_S = 60


def knowing(token: str) -> Callable[[], Awaitable[tuple[str, Stop]]]:
    """A service that takes one token."""

    def answer(seen: Seen) -> web.Response:
        return mock.reply({"is_right": seen.headers.get("Authorization") == f"Bearer {token}"})

    return lambda: mock.start(answer)


def test_url_and_secret_change_at_once_for_every_caller(make_gateway: Make) -> None:
    gateway = make_gateway("upstream: {allow_networks: [127.0.0.0/8]}\n")
    gateway.start()
    with ExitStack() as services:
        urls = [services.enter_context(serving(knowing(token))) for token in ("one", "two")]
        token = gateway.token()
        connector = {
            "slug": "moving", "upstreamBaseUrl": urls[0], "authType": "bearer",
            "secrets": {"token": "one"},
            "endpoints": [{"name": "get", "method": "GET", "path": "/x"}],
        }  # fmt: skip
        gateway.admin("POST", "/connectors", connector, token=token)
        gateway.admin("POST", "/connectors/moving/publish", token=token)
        much = {"name": "much", "rateLimit": 1_000_000, "dailyQuota": None, "monthlyQuota": None}
        plan = gateway.admin("POST", "/plans", much, token=token)["id"]
        key = gateway.admin("POST", "/keys", {"name": "k", "planId": plan}, token=token)["key"]
        told: list[object] = []
        stop = threading.Event()

        def call() -> None:
            while not stop.is_set():
                got = gateway.call("/moving/x", key)
                told.append(got.json.get("is_right", got.json))

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        begun = time.monotonic()
        for change in range(1, CHANGES + 1):
            url, value = urls[change % 2], ("one", "two")[change % 2]
            moved = {"upstreamBaseUrl": url, "allowedHosts": []}
            gateway.admin("PATCH", "/connectors/moving", moved, token=token)
            staged = {"token": value}
            gateway.admin("PUT", "/connectors/moving/secrets?stage=true", staged, token=token)
            gateway.admin("POST", "/connectors/moving/publish", token=token)
            assert time.monotonic() - begun < LONGEST_S
        stop.set()
        for caller in callers:
            caller.join()

    assert len(told) > CHANGES
    assert [one for one in told if one is not True] == []
