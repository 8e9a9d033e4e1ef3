"""Our gateway as its user runs it: its own process, embedded PostgreSQL, the default pipeline.

Connector, secret, plan and key are made through the admin API. The plan's limits are counted on
every call and never reached.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from call import SECRET, Call, bearer
from children import ROOT, NotStarted, free_port
from target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from children import Children

ADMIN = "/api/v1/gw/admin"
NAME = "Service Gateway, default pipeline"
TEAM = "bench"
PLAN = {
    "name": "bench",
    "rateLimit": 10_000_000,
    "dailyQuota": 1_000_000_000,
    "monthlyQuota": 1_000_000_000,
}

Json = dict[str, Any]


def start(
    children: Children,
    cores: frozenset[int],
    upstream_port: int,
    profile: Path | None = None,
    *,
    tree: Path = ROOT,
    name: str = "gateway",
) -> Target:
    """The running gateway of a tree with a published connector; with `profile`, under cProfile."""
    port, data = free_port(), children.folder / name
    config = _configure(children.folder / f"{name}.yaml", port)
    python = ["env", f"GATEWAY_DATA_DIR={data}", f"PYTHONPATH={tree}", sys.executable]
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    argv = [*python, *profiler, "-m", "gateway", "serve", "--config", str(config)]
    pid = children.start(name, argv, cores, port, tree)
    token = _token(python, config, tree)
    key = _Admin(port, token).prepare(f"http://127.0.0.1:{upstream_port}/v1")
    call = Call(port, "/api/v1/gw/bench/chat/completions", bearer(key))
    return Target(NAME, call, pid, _database(data), checks_keys=True)


def _configure(file: Path, port: int) -> Path:
    settings = {
        "server": {"listen": f"127.0.0.1:{port}"},
        "status": {"listen": f"127.0.0.1:{free_port()}"},
        "upstream": {"allow_networks": ["127.0.0.0/8"]},
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


class _Admin:
    """The few calls of the admin API that a first user makes."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.headers = {**bearer(token), "x-team-id": TEAM, "Content-Type": "application/json"}

    def prepare(self, upstream_url: str) -> str:
        """Connector, secret, publication, plan; gives the value of a new key."""
        connector = self._call(
            "POST",
            "/connectors",
            {
                "slug": "bench",
                "displayName": "Benchmark",
                "upstreamBaseUrl": upstream_url,
                "authType": "bearer",
                "authConfig": {"tokenRef": "token"},
                "responseMode": "raw",
            },
        )
        here = f"/connectors/{connector['id']}"
        endpoint = {"name": "chat", "method": "POST", "path": "/chat/completions"}
        self._call("POST", f"{here}/endpoints", endpoint)
        self._call("PUT", f"{here}/secrets", {"token": SECRET})
        self._call("POST", f"{here}/publish", {})
        plan = self._call("POST", "/plans", PLAN)
        key = self._call("POST", "/keys", {"name": "bench", "planId": plan["id"]})
        return str(key["key"])

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
