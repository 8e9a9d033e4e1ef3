"""The master keys that the gateway makes for itself: a file in the data directory, one a line.

The first line's key seals, all open. A line is `id key`; a file that an older version made is one
key without an id, which is called `embedded`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.secrets.vault import MasterKey, VaultFault, decode_key, draft, key_file, new_key

_FIRST_ID: Final = "embedded"


def keys(path: Path) -> list[MasterKey]:
    """The keys of a file, which is made with one when it isn't there. Raises VaultFault."""
    if not path.exists():
        key_file(path)
    return read(path)


def read(path: Path) -> list[MasterKey]:
    """The keys of a file that is there. Raises VaultFault."""
    return [_key(path, number, line) for number, line in _lines(path)]


def add(path: Path) -> MasterKey:
    """A new key in front of those that are there, safely on the disk. Raises VaultFault."""
    made = f"{_FIRST_ID}-{secrets.token_hex(4)} {new_key()}"
    try:
        with _alone(path.parent):
            text = "\n".join([made, *(line for _, line in _lines(path))])
            with draft(path, text) as complete:
                owner = path.stat()
                if owner.st_uid != os.geteuid():  # root's doing must not shut the gateway out
                    os.chown(complete, owner.st_uid, owner.st_gid)
                complete.replace(path)
    except OSError as error:
        raise VaultFault(f"no key can be added to {path}: {error.strerror}") from None
    return _key(path, 1, made)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise VaultFault(f"the master keys in {path} can't be read: {error}") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [(number, line) for number, line in lines if line]


def _key(path: Path, number: int, line: str) -> MasterKey:
    id_, _, key = line.rpartition(" ")
    try:
        return MasterKey(id_.strip() or _FIRST_ID, decode_key(key))
    except VaultFault as fault:
        raise VaultFault(f"{path}:{number}: the master key is {fault}") from None


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold a directory while a file of it is changed, so that no key of another process is lost."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
