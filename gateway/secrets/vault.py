"""Secrets at rest: AES-256-GCM with a key id per value and the owner as associated data.

A sealed value opens only in the row it was sealed for. Several master keys may be known at once;
the first seals, and where they are in a file it is looked into again for a key that is not known.
References (`env:NAME`, `file:/path`) are resolved here too, when the operator allows them.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.problems import quoted
from gateway.secrets.destinations import Destinations, Origin
from gateway.secrets.files import SecretFiles, Stamp, stamps

_NONCE_BYTES: Final = 12


class Sealed(NamedTuple):
    """A sealed value: the id of the master key, and nonce + ciphertext + tag."""

    key_id: str
    content: bytes


class VaultFault(Exception):
    """A master key that can't be used, or a value that doesn't open; never holds a secret."""


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A 256-bit key and the id by which rows name it."""

    id: str
    key: bytes

    def __repr__(self) -> str:
        return f"MasterKey({self.id!r})"


@dataclass(frozen=True, slots=True)
class Reference:
    """An environment variable that connectors may use as a secret, for these hosts and teams only."""

    name: str
    hosts: tuple[str, ...]
    teams: tuple[str, ...] = ()


class Vault:
    """Seals, opens, and resolves references.

    `reread` gives the master keys as they are now, where they may change while the process runs:
    asked before a value is sealed, and for one whose key isn't known yet.
    """

    def __init__(
        self,
        keys: Sequence[MasterKey],
        references: Sequence[Reference] = (),
        environ: Mapping[str, str] = os.environ,
        reread: Callable[[], Sequence[MasterKey]] | None = None,
        files: SecretFiles | None = None,
    ) -> None:
        self._ciphers: dict[str, AESGCM] = {}
        self._learn(keys)
        self._references = {reference.name: reference for reference in references}
        self._environ = environ
        self._reread = reread
        self._files = files or SecretFiles()

    @property
    def sealing(self) -> str:
        """The id of the master key that seals."""
        return self._sealing

    def seal(self, value: str, *, team: str, connector: str, name: str) -> Sealed:
        """Seal a secret for one place: a team's connector (by id) and the secret's name.

        Raises VaultFault when the master keys can't be read again.
        """
        if self._reread is not None:
            self._learn(self._reread())
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._ciphers[self._sealing]
        content = cipher.encrypt(nonce, value.encode("utf-8"), _place(team, connector, name))
        return Sealed(self._sealing, nonce + content)

    def open(self, sealed: Sealed, *, team: str, connector: str, name: str) -> str:
        """The secret; VaultFault when the key is unknown or the value was sealed for another place."""
        if sealed.key_id not in self._ciphers and self._reread is not None:
            self._learn(self._reread())
        cipher = self._ciphers.get(sealed.key_id)
        if cipher is None:
            raise VaultFault(f"master key {quoted(sealed.key_id)} is not configured")
        nonce, content = sealed.content[:_NONCE_BYTES], sealed.content[_NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, content, _place(team, connector, name)).decode("utf-8")
        except (InvalidTag, ValueError):  # a ValueError when too little of it is there
            raise VaultFault(
                f"secret {quoted(name)} of connector {connector} does not open with master key {quoted(sealed.key_id)}"
            ) from None

    def _learn(self, keys: Sequence[MasterKey]) -> None:
        """Take over the master keys; one that was known and isn't among them still opens."""
        if not keys:
            raise VaultFault("at least one master key is needed")
        for key in keys:
            if len(key.key) != 32:
                raise VaultFault(f"master key {quoted(key.id)} must be 32 bytes, base64")
            if [other.id for other in keys].count(key.id) > 1:
                raise VaultFault(f"two master keys have the id {quoted(key.id)}")
        self._ciphers |= {key.id: AESGCM(key.key) for key in keys}
        self._sealing = keys[0].id

    def permits(self, reference: str, team: str, to: Origin) -> bool:
        """True when the operator lets a team's connector to an origin use this, and it has a value."""
        return self.resolve(reference, team, to) is not None

    def resolve(self, reference: str, team: str, to: Origin) -> str | None:
        """The value behind a reference for a team's connector; None when not allowed or not set."""
        kind, _, name = reference.partition(":")
        if kind == "file":
            return self._files.read(name, team, to)
        allowed = self._references.get(name)
        if kind != "env" or allowed is None:
            return None
        if not Destinations(allowed.hosts, allowed.teams).include(team, to):
            return None
        return self._environ.get(name) or None

    @property
    def reads_files(self) -> bool:
        """True when a connector may have a secret in a file, which may change."""
        return bool(self._files)

    def stamps(self, references: Iterable[str | None]) -> dict[str, Stamp | None]:
        """The files that references name, with what is another stamp when a file has changed."""
        if not self._files:
            return {}
        kinds = (reference.partition(":") for reference in references if reference is not None)
        return stamps(path for kind, _, path in kinds if kind == "file")


def _place(team: str, connector: str, name: str) -> bytes:
    """Associated data that no two places share: each part with its length in front."""
    parts = [part.encode("utf-8") for part in (team, connector, name)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def decode_key(text: str) -> bytes:
    """A master key from its base64 text; VaultFault when it isn't 32 bytes."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise VaultFault("not base64") from None
    if len(key) != 32:
        raise VaultFault("not 32 bytes")
    return key


def key_file(path: Path) -> str:
    """The text of a key file, made with 256 random bits and mode 0600 when it isn't there."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = new_key()
    with draft(path, text) as made:
        try:
            os.link(made, path)  # whoever comes second keeps the first one's key
        except FileExistsError:
            return path.read_text(encoding="ascii").strip()
    return text


def new_key() -> str:
    """The base64 text of 256 random bits."""
    return base64.b64encode(secrets.token_bytes(32)).decode("ascii")


@contextmanager
def draft(path: Path, text: str) -> Iterator[Path]:
    """A file beside this one, for its owner alone, with this text safely on the disk; gone afterwards."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        yield made
    finally:
        made.unlink(missing_ok=True)
