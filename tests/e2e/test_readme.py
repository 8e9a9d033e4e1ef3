"""The README's first ten minutes, command by command, against a running demo."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.e2e.process import ROOT, Gateway

FAILING_CURL = 'curl() { command curl -sS --fail-with-body "$@"; }\n'


def commands() -> str:
    """The shell blocks of the section, after the one that starts the gateway."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.split("## Ten minutes to the first call")[1].split("\n## ")[0]
    first, *others = re.findall(r"```bash\n(.*?)```", section, re.S)
    assert first.strip() == "make run"
    return "\n".join(others)


def test_quick_start_works_as_written(demo: Gateway) -> None:
    demo.wait_for("-H 'Authorization: Bearer gw_")
    upstream = demo.admin("GET", "/connectors/demo", token=demo.token("demo"))["upstreamBaseUrl"]
    script = commands()
    for written, real in (
        ("http://127.0.0.1:8080", demo.base),
        ("http://127.0.0.1:8081", demo.status),
        ("http://127.0.0.1:8090", upstream),
        (".venv/bin/service-gateway", f"{sys.executable} -m gateway"),
    ):
        assert written in script
        script = script.replace(written, real)

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", FAILING_CURL + script],  # noqa: S607 - any bash does
        cwd=ROOT,
        env=demo.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"published"' in done.stdout
    assert '"prompt":"neon anime"' in done.stdout
    assert '"totalRequests":' in done.stdout
    assert 'gateway_requests_total{code="201",connector="daydream"' in done.stdout


def test_draft_answers_404_and_says_why(demo: Gateway) -> None:
    token = demo.token("demo")
    draft = {"slug": "not-yet", "upstreamBaseUrl": "https://api.example.com"}
    demo.admin("POST", "/connectors", draft, token=token)
    key = demo.admin("POST", "/keys", {"name": "drafts"}, token=token)["key"]

    answer = demo.call("/not-yet/anything", key)

    assert answer.status == 404
    assert answer.json["code"] == "connector_not_found"
    assert "draft" in answer.json["detail"]
    assert "publish" in answer.json["detail"]
