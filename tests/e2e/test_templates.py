"""Every endpoint of every template, through the gateway, to a service that is strict about it."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import ROOT, Gateway
from tests.templates.mock import Call
from tests.templates.services import EVERY_CALL, SERVICES, variables_of

CALLS = [
    pytest.param(template, call, id=f"{template}-{number}-{call.endpoint}")
    for template, number, call in EVERY_CALL
]
PLAN = {"rateLimit": 10_000, "dailyQuota": None, "monthlyQuota": None, "maxRequestSize": 1 << 26}


@pytest.fixture(scope="module")
def base_urls() -> Iterator[dict[str, str]]:
    """The mock services, on a loop of their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    started = {name: run(service.start()) for name, service in SERVICES.items()}
    yield {name: base_url for name, (base_url, _) in started.items()}
    for _, stop in started.values():
        run(stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def served(open_directory: Path, base_urls: dict[str, str]) -> Iterator[tuple[Gateway, str]]:
    """A gateway with a connector from each template, and a key for all of them."""
    folder = Path(tempfile.mkdtemp(dir=open_directory))
    folder.chmod(0o711)
    gateway = Gateway(folder, "upstream: {allow_networks: [127.0.0.0/8]}\n")
    gateway.start()
    token = gateway.token()
    plan = gateway.admin("POST", "/plans", {"name": "wide", **PLAN}, token=token)
    for name, service in SERVICES.items():
        template = {"templateId": name, "upstreamBaseUrl": base_urls[name]}
        given = {"secrets": dict(service.SECRETS), "variables": variables_of(service)}
        wanted = {**template, **given, "publish": True}
        connector = gateway.admin("POST", "/templates", wanted, token=token)
        assert connector["status"] == "published"
    key = gateway.admin("POST", "/keys", {"name": "k", "planId": plan["id"]}, token=token)["key"]
    yield gateway, key
    assert gateway.stop() == 0


@pytest.mark.parametrize(("template", "call"), CALLS)
def test_call_gets_the_services_answer(
    template: str, call: Call, served: tuple[Gateway, str]
) -> None:
    gateway, key = served
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)) as connection:
        headers = {**call.headers, "Authorization": f"Bearer {key}"}
        path = f"/api/v1/gw/{template}{call.path}"
        connection.request(call.method, path, call.body or None, headers)
        answer = connection.getresponse()
        body = answer.read()

    assert answer.status == call.status, body
    assert call.holds in body


def test_gateway_with_a_broken_template_does_not_start(tmp_path: Path) -> None:
    for package in ("gateway", "filters", "admin", "sql", "templates"):
        shutil.copytree(ROOT / package, tmp_path / package)
    file = tmp_path / "templates" / "twilio.json"
    file.write_text(file.read_text("utf-8").replace("{{variables.accountSid}}", "x"), "utf-8")

    done = Gateway(tmp_path, run_in=tmp_path).command("serve")

    assert done.returncode == 1
    assert "templates/twilio.json: /variables/0: Nothing uses the variable" in done.stderr
    assert not (tmp_path / "data").exists()
