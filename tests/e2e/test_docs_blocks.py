"""What the README and the pages of docs/ show works as it stands: commands, documents, programs."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from admin.templates.documents import faults as template_faults
from gateway import yamls
from gateway.config import read
from gateway.problems import SCHEMA
from gateway.transform.body_template import compile_template
from gateway.transform.field_map import compile_field_map
from tests.e2e import pages
from tests.e2e.pages import EVERY, PAGES, README, Block, replaced
from tests.e2e.process import ROOT, Gateway
from tests.e2e.services import serving
from tests.templates.s3 import start as start_s3

RUN = {"bash", "python"}
DOCUMENTS = {"yaml", "json"}
SHOWN = {"text", "js"}
"""Output, and what only a browser can run: always with a reason, but for output."""
NOT_RUN = 9
"""How many blocks have a marker `<!-- not run: reason -->` before them. Fewer are better."""
PLACEHOLDERS = re.compile(r"@@|\bTBD\b|\bTODO\b|\bFIXME\b|lorem ipsum|\bYOUR_\w+", re.I)
MOUNTED = "/run/secrets/stripe"
SEEDS = {"YOUR_JWT", "YOUR_TEAM_ID", "YOUR_KEY"}
pytestmark = pytest.mark.timeout(240)  # a page of commands on a busy machine

IS_RUN = [p for p in PAGES if any(b.language in RUN and not b.reason for b in pages.blocks(p))]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A service that speaks like Amazon S3."""
    with serving(start_s3) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def folder(open_directory: Path) -> Path:
    """The gateway's folder, with the mounted secret that a page tells of."""
    made = Path(tempfile.mkdtemp(dir=open_directory))
    made.chmod(0o711)
    (made / "stripe").mkdir()
    (made / "stripe" / "api-key").write_text("rk_made_up\n")
    return made


@pytest.fixture(scope="module")
def gateway(s3: str, folder: Path) -> Iterator[Gateway]:
    """The demo that `make run` starts, with what the pages have its operator allow and set."""
    wanted = pages.operator_settings()
    settings = yamls.render({**wanted, "health": {"enabled": False}})  # which would call far hosts
    settings = replaced(settings, {"127.0.0.1:9000": authority(s3), MOUNTED: f"{folder}/stripe"})
    environ = {entry["name"]: "made-up" for entry in wanted["secrets"]["environment"]}
    made = Gateway(folder, settings, environ)
    made.start("--demo")
    made.wait_for("-H 'Authorization: Bearer gw_")
    yield made
    assert made.stop() == 0, made.said()


@pytest.fixture(scope="module")
def real(gateway: Gateway, s3: str, folder: Path) -> dict[str, str]:
    """The addresses and the path of the pages, and where their servers and the file are."""
    demo = gateway.admin("GET", "/connectors/demo", token=gateway.token("demo"))
    return {
        "127.0.0.1:8080": authority(gateway.base),
        "127.0.0.1:8081": authority(gateway.status),
        "127.0.0.1:8090": authority(demo["upstreamBaseUrl"]),
        "127.0.0.1:9000": authority(s3),
        MOUNTED: f"{folder}/stripe",
    }


def authority(url: str) -> str:
    """Host and port."""
    return url.removeprefix("http://")


def run(
    shown: Sequence[Block], gateway: Gateway, real: dict[str, str], folder: Path, taken: str = ""
) -> str:
    """Run a page's blocks in a newcomer's folder; their output. `taken`: a status that is fine."""
    pages.newcomers_folder(folder)
    done = subprocess.run(
        ["bash", "-euo", "pipefail"],  # noqa: S607 - any bash does
        input=pages.script(shown, real),
        cwd=folder,
        env={**pages.environ(gateway), "TAKEN": taken},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", [p for p in IS_RUN if p != README], ids=lambda page: page.name)
def test_commands_of_a_page_work(
    page: Path, gateway: Gateway, real: dict[str, str], tmp_path: Path
) -> None:
    run(pages.blocks(page), gateway, real, tmp_path)


def test_commands_of_the_readme_work_and_the_quick_start_works_again(
    gateway: Gateway, real: dict[str, str], tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    first.mkdir()
    again.mkdir()
    said = run(pages.blocks(README), gateway, real, first)

    assert '"prompt":"neon anime"' in said
    assert '"totalRequests":' in said
    assert 'gateway_requests_total{code="201",connector="daydream"' in said

    assert "step 1 answers 409" in README.read_text("utf-8")
    shown = list(takewhile(lambda block: block.language != "python", pages.blocks(README)))
    assert '"prompt":"neon anime"' in run(shown, gateway, real, again, taken="409")


def test_make_run_is_the_demo_that_pages_are_tried_with() -> None:
    assert "service-gateway serve --demo\n" in (ROOT / "Makefile").read_text("utf-8")


def of(languages: set[str]) -> list[Any]:
    return [pytest.param(b, id=b.place) for b in EVERY if b.language in languages and not b.reason]


@pytest.mark.parametrize("block", of(DOCUMENTS))
def test_document_is_what_it_is_for(block: Block, gateway: Gateway, tmp_path: Path) -> None:
    if block.language == "json":
        check_json(block, gateway)
        return
    document = yamls.parse(block.text)
    if pages.is_configuration(document):
        (tmp_path / "gateway.yaml").write_text(block.text)
        read(tmp_path / "gateway.yaml", {})
    else:
        check_state(block, gateway, tmp_path)


def check_state(block: Block, gateway: Gateway, folder: Path) -> None:
    """A team's state: a gateway takes it."""
    (folder / "state.yaml").write_text(block.text)
    done = gateway.command("diff", "--team", "another", "-f", str(folder / "state.yaml"))
    assert done.returncode < 2, done.stderr


def check_json(block: Block, gateway: Gateway) -> None:
    """A problem, a template, a connector, a field map or a template of a body: each is taken."""
    if "{{body." in block.text:
        compile_template(block.text, None, {"user"})
        return
    document = json.loads(block.text)
    if "requestId" in document:
        jsonschema_rs.validate(SCHEMA, document)
    elif "endpoints" in document:
        assert template_faults(document) == []
    elif "upstreamBaseUrl" in document:
        token = gateway.token("another")
        gateway.admin("POST", "/connectors?dryRun=true", document, token=token)
    else:
        assert compile_field_map(document) is not None


def test_every_block_is_run_or_says_why_it_is_not() -> None:
    for block in EVERY:
        known = RUN | DOCUMENTS | SHOWN
        assert block.language in known, f"{block.place}: a block is one of {sorted(known)}"
        assert block.language != "js" or block.reason, f"{block.place}: why is it not run?"

    unrun = [block.place for block in EVERY if block.reason]
    assert len(unrun) == NOT_RUN, unrun
    markers = sum(page.read_text("utf-8").count("<!-- not run:") for page in PAGES)
    assert markers == NOT_RUN, "a marker has its reason in one line, and its block right below"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_has_no_placeholders(page: Path) -> None:
    found = set(PLACEHOLDERS.findall(page.read_text("utf-8")))

    assert found - (SEEDS if page == README else set()) == set()
