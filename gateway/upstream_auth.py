"""How a connector proves itself to its upstream: each type's configuration and what it injects.

A type is a small dataclass: its fields are its configuration, `secret_names` says which secrets it
uses, `inject` makes the fields of the request from their values.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol

_PLACEHOLDER: Final = re.compile(r"\{\{\s*secrets\.([A-Za-z0-9_-]{1,64})\s*\}\}")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_FRAMING: Final = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)


class AuthFault(ValueError):
    """A configuration or a secret that cannot be used; the text holds no secret."""


@dataclass(frozen=True, slots=True)
class Injection:
    """What goes into the upstream request: header fields (by name) and query parameters."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # both hold secrets
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class UpstreamAuth(Protocol):
    """One way to authenticate."""

    def secret_names(self) -> tuple[str, ...]: ...
    def inject(self, secrets: Mapping[str, str]) -> Injection: ...


@dataclass(frozen=True, slots=True)
class NoAuth:
    """The upstream asks for nothing."""

    def secret_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def inject(self, secrets: Mapping[str, str]) -> Injection:
        """Nothing."""
        return Injection()


@dataclass(frozen=True, slots=True)
class Bearer:
    """`Authorization: Bearer` (RFC 6750) with one secret."""

    token_ref: str = "token"  # noqa: S105 - a name

    def secret_names(self) -> tuple[str, ...]:
        """The token's name."""
        return (self.token_ref,)

    def inject(self, secrets: Mapping[str, str]) -> Injection:
        """One Authorization field."""
        return Injection(headers=(("Authorization", f"Bearer {secrets[self.token_ref]}"),))


@dataclass(frozen=True, slots=True)
class Basic:
    """`Authorization: Basic` (RFC 7617) with a user name and a password."""

    username_ref: str = "username"
    password_ref: str = "password"  # noqa: S105 - a name

    def secret_names(self) -> tuple[str, ...]:
        """Both names."""
        return (self.username_ref, self.password_ref)

    def inject(self, secrets: Mapping[str, str]) -> Injection:
        """One Authorization field."""
        user, password = secrets[self.username_ref], secrets[self.password_ref]
        if ":" in user:
            raise AuthFault("a user name for Basic may hold no colon (RFC 7617 2)")
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
        return Injection(headers=(("Authorization", f"Basic {credentials}"),))


@dataclass(frozen=True, slots=True)
class Header:
    """Any header fields, with `{{secrets.name}}` in their values."""

    headers: Mapping[str, str] = field(default_factory=dict)

    def secret_names(self) -> tuple[str, ...]:
        """Every name that occurs in a value."""
        return names_in(self.headers.values())

    def inject(self, secrets: Mapping[str, str]) -> Injection:
        """The fields with the secrets put in."""
        return Injection(
            headers=tuple((name, fill(value, secrets)) for name, value in self.headers.items())
        )


@dataclass(frozen=True, slots=True)
class Query:
    """One query parameter with a secret."""

    param_name: str = "key"
    secret_ref: str = "token"  # noqa: S105 - a name

    def secret_names(self) -> tuple[str, ...]:
        """The secret's name."""
        return (self.secret_ref,)

    def inject(self, secrets: Mapping[str, str]) -> Injection:
        """One parameter."""
        return Injection(query=((self.param_name, secrets[self.secret_ref]),))


TYPES: Final[Mapping[str, type[Any]]] = {
    "none": NoAuth,
    "bearer": Bearer,
    "basic": Basic,
    "header": Header,
    "query": Query,
}


def make(auth_type: str, config: Mapping[str, Any]) -> UpstreamAuth:
    """The auth of a connector. Raises AuthFault for an unknown type or setting."""
    if (cls := TYPES.get(auth_type)) is None:
        raise AuthFault(f"unknown auth type {auth_type!r}; known: {', '.join(TYPES)}")
    known = {entry.name for entry in fields(cls)}
    if unknown := set(config) - known:
        raise AuthFault(f"{auth_type} has no setting {min(unknown)!r}")
    auth: UpstreamAuth = cls(**config)
    if isinstance(auth, Header):
        for name in auth.headers:
            check_field(name, "")
    return auth


def names_in(templates: Any) -> tuple[str, ...]:
    """The secrets that occur as `{{secrets.name}}` in some texts, each once, in order."""
    return tuple(dict.fromkeys(name for text in templates for name in _PLACEHOLDER.findall(text)))


def fill(template: str, secrets: Mapping[str, str]) -> str:
    """A text with its `{{secrets.name}}` replaced. Raises KeyError for one that is not set."""
    return _PLACEHOLDER.sub(lambda match: secrets[match.group(1)], template)


def check_field(name: str, value: str) -> tuple[bytes, bytes]:
    """A header field as bytes. Raises AuthFault for what would break the message (RFC 9110 5.5)."""
    if not _FIELD_NAME(name):
        raise AuthFault(f"{name!r} is not a header field's name")
    if name.lower() in _FRAMING:
        raise AuthFault(f"{name} is made by the gateway and cannot be set")
    try:
        octets = value.strip(" \t").encode("utf-8")
    except UnicodeEncodeError:
        raise AuthFault(f"the value of {name} is not text") from None
    if not _FIELD_VALUE(octets.decode("latin-1")):
        raise AuthFault(f"the value of {name} has a control character")
    return name.encode("ascii"), octets
