"""A gateway as its operator runs it: a process with a configuration file and a data directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
START_WITHIN_S = 60.0


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def fetch(
    url: str, method: str = "GET", *, headers: Mapping[str, str] | None = None, content: Any = None
) -> Answer:
    """One request; any status is an answer."""
    data = None if content is None else json.dumps(content).encode()
    given = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, given, method=method)  # noqa: S310 - http on loopback
    try:
        with urllib.request.urlopen(request, timeout=20) as got:  # noqa: S310 - as above
            return Answer(got.status, dict(got.headers), got.read())
    except urllib.error.HTTPError as got:
        with got:
            return Answer(got.code, dict(got.headers), got.read())


class Gateway:
    """A gateway process; `folder` holds its configuration, its data directory and its output."""

    def __init__(
        self,
        folder: Path,
        settings: str = "",
        environ: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "gateway"),
        run_in: Path = ROOT,
    ) -> None:
        self.program = program
        self.run_in = run_in
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "gateway.yaml"
        self.output = folder / "output"
        self.port, self.status_port = free_port(), free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.status = f"http://127.0.0.1:{self.status_port}"
        self.environ = {**os.environ, "GATEWAY_DATA_DIR": str(self.data), **(environ or {})}
        self.process: subprocess.Popen[bytes] | None = None
        listeners = (
            f"server: {{listen: '127.0.0.1:{self.port}'}}\n"
            f"status: {{listen: '127.0.0.1:{self.status_port}'}}\n"
        )
        self.config.write_text(listeners + settings)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the gateway with the same configuration."""
        return subprocess.run(
            [*self.program, *arguments, "--config", str(self.config)],
            cwd=self.run_in,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *flags: str) -> None:
        """Serve, and wait until it is ready."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*self.program, "serve", "--config", str(self.config), *flags],
                cwd=self.run_in,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + START_WITHIN_S
        while not self._is_ready():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)  # noqa: TID251 - another process has no event for us

    def _is_ready(self) -> bool:
        try:
            return fetch(f"{self.status}/readyz").status == 200
        except OSError:
            return False

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        deadline = time.monotonic() + START_WITHIN_S
        while text not in self.said():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)  # noqa: TID251 - another process has no event for us

    def said(self) -> str:
        """Everything that it wrote."""
        return self.output.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; answers the exit status."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(60)
        finally:
            process.kill()

    def token(self, team: str = "acme", role: str = "admin") -> str:
        """An admin token by the command line."""
        done = self.command("token", "--team", team, "--role", role)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def admin(
        self, method: str, path: str, content: Any = None, *, token: str, expect: int = 0
    ) -> Any:
        """A call of the admin API; its document."""
        url = f"{self.base}/api/v1/gw/admin{path}"
        headers = {"Authorization": f"Bearer {token}"}
        answer = fetch(url, method, headers=headers, content=content)
        assert answer.status < 400 or answer.status == expect, answer.body
        return answer.json if answer.body else None

    def scrape(self) -> str:
        """What Prometheus would get."""
        return fetch(f"{self.status}/metrics").body.decode()

    def call(self, path: str, key: str, method: str = "GET", content: Any = None) -> Answer:
        """A call of the data plane with a key."""
        headers = {"Authorization": f"Bearer {key}"}
        return fetch(f"{self.base}/api/v1/gw{path}", method, headers=headers, content=content)


def eventually(condition: Callable[[], bool], gateway: Gateway) -> None:
    """Wait until a condition holds; fails with what the gateway said when it does not in time."""
    deadline = time.monotonic() + START_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, gateway.said()
        time.sleep(0.02)  # noqa: TID251 - another process has no event for us
