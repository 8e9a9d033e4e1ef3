"""What `check` prints: YAML that the configuration could hold, and no secret."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import pytest

from gateway import pipeline, yamls
from gateway.commands.check import lines
from gateway.config import read
from gateway.settings import AdminSettings, Settings


def shown(settings: Settings, given: Set[str] = frozenset()) -> list[str]:
    return list(lines(settings, pipeline.plan(settings.pipeline), given))


def test_pipeline_is_shown_as_the_configuration_would_say_it() -> None:
    printed = shown(Settings())
    end = printed.index("server.listen: 127.0.0.1:8080  (default)")
    document = yamls.parse("\n".join(printed[:end]))

    assert pipeline.plan(document["pipeline"]) == pipeline.plan(Settings().pipeline)


@pytest.mark.parametrize(
    "line",
    [
        "      legacy_limit_headers: true",
        "      key_headers: [X-API-Key, X-Goog-Api-Key]",
        "      on_store_failure: local",
        "server.base_path: ''  (default)",
        "server.trusted_proxies: []  (default)",
        "server.drain_s: 30  (default)",
        "database.dsn: null  (default)",
        "usage.flush_every_s: 0.5  (default)",
        "upstream.breaker.open_s: 5  (default)",
        "log.access: false  (default)",
    ],
)
def test_values_are_written_as_an_operator_would(line: str) -> None:
    assert line in shown(Settings())


def test_origin_that_both_planes_share_is_told() -> None:
    own, trusting = AdminSettings(listen="127.0.0.1:9"), AdminSettings(share_origin=True)

    assert shown(Settings())[-2].startswith("# admin.listen is not set")
    assert shown(Settings(admin=trusting))[-2].startswith("# admin.share_origin is on")
    assert not [line for line in shown(Settings(admin=own)) if line.startswith("#")]


def test_source_of_each_setting_is_told(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("upstream: {breaker: {open_s: 7}}\nsecrets: {files: [{path: /a, hosts: [b]}]}")
    settings, given = read(path, {})

    printed = shown(settings, given)
    assert "upstream.breaker.open_s: 7  (file)" in printed
    assert "upstream.breaker.window_s: 10  (default)" in printed
    assert "secrets.files: [{path: /a, hosts: [b]}]  (file)" in printed


def test_no_secret_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    secret = "hidden" * 8
    path.write_text(
        f"auth: {{keys: [{{algorithm: HS256, secret: {secret}}}]}}\n"
        f"secrets: {{master_keys: [{{id: a, key: {secret}}}]}}\n"
        f"database: {{dsn: 'postgresql://me:{secret}@db/gw'}}\n"
    )
    settings, given = read(path, {})

    printed = shown(settings, given)
    assert secret not in "\n".join(printed)
    assert "auth.keys: 1 given  (file)" in printed
    assert "secrets.master_keys: 1 given  (file)" in printed
    assert "database.dsn: given  (file)" in printed
