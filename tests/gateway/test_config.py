"""The configuration file: the example is complete, and what is wrong is told with its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway import pipeline, yamls
from gateway.config import read
from gateway.options import OptionFaults
from gateway.settings import Settings
from tests.gateway.bombs import alias_bomb

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file."""

    def _write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def faults(path: Path | None, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(OptionFaults) as caught:
        read(path, environ or {})
    return [str(spot) for spot in caught.value.spots]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("server: {listen: nowhere}", "server.listen: neither host:port nor unix:/path"),
        ("server: {listen: 'a:70000'}", "server.listen: a port is at most 65535"),
        ("server: {listen: 8080}", "server.listen: Not a valid string"),
        ("status: {listen: null}", "status.listen: Field may not be null"),
        ("server: {base_path: /a/}", "server.base_path: a path prefix begins with a slash"),
        ("server: {trusted_proxies: [10.0.0.1/8]}", "server.trusted_proxies[0]: 10.0.0.1/8 has host"),
        ("servers: {}", "servers: unknown setting; known here: server, admin"),
        ("auth: {keys: [{}]}", "auth.keys[0]: give one of secret, public_key and jwks_url"),
        ("auth: {keys: [{algorithm: none}]}", "auth.keys[0].algorithm: not one of: ES256"),
        ("auth: {keys: [{secret: short}]}", "auth.keys[0]: The HMAC key is 5 bytes long"),
        ("auth: {keys: [{jwks_url: x, algorithm: RS256}]}", "auth.keys[0].jwks_url: not an http"),
        ("auth: {leeway_s: 301}", "auth.leeway_s: Must be"),
        ("secrets: {master_keys: [{id: a}]}", "secrets.master_keys[0]: a master key has an id and"),
        ("secrets: {environment: [{name: A}]}", "secrets.environment[0]: a reference has a name and"),
        ("secrets: {files: [{path: /a}]}", "secrets.files[0]: a file has a path and hosts"),
        ("secrets: {files: [{path: a, hosts: [b]}]}", "secrets.files[0]: not an absolute path"),
        ("secrets: {files: [{path: /a/, hosts: [b]}]}", "secrets.files[0]: a path has no empty and"),
        ("upstream: {allow_networks: [10/8/8]}", "upstream.allow_networks[0]: "),
        ("limits: {daily_quota: -1}", "limits.daily_quota: Must be greater than or equal to 0"),
        ("limits: {monthly_quota: lots}", "limits.monthly_quota: not an integer"),
        ("log: {level: LOUD}", "log.level: not one of: DEBUG, INFO, WARNING, ERROR"),
        ("pipeline: {}", "pipeline: not a list"),
        ("pipeline: null", "pipeline: not a list"),
        ("pipeline: []", "pipeline: is empty"),
        ("- server", "(file): not a mapping"),
        ("[]", "(file): not a mapping"),
        ("false", "(file): not a mapping"),
    ],
    ids=lambda text: text[:45],
)  # fmt: skip
def test_fault_is_told_with_its_path(text: str, fault: str, write: Write) -> None:
    [told] = faults(write(text))

    assert told.startswith(fault)


def test_all_faults_are_told_at_once_those_of_filters_too(write: Write) -> None:
    path = write(
        """
        server: {listen: 1, colour: red, drain_s: soon}
        auth: {keys: [{algorithm: X}, {}], issuer: "${GONE}", audience: "${file:/nowhere/at/all}"}
        pipeline: [{usage: {unknown_callers_per_s: many}}, nothing, {respond: {a: 1, server_timing: 7}}]
        """
    )

    assert [fault.split(": ")[0] for fault in faults(path)] == [
        "auth.issuer", "auth.audience", "server.listen", "server.colour", "server.drain_s",
        "auth.keys[0].algorithm", "auth.keys[1]",
        "pipeline[0].usage.unknown_callers_per_s", "pipeline[1]", "pipeline[2].respond.a",
        "pipeline[2].respond.server_timing",
    ]  # fmt: skip
    assert "pipeline[0].usage.unknown_callers_per_s: not an integer" in faults(path)


def public_pem(key: Any) -> str:
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


@pytest.mark.parametrize("size", [47, 48])
def test_secret_that_no_token_could_be_verified_with_is_refused_at_start(
    size: int, write: Write
) -> None:
    path = write(f"auth: {{keys: [{{algorithm: HS384, secret: {'x' * size}}}]}}")

    if size == 48:
        assert read(path, {})[0].auth.keys[0].secret == "x" * 48
    else:
        assert faults(path)[0].startswith("auth.keys[0]: The HMAC key is 47 bytes long")


@pytest.mark.parametrize(
    ("algorithm", "made"),
    [
        ("RS256", lambda: "hush"),
        ("RS256", lambda: public_pem(ec.generate_private_key(ec.SECP256R1()))),
        ("ES256", lambda: public_pem(rsa.generate_private_key(65537, 2048))),
        ("ES256", lambda: public_pem(ec.generate_private_key(ec.SECP384R1()))),
        ("RS256", lambda: public_pem(rsa.generate_private_key(65537, 1024))),  # noqa: S505 - it is the one to be refused
    ],
    ids=["no PEM", "RSA wanted", "EC wanted", "another curve", "too small"],
)
def test_public_key_that_no_token_could_be_verified_with_is_refused_at_start(
    algorithm: str, made: Callable[[], str], write: Write
) -> None:
    keys = [{"algorithm": algorithm, "public_key": made()}]
    [fault] = faults(write(yaml.safe_dump({"auth": {"keys": keys}})))

    assert fault.startswith("auth.keys[0]: ")
    assert "hush" not in fault


def test_environment_gives_text_numbers_switches_and_items(write: Write) -> None:
    environ = {
        "ISSUER": "${NAME} stays", "EMPTY": "", "CONNECTIONS": "7", "QUOTA": "5", "ACCESS": "true",
        "NETWORK": "10.0.0.0/8", "SAMPLED": "3",
    }  # fmt: skip
    path = write(
        """
        auth: {issuer: "${ISSUER}", audience: "a-${GONE:-b}-${EMPTY:-c}-${EMPTY}-${GONE:-}"}
        database: {most_connections: "${CONNECTIONS}", timeout_s: "${GONE:-2.5}"}
        limits: {daily_quota: "${QUOTA}", monthly_quota: null}
        log: {access: "${ACCESS}"}
        server: {trusted_proxies: ["${NETWORK}"]}
        pipeline: [{usage: {unknown_callers_per_s: "${SAMPLED}"}}, authenticate, resolve, transform, proxy]
        """
    )
    settings, given = read(path, environ)

    assert (settings.auth.issuer, settings.auth.audience) == ("${NAME} stays", "a-b-c--")
    assert (settings.database.most_connections, settings.database.timeout_s) == (7, 2.5)
    assert (settings.limits.daily_quota, settings.limits.monthly_quota) == (5, None)
    assert settings.log.access is True
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
    assert pipeline.plan(settings.pipeline)[0].options.unknown_callers_per_s == 3
    assert {"auth.issuer", "database.timeout_s", "pipeline"} <= given


def test_number_from_the_environment_that_is_none_is_refused(write: Write) -> None:
    path = write('database: {most_connections: "${N}"}')

    assert faults(path, {"N": "many"}) == ["database.most_connections: not an integer"]
    assert faults(path)[0] == "database.most_connections: the environment variable N is not set"


def test_files_give_their_content_without_the_line_end(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret that is long enough ${A} \n", encoding="utf-8")
    path = write(f'auth: {{keys: [{{secret: "${{file:{tmp_path}/secret}}"}}]}}')

    assert read(path, {})[0].auth.keys[0].secret == "a secret that is long enough ${A}"


def test_file_that_cannot_be_read_is_named(write: Write, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"\xe9")
    for name in ("gone", "latin", "."):
        path = write(f'log: {{level: "${{file:{tmp_path}/{name}}}"}}')

        assert faults(path)[0] == f"log.level: the file {tmp_path}/{name} can't be read"


@pytest.mark.parametrize("reference", ["${}", "${1A}", "${A-B}", "${file:}", "${A:default}", "x${"])
def test_malformed_reference_is_refused_and_not_taken_for_a_value(
    reference: str, write: Write
) -> None:
    assert faults(write(f"database: {{dsn: '{reference}'}}"), {"A": "a"})[0].startswith(
        "database.dsn: a reference is ${NAME}, "
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", '"a" is given twice (line 2, column 1)'),
        ("server: {listen: 'a:1', listen: 'b:2'}", '"listen" is given twice'),
        ("x:\n  - {b: 1, b: 1}", '"b" is given twice (line 2, column 12)'),
        ("a: [", "is not YAML: "), ("a: b: c", "is not YAML: "), ("\tx: 1", "is not YAML: "),
        ("? [a, b]\n: c", "is not YAML: "), ("a: \x00", "is not YAML: "),
        ("a: !!python/object:os.system {}", "is not YAML: "),
        ("status: {<<: {listen: 'a:1'}}", "a merge key (<<) is not JSON (line 1, column 10)"),
        ("a: *b", "is not YAML: "), ("a: 1\n---\nb: 1", "is not YAML: "),
    ],
)  # fmt: skip
def test_file_that_is_not_unambiguous_yaml_is_refused(text: str, reason: str, write: Write) -> None:
    path = write(text)
    [fault] = faults(path)

    assert fault.startswith(f"{path}: ")
    assert reason in fault


def test_file_that_is_not_there_or_not_text_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"a: \xe9")

    assert faults(tmp_path / "gone") == [f"{tmp_path}/gone: No such file or directory"]
    assert faults(tmp_path) == [f"{tmp_path}: Is a directory"]
    assert faults(tmp_path / "latin") == [f"{tmp_path}/latin: is not UTF-8"]


@pytest.mark.parametrize(
    "text", ["", "# nothing", "---", "null", "server:", "server: null\nlog: {}"]
)
def test_what_is_not_said_has_its_default(text: str, write: Write) -> None:
    assert read(write(text), {})[0] == Settings()


def test_alias_stands_for_what_its_anchor_is_at(write: Write) -> None:
    path = write("log: {access: &a true}\nhealth: {enabled: *a}\nadmin: &n {}\nusage: *n")

    assert read(path, {})[0].log.access is True


@pytest.mark.parametrize("word", ["no", "Off", "YES", "2024-01-31", "12:30", "1_000"])
def test_words_that_old_yaml_takes_for_something_else_are_texts(word: str, write: Write) -> None:
    assert read(write(f"auth: {{issuer: {word}}}"), {})[0].auth.issuer == word


def test_aliases_of_aliases_are_refused_at_once(write: Write) -> None:
    fault = f"aliases repeat more than {yamls.MOST_REPEATED} values"
    assert fault in faults(write(alias_bomb() + "\nserver: {trusted_proxies: *a6}"))[0]


@given(st.text(st.sampled_from("abserver:listen[]{}-#&*!|>'\"%@`,? \n\t0$\x00é"), max_size=40))
def test_whatever_the_file_holds_it_is_read_or_refused(text: str) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory, "config.yaml")
        path.write_text(text, encoding="utf-8")
        try:
            settings, _ = read(path, {})
        except OptionFaults as refused:
            told = refused.spots
            assert told
        else:
            assert isinstance(settings, Settings)


def test_certificates_that_cannot_be_read_are_told_at_their_place(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("upstream: {ca_file: /no/such/file}")

    with pytest.raises(OptionFaults, match=r"upstream\.ca_file: .*No such file"):
        read(file, {})
