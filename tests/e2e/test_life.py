"""The process from its start to its end, and what it survives."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress

import sql
from tests.e2e.process import Gateway, eventually, fetch

Make = Callable[..., Gateway]


def wait_for_key(gateway: Gateway) -> str:
    gateway.wait_for("-H 'Authorization: Bearer gw_")
    return (gateway.data / "demo.key").read_text().strip()


def postmaster(gateway: Gateway) -> int:
    (file,) = gateway.data.rglob("postmaster.pid")
    return int(file.read_text().split("\n", 1)[0])


def test_killed_gateway_comes_back_with_everything_there(make_gateway: Make) -> None:
    gateway = make_gateway()
    gateway.start("--demo")
    key = wait_for_key(gateway)
    assert gateway.call("/demo/json", key).status == 200

    gateway.stop(signal.SIGKILL)
    gateway.start("--demo")

    assert gateway.call("/demo/json", key).status == 200
    connectors = gateway.admin("GET", "/connectors", token=gateway.token("demo"))["items"]
    assert [connector["slug"] for connector in connectors] == ["demo"]


def test_demo_that_had_to_move_is_ready_when_it_can_be_called(make_gateway: Make) -> None:
    gateway = make_gateway()
    gateway.start("--demo")
    key = wait_for_key(gateway)
    token = gateway.token("demo")
    before = gateway.admin("GET", "/connectors/demo", token=token)["upstreamBaseUrl"]
    gateway.stop()
    with ExitStack() as stack:
        port = int(before.rpartition(":")[2])
        with suppress(OSError):  # somebody else's now, which will do as well
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        gateway.start("--demo")

        assert gateway.call("/demo/json", key).status == 200
    after = gateway.admin("GET", "/connectors/demo", token=token)["upstreamBaseUrl"]
    assert after != before


def test_known_callers_are_served_without_postgresql(make_gateway: Make) -> None:
    gateway = make_gateway()
    gateway.start("--demo")
    key = wait_for_key(gateway)
    token = gateway.token("demo")
    other = gateway.admin("POST", "/keys", {"name": "other"}, token=token)["key"]
    assert gateway.call("/demo/json", key).status == 200

    os.kill(postmaster(gateway), signal.SIGSTOP)
    os.kill(postmaster(gateway), signal.SIGKILL)

    assert gateway.call("/demo/json", key).status == 200
    assert fetch(f"{gateway.status}/healthz").status == 200
    assert fetch(f"{gateway.status}/readyz").status == 200
    # The embedded server is started again, and then strangers are known too.
    eventually(lambda: gateway.call("/demo/json", other).status == 200, gateway)


def test_sigterm_writes_what_was_counted_and_exits_zero(make_gateway: Make) -> None:
    gateway = make_gateway("usage: {flush_every_s: 600}\n")
    gateway.start("--demo")
    key = wait_for_key(gateway)
    for _ in range(5):
        gateway.call("/demo/json", key)

    assert gateway.stop() == 0, gateway.said()

    gateway.start()
    summary = gateway.admin("GET", "/usage/summary", token=gateway.token("demo"))
    assert summary["totalRequests"] == 5
    assert '"level":"ERROR"' not in gateway.said()


def test_taken_port_is_one_line_that_names_the_setting(make_gateway: Make) -> None:
    gateway = make_gateway()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gateway.port))
        taken.listen()

        done = gateway.command("serve")

    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{gateway.port} (server.listen)" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_of_the_installation_are_for_its_user_alone(make_gateway: Make) -> None:
    gateway = make_gateway()
    gateway.start("--demo")
    wait_for_key(gateway)

    modes = {path.name: path.stat().st_mode & 0o777 for path in gateway.data.glob("*.key")}

    assert modes == {"master.key": 0o600, "signing.key": 0o600, "demo.key": 0o600}


def test_secrets_are_in_no_log_and_no_answer(make_gateway: Make) -> None:
    gateway = make_gateway("log: {level: DEBUG, access: true}\n")
    gateway.start("--demo")
    key = wait_for_key(gateway)
    token = gateway.token("demo")
    gateway.admin("PUT", "/connectors/demo/secrets", {"token": "s3cret-of-mine"}, token=token)
    gateway.call("/demo/json", key)
    shown = gateway.admin("GET", "/connectors/demo/secrets", token=token)
    assert gateway.stop() == 0

    logged = "\n".join(line for line in gateway.said().splitlines() if line.startswith("{"))

    assert '"logger":"gateway.access"' in logged
    for secret in (key, key[12:], token, "s3cret-of-mine"):
        assert secret not in logged
    assert "s3cret-of-mine" not in str(shown)


def test_a_filter_beside_the_configuration_changes_an_answer(make_gateway: Make) -> None:
    pipeline = [
        *["usage", "respond", "authenticate", "stamp:Stamp", "resolve", "authorize"],
        *["rate_limit", "quota", "validate", "transform", "proxy"],
    ]
    gateway = make_gateway(
        f"pipeline: [{', '.join(pipeline)}]\n".replace(
            "stamp:Stamp", "{'stamp:Stamp': {value: by me}}"
        )
    )
    (gateway.folder / "stamp.py").write_text(STAMP)
    gateway.start("--demo")

    answer = gateway.call("/demo/json", wait_for_key(gateway))

    assert answer.status == 200
    assert answer.headers["X-Stamp"] == "by me for demo"


STAMP = """
from dataclasses import dataclass
from gateway.options import text

@dataclass(frozen=True)
class Options:
    value: str = text("", "What the stamp says.")

class Stamp:
    options = Options
    needs = frozenset({"caller"})
    gives = frozenset()

    def __init__(self, options, runtime):
        self.value = options.value

    async def __call__(self, exchange, proceed):
        response = await proceed(exchange)
        stamp = f"{self.value} for {exchange.caller.team}"
        response.headers.append((b"X-Stamp", stamp.encode()))
        return response
"""


def test_check_says_what_is_wrong_and_where(make_gateway: Make) -> None:
    gateway = make_gateway(
        "usage: {keep_days: some}\n"
        "pipeline: [usage, rate_limit, no_such_filter, quota: {burst: 1}]\n"
    )

    done = gateway.command("check")

    assert done.returncode == 2
    assert "usage.keep_days: not an integer" in done.stderr


def test_check_refuses_a_pipeline_that_cannot_work(make_gateway: Make) -> None:
    gateway = make_gateway("pipeline: [usage, resolve, authenticate, proxy]\n")

    done = gateway.command("check")

    assert done.returncode == 2
    assert "pipeline[1] resolve needs a caller, which no earlier filter gives" in done.stderr


def test_check_names_unknown_filters_and_options(make_gateway: Make) -> None:
    gateway = make_gateway("pipeline: [usage, no_such_filter, {usage: {brst: 1}}]\n")

    done = gateway.command("check")

    assert done.returncode == 2
    assert "pipeline[1]: there is no filter no_such_filter; there are authenticate" in done.stderr
    assert "pipeline[2].usage.brst: unknown setting" in done.stderr


def test_check_shows_the_pipeline_and_where_settings_come_from(make_gateway: Make) -> None:
    gateway = make_gateway()

    done = gateway.command("check")

    assert done.returncode == 0
    assert done.stdout.index("authenticate") < done.stdout.index("resolve")
    assert f"server.listen: 127.0.0.1:{gateway.port}  (file)" in done.stdout
    assert "usage.keep_days: 30  (default)" in done.stdout


def test_migrate_is_safe_to_repeat(make_gateway: Make) -> None:
    gateway = make_gateway()

    first, second = gateway.command("migrate"), gateway.command("migrate")

    assert first.stdout.splitlines() == [f"applied {name}" for _, name, _ in sql.migrations()]
    assert (second.returncode, second.stdout) == (0, "")


def test_output_that_nobody_reads_stops_nothing(make_gateway: Make) -> None:
    gateway = make_gateway("log: {access: true}\n")
    os.mkfifo(gateway.output)
    reader = os.open(gateway.output, os.O_RDONLY | os.O_NONBLOCK)
    try:
        gateway.start("--demo")
        key = (gateway.data / "demo.key").read_text().strip()

        assert {gateway.call("/demo/json", key).status for _ in range(400)} == {200}
        assert gateway.stop() == 0
    finally:
        os.close(reader)
