"""Our gateway as its user runs it: its own process, embedded PostgreSQL, the default pipeline.

Connector, secret, plan and key are made through the admin API. The plan's limits are counted on
every call and never reached, nor is the one of refused credentials from an address.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from call import SECRET, Call, bearer
from children import ROOT, NotStarted, free_port
from gateway.settings import DEFAULT_PIPELINE
from target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from children import Children

ADMIN = "/api/v1/gw/admin"
NAME = "Service Gateway, default pipeline"
TEAM = "bench"
PLAN = {
    "rateLimit": 10_000_000,
    "dailyQuota": 1_000_000_000,
    "monthlyQuota": 1_000_000_000,
}

Json = dict[str, Any]


class Gateway(NamedTuple):
    """A running gateway: what is measured, its admin API, and the port of its health."""

    target: Target
    admin: Admin
    status_port: int


def start(
    children: Children,
    cores: frozenset[int],
    upstream_port: int,
    profile: Path | None = None,
    *,
    tree: Path = ROOT,
    name: str = "gateway",
) -> Gateway:
    """The running gateway of a tree with a published connector; with `profile`, under cProfile."""
    port, status_port, data = free_port(), free_port(), children.folder / name
    config = _configure(children.folder / f"{name}.yaml", port, status_port)
    python = ["env", f"GATEWAY_DATA_DIR={data}", f"PYTHONPATH={tree}", sys.executable]
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    argv = [*python, *profiler, "-m", "gateway", "serve", "--config", str(config)]
    pid = children.start(name, argv, cores, port, tree)
    admin = Admin(port, _token(python, config, tree))
    admin.connector("bench", f"http://127.0.0.1:{upstream_port}/v1")
    call = Call(port, "/api/v1/gw/bench/chat/completions", bearer(admin.key("bench", PLAN)))
    target = Target(NAME, call, pid, _database(data), checks_keys=True)
    return Gateway(target, admin, status_port)


def _configure(file: Path, port: int, status_port: int) -> Path:
    settings = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "status": {"listen": f"127.0.0.1:{status_port}"},
        "upstream": {"allow_networks": ["127.0.0.0/8"]},
        "pipeline": [
            {name: {"failures_per_minute": 1_000_000_000}} if name == "authenticate" else name
            for name in DEFAULT_PIPELINE
        ],
    }
    file.write_text(json.dumps(settings))  # JSON is YAML
    return file


def _token(python: list[str], config: Path, tree: Path) -> str:
    argv = [*python, "-m", "gateway", "token", "--config", str(config)]
    argv += ["--team", TEAM, "--role", "admin"]
    made = subprocess.run(argv, capture_output=True, text=True, cwd=tree, timeout=60, check=False)
    if made.returncode:
        raise NotStarted(f"no admin token: {made.stderr.strip() or made.stdout.strip()}")
    return made.stdout.split()[-1]


def _database(data: Path) -> int | None:
    """The postmaster of the embedded PostgreSQL: line 1 of its pid file."""
    for file in data.rglob("postmaster.pid"):
        return int(file.read_text().split()[0])
    return None


class Admin:
    """The few calls of the admin API that a first user makes."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.headers = {**bearer(token), "x-team-id": TEAM, "Content-Type": "application/json"}

    def connector(self, slug: str, upstream_url: str, **definition: Any) -> None:
        """A published connector with its secret and one endpoint."""
        connector = self._call(
            "POST",
            "/connectors",
            {
                "slug": slug,
                "displayName": "Benchmark",
                "upstreamBaseUrl": upstream_url,
                "authType": "bearer",
                "authConfig": {"tokenRef": "token"},
                "responseMode": "raw",
                **definition,
            },
        )
        here = f"/connectors/{connector['id']}"
        endpoint = {"name": "chat", "method": "POST", "path": "/chat/completions"}
        self._call("POST", f"{here}/endpoints", endpoint)
        self._call("PUT", f"{here}/secrets", {"token": SECRET})
        self._call("POST", f"{here}/publish", {})

    def key(self, name: str, plan: Json) -> str:
        """The value of a new key on a plan of its own."""
        made = self._call("POST", "/plans", {**plan, "name": name})
        return str(self._call("POST", "/keys", {"name": name, "planId": made["id"]})["key"])

    def _call(self, method: str, path: str, body: Json) -> Json:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, ADMIN + path, json.dumps(body), self.headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            said = answer[:500].decode(errors="replace")
            raise NotStarted(f"{NAME}: {method} {path} answered {response.status}: {said}")
        read: Json = json.loads(answer or b"{}")
        return read
