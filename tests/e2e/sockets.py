"""A gateway process in front of an upstream of WebSockets and event streams."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.process import Gateway, fetch

SETTINGS = """
upstream: {allow_networks: [127.0.0.0/8]}
server: {listen: '127.0.0.1:%d', drain_s: 5}
pipeline:
  - usage
  - compress
  - cors: {allow_origins: ['*']}
  - respond
  - authenticate: {query_parameter: key, failures_per_minute: 0}
  - concurrency
  - resolve
  - authorize
  - rate_limit
  - quota
  - validate
  - cache
  - idempotency
  - transform
  - proxy
"""


@dataclass(frozen=True)
class Front:
    """The gateway and a key for it."""

    gateway: Gateway
    key: str

    def url(self, path: str, scheme: str = "ws") -> str:
        """Where a path of the upstream is to be had."""
        return f"{scheme}://127.0.0.1:{self.gateway.port}/api/v1/gw/sockets{path}"

    @property
    def streams_open(self) -> int:
        """What the metric says."""
        lines = fetch(f"{self.gateway.status}/metrics").body.decode().splitlines()
        line = next(line for line in lines if line.startswith("gateway_streams_open "))
        return int(float(line.rpartition(" ")[2]))


@contextmanager
def in_front_of(base_url: str, folder: Path) -> Iterator[Front]:
    """Every optional filter is in its pipeline, and each answer is to be wrapped in an envelope."""
    own = Path(tempfile.mkdtemp(dir=folder))
    own.chmod(0o711)
    gateway = Gateway(own)
    listening = gateway.config.read_text().partition("\n")[2]
    gateway.config.write_text(listening + SETTINGS % gateway.port)
    try:
        gateway.start()
        token = gateway.token()
        wanted = {
            "slug": "sockets", "upstreamBaseUrl": base_url, "responseMode": "envelope",
            "streamingEnabled": True,
            "endpoints": [
                {"name": "any", "method": "GET", "path": "/:rest*"},
                {"name": "once", "method": "GET", "path": "/once", "rateLimit": 1},
                {"name": "plain", "method": "GET", "path": "/plain", "streamingEnabled": False},
            ],
        }  # fmt: skip
        gateway.admin("POST", "/connectors", wanted, token=token)
        gateway.admin("POST", "/connectors/sockets/publish", token=token)
        key = gateway.admin("POST", "/keys", {"name": "k"}, token=token)["key"]
        yield Front(gateway, key)
    finally:
        status = gateway.stop()
    assert status == 0, gateway.said()
    assert key not in gateway.said()
