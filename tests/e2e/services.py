"""What gateways as processes call: services of loopback on a loop of their own, and a gateway to them."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.process import Gateway
from tests.templates.mock import Stop


@contextmanager
def serving(start: Callable[[], Awaitable[tuple[str, Stop]]]) -> Iterator[str]:
    """Run a mock service in a thread; gives its base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    base_url, stop = run(start())
    try:
        yield base_url
    finally:
        run(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def gateway_to_loopback(folder: Path) -> Iterator[Gateway]:
    """A gateway process whose connectors may be on loopback; it has to end well."""
    own = Path(tempfile.mkdtemp(dir=folder))
    own.chmod(0o711)
    settings = "upstream: {allow_networks: [127.0.0.0/8]}\nadmin: {failures_per_minute: 0}\n"
    gateway = Gateway(own, settings)
    try:
        gateway.start()
        yield gateway
    finally:
        status = gateway.stop()
    assert status == 0, gateway.said()
