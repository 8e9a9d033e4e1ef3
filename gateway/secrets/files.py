"""Secrets in files, such as those that Kubernetes mounts: which may be read, for whom, and how.

The operator names files and directories, each with the hosts that may get what is in them. Symbolic
links are followed as long as they stay inside what is named: Kubernetes swaps one to rotate.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.secrets.destinations import Destinations, Origin

log = logging.getLogger(__name__)

MOST_BYTES: Final = 16_384
_MOST_PATH: Final = 1024
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]").search

Stamp = tuple[int, ...]
"""What is another one when a file is: its device, number, times and size."""


class FileRefused(ValueError):
    """A file that can't be a secret; the text says why, and nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class Permitted:
    """A file, or a directory with all that is below it, and the hosts and teams that may get its secrets."""

    path: str
    hosts: tuple[str, ...]
    teams: tuple[str, ...] = ()

    def covers(self, path: str) -> bool:
        """True for the path itself and for what is below it."""
        return path == self.path or path.startswith(f"{self.path}/")


class SecretFiles:
    """Reads files as the operator permits; nothing is kept."""

    def __init__(self, permitted: Sequence[Permitted] = ()) -> None:
        self._permitted = tuple(permitted)

    def __bool__(self) -> bool:
        return bool(self._permitted)

    def read(self, path: str, team: str, to: Origin) -> str | None:
        """The secret for a team's connector; None, and the reason in the log, when there is none.

        Of a file that it may not have nothing is said, not even whether it is there.
        """
        entry = self._entry(path, team, to)
        if entry is None:
            return None
        try:
            return _secret(_content(path, entry.path))
        except OSError as error:
            reason = error.strerror or "it can't be read"
        except FileRefused as refused:
            reason = str(refused)
        log.warning("a secret's file can't be used", extra={"path": path, "reason": reason})
        return None

    def _entry(self, path: str, team: str, to: Origin) -> Permitted | None:
        try:
            check_path(path)
        except ValueError:
            return None
        for entry in self._permitted:
            if entry.covers(path) and Destinations(entry.hosts, entry.teams).include(team, to):
                return entry
        return None


def check_path(path: str) -> None:
    """Raises ValueError for what isn't the plain absolute path of a file or directory."""
    if not path.startswith("/") or _CONTROL(path) or len(path) > _MOST_PATH:
        raise ValueError("not an absolute path")
    if {"", ".", ".."} & set(path[1:].split("/")):
        raise ValueError("a path has no empty and no dot segments")


def stamp(path: str) -> Stamp | None:
    """What is another one when the file has changed; None for one that isn't there."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def stamps(paths: Iterable[str]) -> dict[str, Stamp | None]:
    """The stamp of each file; waits for the file system, so not on the loop."""
    return {path: stamp(path) for path in paths}


def differ(before: Mapping[str, Stamp | None], now: Mapping[str, Stamp | None]) -> bool:
    """True when one of the files before is another one now; of those not looked at now none is."""
    return any(now.get(path, found) != found for path, found in before.items())


def _content(path: str, inside: str) -> bytes:
    """What is in a file that is really inside the path that is permitted. Raises OSError, FileRefused."""
    try:
        return _real_content(path, inside)
    except FileNotFoundError:
        return _real_content(path, inside)  # a link was swapped between two looks


def _real_content(path: str, inside: str) -> bytes:
    real, bounds = (Path(os.path.realpath(name)) for name in (path, inside))
    if not real.is_relative_to(bounds):
        raise FileRefused(f"it leads out of {inside}")
    # Not to wait for a writer where somebody has put a pipe.
    descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileRefused("it is no regular file")
        return file.read(MOST_BYTES + 1)


def _secret(content: bytes) -> str:
    """The text of a file without the line ends that follow it. Raises FileRefused."""
    if len(content) > MOST_BYTES:
        raise FileRefused(f"it has more than {MOST_BYTES} bytes")
    try:
        text = content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise FileRefused("it is not UTF-8") from None
    if _CONTROL(text):
        raise FileRefused("it has several lines or control characters")
    if not text:
        raise FileRefused("it is empty")
    return text
