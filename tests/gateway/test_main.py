"""The command line: exit statuses, one-line errors, tokens."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import jwt
import pytest

from gateway.__main__ import main
from gateway.lifecycle.embedded import Postgres
from gateway.secrets import key_ring


@pytest.fixture(autouse=True)
def data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def test_token_names_team_role_user_and_life(
    capsys: pytest.CaptureFixture[str], data_directory: Path
) -> None:
    status = main(["token", "--team", "acme", "--role", "editor", "--user", "ada", "--ttl", "30m"])

    secret = (data_directory / "signing.key").read_text().strip()
    claims = jwt.decode(
        capsys.readouterr().out.strip(),
        secret,
        algorithms=["HS256"],
        audience="service-gateway",
        issuer="service-gateway",
    )
    assert status == 0
    assert claims["teams"] == {"acme": "editor"}
    assert claims["sub"] == "ada"
    assert claims["exp"] - claims["iat"] == 1800


def test_token_that_would_live_too_long_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["token", "--team", "acme", "--ttl", "30d"])

    captured = capsys.readouterr()
    assert status == 1
    assert captured.out == ""
    assert "a token lives at most 86400 s" in captured.err


def test_token_without_a_key_to_sign_with_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("auth: {keys: [{algorithm: RS256, jwks_url: 'https://issuer.example/jwks'}]}")

    status = main(["token", "--team", "acme", "--config", str(config)])

    assert status == 1
    assert "HMAC key" in capsys.readouterr().err


@pytest.mark.parametrize("ttl", ["12", "h", "-1h", "1w", ""])
def test_duration_that_is_none_is_refused(ttl: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["token", "--team", "acme", f"--ttl={ttl}"])

    assert ended.value.code == 2
    assert "is not a duration" in capsys.readouterr().err


def test_check_shows_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "gateway.yaml"
    secret = "s" * 40
    config.write_text(
        f"auth: {{keys: [{{algorithm: HS256, secret: {secret}}}]}}\n"
        "database: {dsn: 'postgresql://me:hidden@db/gw'}\n"
    )

    status = main(["check", "--config", str(config)])

    shown = capsys.readouterr().out
    assert status == 0
    assert secret not in shown
    assert "hidden" not in shown
    assert "database.dsn: given  (file)" in shown


def test_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["check", "--config", str(tmp_path / "none.yaml")])

    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("\n") == 1
    assert "No such file" in captured.err


def test_unreachable_database_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text("database: {dsn: 'postgresql://127.0.0.1:1/none', timeout_s: 1}\n")

    status = main(["migrate", "--config", str(config)])

    captured = capsys.readouterr()
    assert status == 1
    assert captured.err.startswith("service-gateway: ")
    assert captured.err.count("\n") == 1


@pytest.fixture
def embedded(open_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory in which PostgreSQL can run."""
    data = Path(tempfile.mkdtemp(dir=open_directory)) / "data"
    data.parent.chmod(0o711)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(data))
    return data


def test_rotation_makes_a_key_where_none_is_configured(
    embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rotate-master-key"]) == 0

    told = capsys.readouterr().out
    keys = key_ring.read(embedded / "master.key")
    assert [key.id for key in keys][1:] == ["embedded"]
    assert f"sealed 0 secrets anew with the master key {keys[0].id}\n" in told


def test_rotation_is_to_the_first_configured_key(
    postgres: Postgres, tmp_path: Path, capsys: pytest.CaptureFixture[str], data_directory: Path
) -> None:
    key = base64.b64encode(bytes(32)).decode()
    config = tmp_path / "gateway.yaml"
    config.write_text(
        f"database: {{dsn: '{postgres.dsn}'}}\n"
        f"secrets: {{master_keys: [{{id: '2027', key: '{key}'}}]}}\n"
    )

    assert main(["rotate-master-key", "--config", str(config)]) == 0
    told = capsys.readouterr()
    assert "with the master key 2027\n" in told.out
    assert key not in told.out + told.err
    assert not (data_directory / "master.key").exists()
