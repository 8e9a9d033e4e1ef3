"""Secrets at rest: a value opens in its own row with its own key, and nothing shows one."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.secrets.destinations import written as to
from gateway.secrets.files import Permitted, SecretFiles
from gateway.secrets.vault import (
    MasterKey,
    Reference,
    Sealed,
    Vault,
    VaultFault,
    decode_key,
    key_file,
)

FIRST = MasterKey("first", bytes(range(32)))
SECOND = MasterKey("second", bytes(range(1, 33)))
HERE = {"team": "t", "connector": "c", "name": "n"}
PROJECT = Path(__file__).parents[3]


@given(st.text())
def test_sealed_value_opens_where_it_was_sealed(value: str) -> None:
    vault = Vault([FIRST])
    sealed = vault.seal(value, **HERE)

    assert vault.open(sealed, **HERE) == value
    assert sealed.key_id == "first"


@pytest.mark.parametrize(
    "place",
    [
        {"team": "u", "connector": "c", "name": "n"}, {"team": "t", "connector": "d", "name": "n"},
        {"team": "t", "connector": "c", "name": "m"}, {"team": "tc", "connector": "", "name": "n"},
        {"team": "", "connector": "tc", "name": "n"}, {"team": "t", "connector": "cn", "name": ""},
        {"team": "c", "connector": "t", "name": "n"}, {"team": "T", "connector": "c", "name": "n"},
    ],
    ids=str,
)  # fmt: skip
def test_ciphertext_moved_to_another_row_does_not_open(place: dict[str, str]) -> None:
    vault = Vault([FIRST])
    sealed = vault.seal("hush", **HERE)

    with pytest.raises(VaultFault, match="does not open") as caught:
        vault.open(sealed, **place)
    assert "hush" not in str(caught.value)


PLACES = st.fixed_dictionaries({name: st.text("ab\x00", max_size=3) for name in HERE})


@given(PLACES, PLACES)
def test_no_two_places_are_the_same_to_the_cipher(
    one: dict[str, str], other: dict[str, str]
) -> None:
    vault = Vault([FIRST])
    sealed = vault.seal("hush", **one)

    if one == other:
        assert vault.open(sealed, **other) == "hush"
    else:
        with pytest.raises(VaultFault):
            vault.open(sealed, **other)


def test_any_change_of_a_ciphertext_is_noticed() -> None:
    vault = Vault([FIRST])
    content = vault.seal("hush", **HERE).content

    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(VaultFault):
            vault.open(Sealed("first", bytes(changed)), **HERE)
    for length in range(len(content)):
        with pytest.raises(VaultFault):
            vault.open(Sealed("first", content[:length]), **HERE)


def test_equal_values_are_sealed_differently_and_hide_the_value() -> None:
    vault = Vault([FIRST])
    contents = {vault.seal("hush", **HERE).content for _ in range(100)}

    assert len({content[:12] for content in contents}) == 100
    assert not any(b"hush" in content for content in contents)


def test_first_master_key_seals_and_all_open() -> None:
    old = Vault([FIRST]).seal("old", **HERE)
    rotating = Vault([SECOND, FIRST])
    new = rotating.seal("new", **HERE)

    assert new.key_id == "second"
    assert [rotating.open(sealed, **HERE) for sealed in (old, new)] == ["old", "new"]
    with pytest.raises(VaultFault, match='"first" is not configured'):
        Vault([SECOND]).open(old, **HERE)


def test_another_key_of_the_same_id_does_not_open() -> None:
    sealed = Vault([FIRST]).seal("hush", **HERE)

    with pytest.raises(VaultFault, match='does not open with master key "first"'):
        Vault([MasterKey("first", SECOND.key)]).open(sealed, **HERE)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([], "at least one"), ([MasterKey("short", b"x" * 16)], '"short" must be 32 bytes'),
        ([MasterKey("long", b"x" * 33)], '"long" must be 32 bytes'),
        ([FIRST, MasterKey("first", SECOND.key)], 'two master keys have the id "first"'),
    ],
    ids=["none", "short", "long", "the same id"],
)  # fmt: skip
def test_master_keys_that_cannot_be_used_are_refused(keys: list[MasterKey], reason: str) -> None:
    with pytest.raises(VaultFault, match=reason) as caught:
        Vault(keys)
    assert "xxx" not in str(caught.value)


def test_reference_is_resolved_for_its_hosts_alone() -> None:
    vault = Vault(
        [FIRST],
        [
            Reference("KEY", ("api.example.com", "b.example.com")),
            Reference("EMPTY", ("b.example.com",)),
        ],
        {"KEY": "hush", "OTHER": "not named", "EMPTY": "", "PATH": "/bin"},
    )

    assert vault.resolve("env:KEY", "red", to("api.example.com")) == "hush"
    assert vault.resolve("env:KEY", "red", to("API.Example.COM")) == "hush"
    assert vault.permits("env:KEY", "red", to("b.example.com"))
    for reference, host in (
        ("env:KEY", "evil.example.com"), ("env:KEY", "api.example.com.evil.com"),
        ("env:KEY", "x.api.example.com"), ("env:OTHER", "api.example.com"),
        ("env:PATH", "api.example.com"), ("env:EMPTY", "b.example.com"), ("KEY", "api.example.com"),
        ("file:KEY", "api.example.com"), ("env:", "api.example.com"), ("env:key", "api.example.com"),
        ("ENV:KEY", "api.example.com"), ("env: KEY", "api.example.com"),
    ):  # fmt: skip
        assert vault.resolve(reference, "red", to(host)) is None
        assert not vault.permits(reference, "red", to(host))


def test_reference_to_a_file_is_resolved_where_the_operator_permits_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hush\n")
    files = SecretFiles([Permitted(str(tmp_path), ("h",))])
    vault = Vault([FIRST], [Reference("KEY", ("h",))], {"KEY": "other"}, files=files)

    assert vault.reads_files
    assert vault.resolve(f"file:{path}", "red", to("h")) == "hush"
    assert vault.permits(f"file:{path}", "red", to("H"))
    assert vault.resolve("env:KEY", "red", to("h")) == "other"
    for reference in (
        f"file:{path}x",
        f"env:{path}",
        f"FILE:{path}",
        "file:KEY",
        "file:",
        str(path),
    ):
        assert vault.resolve(reference, "red", to("h")) is None
    assert vault.resolve(f"file:{path}", "red", to("evil")) is None
    assert set(vault.stamps([f"file:{path}", "env:KEY", None])) == {str(path)}


def test_without_permitted_files_none_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("hush")
    vault = Vault([FIRST])

    assert not vault.reads_files
    assert vault.resolve(f"file:{path}", "red", to("h")) is None
    assert vault.stamps([f"file:{path}"]) == {}


def test_reference_follows_its_variable() -> None:
    environ = {"KEY": "one"}
    vault = Vault([FIRST], [Reference("KEY", ("h",))], environ)
    assert vault.resolve("env:KEY", "red", to("h")) == "one"

    environ["KEY"] = "two"
    assert vault.resolve("env:KEY", "red", to("h")) == "two"


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 43, base64.b64encode(b"x" * 31).decode(), "é", "!" * 44, "=" * 44]
)
def test_text_that_is_no_key_is_refused_unseen(text: str) -> None:
    with pytest.raises(VaultFault, match=r"^not (base64|32 bytes)$"):
        decode_key(text)


def test_key_text_may_have_blanks_around_it() -> None:
    assert decode_key(f" {base64.b64encode(FIRST.key).decode()}\n") == FIRST.key


def test_key_file_is_made_for_its_owner_alone_and_then_kept(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = key_file(path)

    assert len(decode_key(made)) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key_file(path) == made
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


def test_key_files_differ(tmp_path: Path) -> None:
    assert key_file(tmp_path / "a") != key_file(tmp_path / "b")


def test_threads_that_make_a_key_file_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda _: key_file(tmp_path / "master.key"), range(64)))

    assert len(set(texts)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


MAKE = """
import sys
from pathlib import Path
from gateway.secrets.vault import key_file
sys.stdin.readline()
print(key_file(Path(sys.argv[1])))
"""


def test_processes_that_make_a_key_file_at_once_get_one_key(tmp_path: Path) -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, tmp_path / "master.key"],
            cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    texts = {process.communicate(timeout=20)[0] for process in started}

    assert texts == {f"{key_file(tmp_path / 'master.key')}\n"}


def test_draft_that_a_killed_process_left_stops_nobody(tmp_path: Path) -> None:
    """In a container every start has the same process id."""
    (tmp_path / f".master.key.{os.getpid()}").write_text("half", encoding="ascii")

    assert len(decode_key(key_file(tmp_path / "master.key"))) == 32


def test_no_repr_shows_a_key() -> None:
    vault = Vault([FIRST], [Reference("KEY", ("h",))], {"KEY": "hush"})
    shown = repr((FIRST, vault, [FIRST], Reference("KEY", ("h",)))) + f"{FIRST}"

    assert "first" in shown
    assert "\\x01\\x02" not in shown
    assert "hush" not in shown
