"""A team's state in files: exported, compared and applied by the command line to a real gateway."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.e2e.process import Gateway

Make = Callable[..., Gateway]
Done = subprocess.CompletedProcess[str]
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
STATE = """
plans:
- name: gold
  rateLimit: 50
connectors:
- slug: maps
  upstreamBaseUrl: https://maps.example.com
  published: true
  endpoints:
  - {name: find, method: GET, path: /find}
"""


@pytest.fixture(scope="module")
def gateway(demo: Gateway) -> Gateway:
    """The demo gateway, whose other teams are free."""
    return demo


def run(gateway: Gateway, team: str, *arguments: str) -> Done:
    return gateway.command(*arguments, "--team", team)


def test_files_are_applied_compared_and_exported(gateway: Gateway, tmp_path: Path) -> None:
    file, copy = tmp_path / "state.yaml", tmp_path / "copy.yaml"
    file.write_text(STATE)

    differs = run(gateway, "acme", "diff", "-f", str(file))
    applied = run(gateway, "acme", "apply", "-f", str(file))
    same = run(gateway, "acme", "diff", "-f", str(file))
    exported = run(gateway, "acme", "export", "-o", str(copy))
    again = run(gateway, "acme", "apply", "-f", str(copy), "--dry-run")

    assert (differs.returncode, differs.stderr) == (1, "")
    assert differs.stdout.splitlines()[-1] == "3 to create, 0 to update, 0 to end"
    assert "+ endpoint maps/find" in differs.stdout
    assert (applied.returncode, applied.stdout.splitlines()[-1]) == (0, "applied"), applied.stderr
    assert (same.returncode, same.stdout.splitlines()[-1]) == (0, "no differences")
    assert (exported.returncode, exported.stdout) == (0, "")
    assert (again.returncode, again.stdout) == (0, "no differences\n")
    assert "  published: true" in copy.read_text()


def test_difference_shows_fields_and_what_prune_would_end(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "state.yaml"
    file.write_text(STATE)
    run(gateway, "blue", "apply", "-f", str(file))
    file.write_text('plans: [{name: gold, rateLimit: 60, displayName: "\\e[31m"}]')

    kept = run(gateway, "blue", "diff", "-f", str(file))
    pruned = run(gateway, "blue", "diff", "-f", str(file), "--prune")

    assert kept.stdout == (
        "~ plan gold\n"
        '    displayName: "gold" -> "\\u001b[31m"\n'
        "    rateLimit: 50 -> 60\n"
        "  connector maps is not in the document: --prune would archive it\n"
        "0 to create, 1 to update, 0 to end\n"
    )
    assert "- connector maps (archive)\n" in pruned.stdout
    assert (kept.returncode, pruned.returncode) == (1, 1)


def test_values_of_new_keys_go_to_a_file_and_nowhere_else(gateway: Gateway, tmp_path: Path) -> None:
    file, values = tmp_path / "state.json", tmp_path / "values.json"
    file.write_text(json.dumps({"keys": [{"name": "app"}]}))

    refused = run(gateway, "keys", "apply", "-f", str(file))
    done = run(gateway, "keys", "apply", "-f", str(file), "--keys-to", str(values))
    taken = run(gateway, "keys", "apply", "-f", str(file), "--keys-to", str(values))

    assert refused.returncode == 2
    assert refused.stderr == (
        "service-gateway: new keys: 1; name a file for their values with --keys-to\n"
    )
    (key,) = json.loads(values.read_text())
    assert values.stat().st_mode & 0o777 == 0o600
    assert key["key"] not in done.stdout + done.stderr
    assert (done.returncode, taken.returncode) == (0, 0)
    token = gateway.token("keys")
    (listed,) = gateway.admin("GET", "/keys", token=token)["items"]
    assert (listed["name"], listed["keyPrefix"]) == ("app", key["keyPrefix"])


def test_faults_are_told_with_file_and_pointer(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("plans: [{name: gold}]")
    (tmp_path / "b.yaml").write_text("plans: [{name: silver, rateLimit: -1}]\nkeys: [{name: ''}]")

    done = run(gateway, "faulty", "diff", "-f", str(tmp_path))

    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(": ")[:3] for line in done.stderr.splitlines()] == [
        ["service-gateway", str(tmp_path / "b.yaml"), "/plans/0/rateLimit"],
        ["service-gateway", str(tmp_path / "b.yaml"), "/keys/0/name"],
    ]


def test_older_revision_is_refused_in_one_line(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "state.yaml"
    for revision, expected in ((2, 0), (1, 2)):
        file.write_text(f"revision: {revision}\nplans: [{{name: gold, rateLimit: {revision}}}]")
        done = run(gateway, "backwards", "apply", "-f", str(file))
        assert done.returncode == expected, done.stderr
    assert done.stderr == (
        f"service-gateway: {file}: /revision: Revision 2 has been applied, which is newer than 1.\n"
    )


def test_empty_document_does_not_end_everything_by_accident(
    gateway: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "state.yaml"
    file.write_text("")

    done = run(gateway, "acme", "apply", "-f", str(file), "--prune")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "add --force" in done.stderr


def test_token_and_team_are_asked_for(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "state.yaml"
    file.write_text(STATE)
    diff = ("diff", "-f", str(file))

    nobody = gateway.command(*diff)
    elsewhere = gateway.command(*diff, "--url", gateway.base)
    refused = gateway.command(*diff, "--url", gateway.base, "--token", "not.a.token")
    good = gateway.command(*diff, "--url", gateway.base, "--token", gateway.token("fresh"))

    assert "name the team with --team" in nobody.stderr
    assert "give a token with --token or GATEWAY_TOKEN" in elsewhere.stderr
    assert "the token is refused" in refused.stderr
    assert [done.returncode for done in (nobody, elsewhere, refused, good)] == [2, 2, 2, 1]


async def hold(dsn: str, held: threading.Event, waited_for: threading.Event) -> None:
    """Hold the last connector that an apply will change, until somebody waits for it."""
    connection = await asyncpg.connect(dsn)
    async with connection.transaction():
        await connection.execute(
            "SELECT 1 FROM plugin_service_gateway.service_connector WHERE slug = 'zz' FOR UPDATE"
        )
        held.set()
        async with asyncio.timeout(30):
            while not await connection.fetchval(WAITING):  # noqa: ASYNC110 - it has no event for us
                await asyncio.sleep(0.02)
        waited_for.set()
    await connection.close()


def test_apply_that_is_killed_half_way_leaves_nothing(
    make_gateway: Make, database: Any, tmp_path: Path
) -> None:
    gateway = make_gateway(f"database: {{dsn: '{database.dsn}'}}\n")
    gateway.start()
    names = [f"c{number}" for number in range(20)] + ["zz"]
    token = gateway.token("acme")

    def document(description: str) -> dict[str, Any]:
        return {
            "connectors": [
                {
                    "slug": name,
                    "upstreamBaseUrl": "https://a.example.com",
                    "description": description,
                }
                for name in names
            ]
        }

    gateway.admin("POST", "/config/apply", document("before"), token=token)
    ready, waits = threading.Event(), threading.Event()
    holder = threading.Thread(target=lambda: asyncio.run(hold(database.dsn, ready, waits)))
    holder.start()
    assert ready.wait(20)
    file = tmp_path / "state.json"
    file.write_text(json.dumps(document("after")))
    command = threading.Thread(target=lambda: run(gateway, "acme", "apply", "-f", str(file)))
    command.start()
    assert waits.wait(30)
    gateway.stop(signal.SIGKILL)
    command.join(60)
    holder.join(60)

    gateway.start()
    items = gateway.admin("GET", "/connectors?limit=100", token=token)["items"]
    assert {item["slug"] for item in items} == set(names)
    assert {item["description"] for item in items} == {"before"}
    assert run(gateway, "acme", "apply", "-f", str(file)).returncode == 0
    items = gateway.admin("GET", "/connectors?limit=100", token=token)["items"]
    assert {item["description"] for item in items} == {"after"}
