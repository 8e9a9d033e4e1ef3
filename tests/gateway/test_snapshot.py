"""What is kept for a start without PostgreSQL: sealed, not too old, and less what has changed since."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pytest

from gateway.clock import Clock
from gateway.database import DatabaseAway
from gateway.secrets.vault import MasterKey, Vault
from gateway.snapshot import CONNECTOR, FILE, KEY, PLAN, Rows, Snapshots

AGE_S = 3_600.0
ID = UUID(int=7)
DIGEST = b"\x00\x01digest"


class Turned(Clock, Protocol):
    """The fixture `clock`."""

    def forward(self, seconds: float) -> None: ...


def vault(octet: int = 1) -> Vault:
    return Vault([MasterKey("first", bytes([octet]) * 32)])


def rows() -> Rows:
    """As the database gives them."""
    key = {"team_id": "red", "digest": DIGEST, "connector_ids": [ID], "expires_at": None}
    return {
        KEY: {"one": {**key, "revoked_at": datetime(2026, 1, 2, 3, tzinfo=UTC)}, "two": key},
        CONNECTOR: {"up red": {"snapshot": {"a": [1]}, "secrets": []}},
        PLAN: {"red": {"id": ID, "name": "default", "team_id": "red"}, "blue": None},
    }


@pytest.fixture
def snapshots(tmp_path: Path, clock: Turned) -> Snapshots:
    return Snapshots(tmp_path, vault(), clock, AGE_S)


def test_rows_come_back_as_they_were_and_what_is_not_there_is_not_known(
    snapshots: Snapshots, clock: Turned
) -> None:
    snapshots.keep(clock.now(), rows())
    held = snapshots.read()

    assert held is not None
    one = held.row(KEY, "one")
    assert one is not None
    assert (one["digest"], one["connector_ids"]) == (DIGEST, [str(ID)])
    assert one["revoked_at"] == datetime(2026, 1, 2, 3, tzinfo=UTC)
    assert held.row(CONNECTOR, "up red") == {"snapshot": {"a": [1]}, "secrets": []}
    assert held.row(PLAN, "blue") is None, "that there is none is known, too"
    with pytest.raises(DatabaseAway):
        held.row(KEY, "three")


def test_snapshot_is_sealed_and_for_its_owner_alone(
    snapshots: Snapshots, clock: Turned, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots.keep(clock.now(), rows())
    snapshots.note("key three")
    content = (tmp_path / FILE).read_bytes()

    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert b"red" not in content
    assert b"digest" not in content
    assert Snapshots(tmp_path, vault(2), clock, AGE_S).read() is None
    (tmp_path / FILE).write_bytes(content[:-9] + b"AAAAAAA=\n")
    assert snapshots.read() is None
    assert caplog.text.count("can't be read") == 2


def test_snapshot_that_is_too_old_or_of_the_future_is_none(
    snapshots: Snapshots, clock: Turned, tmp_path: Path
) -> None:
    assert snapshots.read() is None
    snapshots.keep(clock.now(), rows())
    clock.forward(AGE_S - 1)
    assert snapshots.read() is not None
    clock.forward(1)
    assert snapshots.read() is None
    snapshots.keep(clock.now() + 60, rows())
    assert snapshots.read() is None
    never = Snapshots(tmp_path / "none", vault(), clock, 0)
    never.keep(clock.now(), rows())
    never.note("key one")
    assert never.read() is None


@pytest.mark.parametrize(
    ("announcement", "gone"),
    [
        ("key one", [(KEY, "one")]),
        ("connector up red", [(CONNECTOR, "up red")]),
        ("plan 1 red", [(PLAN, "red"), (KEY, "one"), (KEY, "two")]),
        ("plan 1 blue", [(PLAN, "blue")]),
        ("key four", []),
        ("another kind", []),
    ],
)
def test_what_has_changed_since_is_not_served(
    snapshots: Snapshots, clock: Turned, announcement: str, gone: list[tuple[str, str]]
) -> None:
    clock.forward(10)
    snapshots.keep(clock.now(), rows())
    clock.forward(5)
    snapshots.note(announcement)
    held = snapshots.read()

    assert held is not None
    known = {(kind, name) for kind, found in rows().items() for name in found}
    assert {(k, n) for k, found in held.rows.items() for n in found} == known - set(gone)
    clock.forward(5)
    snapshots.keep(clock.now(), rows())
    again = snapshots.read()
    assert again is not None
    assert {(k, n) for k, found in again.rows.items() for n in found} == known


def test_notes_are_kept_for_as_long_as_a_snapshot_may_be_used(
    snapshots: Snapshots, clock: Turned, tmp_path: Path
) -> None:
    for _ in range(10):
        snapshots.note("key one")
        clock.forward(AGE_S / 2)
        snapshots.keep(clock.now(), rows())

    assert 1 <= len(list(tmp_path.glob(f"{FILE}.changes.*"))) <= 2
