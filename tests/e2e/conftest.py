"""Gateways as processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.process import Gateway


@pytest.fixture
def make_gateway(open_directory: Path) -> Iterator[Callable[..., Gateway]]:
    """Makes gateways that are stopped after the test."""
    ending = ExitStack()

    def make(settings: str = "", environ: Mapping[str, str] | None = None) -> Gateway:
        folder = Path(tempfile.mkdtemp(dir=open_directory))
        folder.chmod(0o711)
        gateway = Gateway(folder, settings, environ)
        ending.callback(gateway.stop)
        return gateway

    with ending:
        yield make


@pytest.fixture(scope="module")
def demo(open_directory: Path) -> Iterator[Gateway]:
    """A gateway with its demo upstream, for the tests of a file that leave it as it was."""
    folder = Path(tempfile.mkdtemp(dir=open_directory))
    folder.chmod(0o711)
    gateway = Gateway(folder)
    gateway.start("--demo")
    yield gateway
    assert gateway.stop() == 0, gateway.said()
