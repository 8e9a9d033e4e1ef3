"""The gateway's own master keys: none is ever lost, and a running vault learns of a new one."""

from __future__ import annotations

import base64
import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from gateway.secrets import key_ring
from gateway.secrets.vault import Sealed, Vault, VaultFault, key_file

HERE = {"team": "t", "connector": "c", "name": "n"}
TEXT = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "master.key"


def vault_of(path: Path) -> Vault:
    return Vault(key_ring.keys(path), reread=partial(key_ring.read, path))


def test_file_is_made_when_it_is_not_there(path: Path) -> None:
    (made,) = key_ring.keys(path)

    assert made.id == "embedded"
    assert key_ring.read(path) == [made]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_of_an_older_version_is_one_key(path: Path) -> None:
    text = key_file(path)

    assert [(key.id, base64.b64encode(key.key).decode()) for key in key_ring.keys(path)] == [
        ("embedded", text)
    ]


def test_new_key_comes_first_and_the_others_stay(path: Path) -> None:
    (first,) = key_ring.keys(path)
    second, third = key_ring.add(path), key_ring.add(path)

    assert key_ring.read(path) == [third, second, first]
    assert len({first.id, second.id, third.id}) == len({first.key, second.key, third.key}) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_keys_that_are_added_at_once_are_all_there(path: Path) -> None:
    key_ring.keys(path)
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda _: key_ring.add(path), range(24)))

    assert {key.id for key in added} < {key.id for key in key_ring.read(path)}
    assert len(key_ring.read(path)) == 25


def test_file_stays_its_owners(path: Path) -> None:
    key_ring.keys(path)
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(path, owner, -1)
    key_ring.add(path)

    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (owner, 0o600)


def test_file_that_cannot_be_changed_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_ring.keys(path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(VaultFault, match=r"no key can be added to .*No space left"):
        key_ring.add(path)
    assert [key.id for key in key_ring.read(path)] == ["embedded"]
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_blank_lines_and_blanks_do_no_harm(path: Path) -> None:
    path.write_text(f"\n  new   {TEXT}  \n\n{TEXT}\n")

    assert [key.id for key in key_ring.read(path)] == ["new", "embedded"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{TEXT}\nshort AAAA\n", r"master\.key:2: the master key is not 32 bytes"),
        ("no key\n", r"master\.key:1: the master key is not base64"),
        ("é\n", "can't be read"),
    ],
)
def test_broken_file_is_refused_with_the_place(path: Path, text: str, why: str) -> None:
    path.write_bytes(text.encode("utf-8"))

    with pytest.raises(VaultFault, match=why) as caught:
        key_ring.keys(path)
    assert TEXT not in str(caught.value)


def test_running_vault_opens_what_a_new_key_sealed(path: Path) -> None:
    running = vault_of(path)
    old = running.seal("old", **HERE)
    made = key_ring.add(path)
    new = vault_of(path).seal("new", **HERE)

    assert new.key_id == made.id
    assert [running.open(sealed, **HERE) for sealed in (new, old)] == ["new", "old"]


def test_running_vault_seals_with_the_new_key_at_once(path: Path) -> None:
    running = vault_of(path)
    made = key_ring.add(path)

    assert running.seal("x", **HERE).key_id == running.sealing == made.id


def test_key_that_no_file_has_stays_unknown(path: Path) -> None:
    with pytest.raises(VaultFault, match='"gone" is not configured'):
        vault_of(path).open(Sealed("gone", b"x" * 40), **HERE)


def test_file_that_is_gone_is_no_reason_to_make_another(path: Path) -> None:
    running = vault_of(path)
    sealed = running.seal("kept", **HERE)
    path.unlink()

    assert running.open(sealed, **HERE) == "kept"
    for attempt in (
        partial(running.seal, "x", **HERE),
        partial(running.open, Sealed("unknown", b"x" * 40), **HERE),
        partial(key_ring.add, path),
    ):
        with pytest.raises(VaultFault, match="can't be read"):
            attempt()
    assert not path.exists()
