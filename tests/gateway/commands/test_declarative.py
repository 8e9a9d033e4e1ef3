"""The commands of declarative state: what they ask the admin API, print, and end with."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.__main__ import main

NEW_KEY = {"action": "create", "kind": "key", "name": "app", "fields": []}
NOTHING: dict[str, Any] = {"changes": [], "left": [], "keys": []}


class Request(NamedTuple):
    """What a command asked."""

    method: str
    path: str
    headers: Any
    body: Any


class Api(HTTPServer):
    """Answers what a test says, one after the other."""

    answers: list[tuple[int, Any]]
    requests: list[Request]


class Answering(BaseHTTPRequestHandler):
    """One request."""

    server: Api

    def do_GET(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = json.loads(content) if content else None
        self.server.requests.append(Request(self.command, self.path, self.headers, body))
        status, document = self.server.answers.pop(0)
        answer = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("ETag", f'"{len(self.server.requests)}"')
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815 - as http.server calls it

    def log_message(self, *_: Any) -> None:
        """Keep standard error for the command."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The admin API that the environment names."""
    with Api(("127.0.0.1", 0), Answering) as server:
        server.answers, server.requests = [], []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("GATEWAY_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("GATEWAY_TOKEN", "the-token")
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A document with a key."""
    path = tmp_path / "state.yaml"
    path.write_text("keys: [{name: app}]")
    return path


def test_difference_is_asked_for_and_ends_with_one(
    api: Api, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = [(200, {**NOTHING, "changes": [NEW_KEY]}), (200, NOTHING)]

    differs = main(["diff", "-f", str(file), "--prune", "--force", "--team", "red"])
    same = main(["diff", "-f", str(file)])

    assert (differs, same) == (1, 0)
    assert capsys.readouterr().out == (
        "+ key app\n1 to create, 0 to update, 0 to end\nno differences\n"
    )
    first, second = api.requests
    assert first.path == "/api/v1/gw/admin/config/apply?prune=true&force=true&dryRun=true"
    assert (first.headers["Authorization"], first.headers["x-team-id"]) == (
        "Bearer the-token",
        "red",
    )
    assert first.body == {"keys": [{"name": "app"}]}
    assert second.headers["x-team-id"] is None


def test_what_was_shown_is_what_is_applied(api: Api, file: Path) -> None:
    api.answers = [(200, NOTHING), (200, NOTHING)]

    assert main(["apply", "-f", str(file)]) == 0
    dry, real = api.requests
    assert dry.headers["If-Match"] is None
    assert (real.path, real.headers["If-Match"]) == ("/api/v1/gw/admin/config/apply", '"1"')


def test_state_that_changed_meanwhile_is_told(
    api: Api, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = [(200, {**NOTHING, "changes": [NEW_KEY]}), (412, {"detail": "Changed."})]
    values = tmp_path / "values.json"

    assert main(["apply", "-f", str(file), "--keys-to", str(values)]) == 2
    assert "run the command again" in capsys.readouterr().err
    assert not values.exists()


def test_file_for_keys_is_never_written_over(
    api: Api, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = [(200, {**NOTHING, "changes": [NEW_KEY]})]
    values = tmp_path / "values.json"
    values.write_text("mine")

    assert main(["apply", "-f", str(file), "--keys-to", str(values)]) == 2
    assert "File exists" in capsys.readouterr().err
    assert values.read_text() == "mine"
    assert len(api.requests) == 1


def test_new_values_are_for_their_owner_alone(
    api: Api, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [{"name": "app", "keyPrefix": "gw_12345678", "key": "gw_12345678_secret"}]
    done = {**NOTHING, "changes": [NEW_KEY], "keys": keys}
    api.answers = [(200, {**NOTHING, "changes": [NEW_KEY]}), (200, done)]
    values = tmp_path / "values.json"

    assert main(["apply", "-f", str(file), "--keys-to", str(values)]) == 0
    assert json.loads(values.read_text()) == keys
    assert values.stat().st_mode & 0o077 == 0
    captured = capsys.readouterr()
    assert "secret" not in captured.out + captured.err


def test_export_is_printed_or_written(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = [(200, b"format: 1\n"), (200, {"format": 1}), (200, b"x")]
    target = tmp_path / "state.json"

    assert main(["export", "--tag", "geo"]) == 0
    assert main(["export", "--format", "json", "-o", str(target)]) == 0
    assert main(["export", "-o", str(tmp_path)]) == 2

    captured = capsys.readouterr()
    assert captured.out == "format: 1\n"
    assert "can't be written" in captured.err
    assert target.read_text() == '{\n  "format": 1\n}\n'
    assert api.requests[0].path == "/api/v1/gw/admin/config/export?format=yaml&tag=geo"


def test_options_go_before_the_environment(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers = [(200, b"")]
    url = f"http://127.0.0.1:{api.server_port}"
    monkeypatch.setenv("GATEWAY_URL", "http://127.0.0.1:1")

    assert main(["export", "--url", url, "--token", "other"]) == 0
    assert api.requests[0].headers["Authorization"] == "Bearer other"


def test_token_is_minted_for_the_gateway_of_the_configuration_alone(
    api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"127.0.0.1:{api.server_port}"
    config = tmp_path / "gateway.yaml"
    config.write_text(f"server: {{listen: '127.0.0.1:1'}}\nadmin: {{listen: '{url}'}}\n")
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("GATEWAY_TOKEN")

    assert main(["export"]) == 2
    assert "give a token" in capsys.readouterr().err
    monkeypatch.delenv("GATEWAY_URL")
    assert main(["export", "--config", str(config)]) == 2
    assert "name the team" in capsys.readouterr().err
    api.answers = [(200, b"")]
    assert main(["export", "--config", str(config), "--team", "red"]) == 0
    assert api.requests[0].headers["Authorization"].startswith("Bearer eyJ")


def test_empty_document_ends_nothing_by_accident(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("connectors: []")

    assert main(["apply", "-f", str(empty), "--prune"]) == 2
    assert "add --force" in capsys.readouterr().err
    assert api.requests == []
    api.answers = [(200, NOTHING)]
    assert main(["diff", "-f", str(empty), "--prune", "--force"]) == 0


def test_what_a_terminal_would_act_on_is_shown_as_text(
    api: Api, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [{"op": "replace", "pointer": "/a", "before": "\x9b31m", "after": {"b": "ä\x1b"}}]
    change = {"action": "update", "kind": "key", "name": "[red]\x1b[2J", "fields": fields}
    api.answers = [(200, {**NOTHING, "changes": [change]})]

    main(["diff", "-f", str(file)])

    assert capsys.readouterr().out.splitlines()[:2] == [
        "~ key [red]\\u001b[2J",
        '    a: "\\u009b31m" -> {"b":"ä\\u001b"}',
    ]
