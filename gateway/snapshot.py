"""What a process knew of the configuration, in the data directory, for a start while PostgreSQL is away.

It holds rows as the directory looks them up: keys are digests, secrets are sealed, and the whole is sealed
once more with a master key. What has changed since it was written is noted beside it as it is announced, by
name: that is not served from it.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from gateway.clock import Clock
from gateway.database import DatabaseAway
from gateway.secrets.vault import Sealed, Vault, VaultFault, draft

log = logging.getLogger(__name__)

FILE: Final = "configuration.snapshot"
KEY, CONNECTOR, PLAN = "key", "connector", "plan"
_CLOCKS_S: Final = 1.0
"""A change that was noted so long before a snapshot may be missing in it."""

Rows = dict[str, dict[str, Mapping[str, Any] | None]]
"""Rows by kind and by the name that they are looked up by; None where it is known that there is none."""


class Held(NamedTuple):
    """A snapshot that was read: from when it is, in Unix seconds, and what is in it."""

    at: float
    rows: Rows

    def row(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """A row, or None when there is none. Raises DatabaseAway when that isn't known."""
        if name not in self.rows[kind]:
            raise DatabaseAway("it is not in the snapshot")
        return self.rows[kind][name]


class Snapshots:
    """The snapshot of one data directory."""

    def __init__(self, data: Path, vault: Vault, clock: Clock, most_age_s: float) -> None:
        self._data = data
        self._vault = vault
        self._clock = clock
        self._most_age_s = most_age_s

    def is_old(self, at: float) -> bool:
        """True for the time of a snapshot that must not be used any more."""
        return not 0 <= self._clock.now() - at < self._most_age_s

    def keep(self, at: float, rows: Rows) -> None:
        """Write a snapshot in place of the one before. Raises OSError and VaultFault."""
        if not self._most_age_s:
            return
        text = orjson.dumps({"at": at, "rows": rows}, default=_plain).decode()
        sealed = self._vault.seal(text, team="", connector="", name=FILE)
        content = base64.b64encode(sealed.content).decode()
        with draft(self._data / FILE, f"{sealed.key_id} {content}") as made:
            made.replace(self._data / FILE)
        for path, number in self._notes():
            if number < self._number(at) - 1:
                path.unlink(missing_ok=True)

    def note(self, announcement: str) -> None:
        """Keep that something has changed: what the snapshot says of it is not served."""
        if not self._most_age_s:
            return
        now = self._clock.now()
        path = self._data / f"{FILE}.changes.{self._number(now)}"
        with suppress(OSError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(descriptor, orjson.dumps([now, announcement]) + b"\n")
            finally:
                os.close(descriptor)

    def read(self) -> Held | None:
        """The snapshot, less what has changed since; None when there is none that may be used."""
        try:
            key_id, content = (self._data / FILE).read_text("ascii").split(" ")
            sealed = Sealed(key_id, base64.b64decode(content))
            text = self._vault.open(sealed, team="", connector="", name=FILE)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, VaultFault) as fault:
            log.warning("the snapshot can't be read", extra={"reason": str(fault)})
            return None
        document = orjson.loads(text)
        held = Held(document["at"], {k: _rows(v) for k, v in document["rows"].items()})
        if self.is_old(held.at):
            return None
        for announcement in self._since(held.at - _CLOCKS_S):
            _forget(held.rows, announcement)
        return held

    def _number(self, at: float) -> int:
        return int(at // max(self._most_age_s, 60.0))

    def _notes(self) -> Iterator[tuple[Path, int]]:
        for path in self._data.glob(f"{FILE}.changes.*"):
            with suppress(ValueError):
                yield path, int(path.suffix[1:])

    def _since(self, at: float) -> Iterator[str]:
        for path, _ in self._notes():
            for line in path.read_bytes().splitlines():
                with suppress(ValueError):  # the last one of a process that was killed
                    noted, announcement = orjson.loads(line)
                    if noted >= at:
                        yield announcement


def _forget(rows: Rows, announcement: str) -> None:
    kind, _, name = announcement.partition(" ")
    if kind in {KEY, CONNECTOR}:
        rows[kind].pop(name, None)
    elif kind == PLAN:
        team = name.partition(" ")[2]
        rows[PLAN].pop(team, None)
        for key in [n for n, row in rows[KEY].items() if row and row["team_id"] == team]:
            del rows[KEY][key]


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    raise TypeError(f"{type(value)} is in no row")


def _rows(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any] | None]:
    return {name: row and dict(_values(row.items())) for name, row in found.items()}


def _values(fields: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for name, value in fields:
        if isinstance(value, dict) and value.keys() == {"bytes"}:
            yield name, base64.b64decode(value["bytes"])
        elif isinstance(value, str) and name.endswith(("_at", "_until")):
            yield name, datetime.fromisoformat(value).astimezone(UTC)
        else:
            yield name, value
