"""The command line: exit statuses, one-line errors, tokens."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from gateway.__main__ import main


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
