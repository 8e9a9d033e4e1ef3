"""Child processes that end, each by its own id, with the block that started them."""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Self

from cpu import pinned

ROOT = Path(__file__).parents[2]
START_S = 60.0
END_S = 20.0


class NotStarted(Exception):
    """A child ended or stayed silent; the message says which and shows its last line."""


class Children:
    """Starts programs with their output in `folder`; ends all of them, the last one first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self._running):
            end(child)

    def start(
        self, name: str, argv: list[str], cores: frozenset[int], port: int, cwd: Path = ROOT
    ) -> int:
        """Start a program on these cores, wait until it accepts on `port`, give its id."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output, pinned(cores):
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd
            )
        self._running.append(child)
        deadline = monotonic() + START_S
        while not accepts(port):
            with suppress(subprocess.TimeoutExpired):
                child.wait(0.05)
            if child.returncode is not None or monotonic() > deadline:
                end(child)
                raise NotStarted(f"{name} did not start: {_last_line(log)}")
        return child.pid


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask a child to end, and make it when it takes too long."""
    child.terminate()
    try:
        child.wait(END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def accepts(port: int) -> bool:
    """Does anything accept connections there?"""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"
