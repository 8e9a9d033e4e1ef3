"""The master key rotates under load: no request fails, and nothing is lost afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.e2e.process import Gateway

Make = Callable[..., Gateway]
SECRET = "demo-upstream-secret"


def test_master_key_rotates_while_callers_call(make_gateway: Make) -> None:
    gateway = make_gateway()
    gateway.start("--demo")
    gateway.wait_for("-H 'Authorization: Bearer gw_")
    token = gateway.token("demo")
    much = {"name": "much", "rateLimit": 1_000_000, "dailyQuota": None, "monthlyQuota": None}
    plan = gateway.admin("POST", "/plans", much, token=token)["id"]
    wanted = {"name": "load", "planId": plan}
    key = gateway.admin("POST", "/keys", wanted, token=token)["key"]
    gateway.admin("PUT", "/connectors/demo/secrets", {"token": SECRET}, token=token)
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            statuses.append(gateway.call("/demo/models", key).status)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    done = [gateway.command("rotate-master-key") for _ in range(2)]
    # A running gateway seals with the new key: there is nothing left for a rotation to catch up on.
    gateway.admin("PUT", "/connectors/demo/secrets", {"token": SECRET}, token=token)
    after = gateway.command("rotate-master-key")
    stop.set()
    for caller in callers:
        caller.join()

    assert [one.returncode for one in (*done, after)] == [0] * 3, [one.stderr for one in done]
    assert {one.stdout.split(" with ")[0] for one in (*done, after)} == {"sealed 1 secrets anew"}
    assert len(statuses) > 10
    assert set(statuses) == {200}
    assert len((gateway.data / "master.key").read_text().splitlines()) == 4

    gateway.stop()
    gateway.start("--demo")
    deadline = time.monotonic() + 60
    while gateway.call("/demo/models", key).status != 200:  # the demo may be on another port now
        assert time.monotonic() < deadline, gateway.said()
    assert "does not open" not in gateway.said()
    assert SECRET not in gateway.said()
