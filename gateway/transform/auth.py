"""How a connector proves itself to its upstream: each type's configuration and what it injects.

A type is a small dataclass: its fields are its configuration, which it checks when it is made;
`secret_names` says which secrets it uses, `inject` makes what goes into requests from their values.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit

from yarl import URL

from gateway.exchange import Exchange, Outgoing
from gateway.http.header_fields import is_token
from gateway.problems import Fault, Rejected, quoted
from gateway.transform import sigv4

_PLACEHOLDER: Final = re.compile(r"\{\{\s*secrets\.([A-Za-z0-9_-]{1,64})\s*\}\}")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_GATEWAY_KEY: Final = re.compile(rb"gw_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}").search
_REGION: Final = re.compile(r"[A-Za-z0-9-]{1,64}").fullmatch
_ACCESS_KEY: Final = re.compile(r"[!-~]{1,128}").fullmatch
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


class Finish(Protocol):
    """The last step of a request, when all else about it is final: adds fields, or refuses it.

    `host` is what the Host field will say, for what is made `for_host`. Raises Rejected.
    """

    def __call__(self, exchange: Exchange, outgoing: Outgoing, host: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Injection:
    """What goes into the upstream request: header fields (by name) and query parameters.

    `finish` is done to each request, after its body was read where it `needs_body`. Of the caller's
    fields those that it `replaces` go no further, and one that it `passes` does. `names` are those of
    the secrets that are names, which an answer may say.
    """

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # both hold secrets
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    finish: Finish | None = field(default=None, repr=False)
    replaces: tuple[str, ...] = ()
    passes: str | None = None
    needs_body: bool = False
    for_host: bool = False
    names: tuple[str, ...] = field(default=(), repr=False, compare=False)


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
        return Injection(headers=(("Authorization", f"Basic {credentials}"),), names=(user,))


@dataclass(frozen=True, slots=True)
class Header:
    """Any header fields, with `{{secrets.name}}` in their values."""

    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse names that can't be set. Raises AuthFault."""
        for name in self.headers:
            check_field(name, "")

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


@dataclass(frozen=True, slots=True)
class AwsSigV4:
    """AWS Signature Version 4, made for each request.

    Without `sign_payload` the body streams and the signature says `UNSIGNED-PAYLOAD`, which S3 takes
    and other services don't.
    """

    access_key_ref: str = "access_key"
    secret_key_ref: str = "secret_key"  # noqa: S105 - a name
    session_token_ref: str | None = None
    region: str = ""
    service: str = "s3"
    sign_payload: bool = False

    def __post_init__(self) -> None:
        """Refuse what can't be a region or a service. Raises AuthFault."""
        for what, value in (("region", self.region), ("service", self.service)):
            if not _REGION(value):
                raise AuthFault(f"aws-sigv4 needs a {what}: 1 to 64 of A-Z a-z 0-9 -")

    def secret_names(self) -> tuple[str, ...]:
        """The two halves of the key, and the session token's name where there is one."""
        both = (self.access_key_ref, self.secret_key_ref)
        return both if self.session_token_ref is None else (*both, self.session_token_ref)

    def inject(self, secrets: Mapping[str, str]) -> Injection:
        """The signature as the last step."""
        access_key, token = secrets[self.access_key_ref], None
        if not _ACCESS_KEY(access_key) or set(access_key) & {"/", ","}:
            raise AuthFault("an access key is printable ASCII without spaces, slashes and commas")
        if self.session_token_ref is not None:
            _, token = check_field("X-Amz-Security-Token", secrets[self.session_token_ref])
        secret_key = secrets[self.secret_key_ref]
        credentials = sigv4.Credentials(access_key, secret_key, self.region, self.service)
        return Injection(
            finish=sigv4.Signer(credentials, token, self.sign_payload),
            replaces=sigv4.MADE,
            needs_body=self.sign_payload,
            for_host=True,
            names=(access_key,),
        )


@dataclass(frozen=True, slots=True)
class Passthrough:
    """The caller's own field, as it is. It must be there, and not be what the gateway was shown."""

    header_name: str = "Authorization"

    def __post_init__(self) -> None:
        """Refuse names that can't be set. Raises AuthFault."""
        check_field(self.header_name, "")

    def secret_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def inject(self, secrets: Mapping[str, str]) -> Injection:
        """The field's name, and a look at its value."""
        return Injection(passes=self.header_name, finish=partial(_check_passed, self.header_name))


def _check_passed(name: str, exchange: Exchange, outgoing: Outgoing, host: bytes) -> None:
    """Raises Rejected unless the field is there once and holds no credential for the gateway."""
    lower = name.lower().encode("ascii")
    values = [value for field_name, value in outgoing.headers if field_name.lower() == lower]
    if len(values) != 1:
        raise Rejected(
            "validation_failed",
            f"The request needs the header {name} once, for the upstream.",
            errors=[Fault(name, "this header is required once")],
        )
    if _GATEWAY_KEY(values[0]) or _is_token(exchange, lower, values[0]):
        raise Rejected(
            "validation_failed",
            f"The header {name} is for the upstream, and has a credential for the gateway, which "
            "goes no further: send a gateway key in X-API-Key.",
            errors=[Fault(name, "this header has a credential for the gateway")],
        )


def _is_token(exchange: Exchange, lower: bytes, value: bytes) -> bool:
    """True for the token that a user was authenticated with: it is in Authorization if that is there."""
    caller = exchange.known_caller
    if caller is None or caller.kind != "user":
        return False
    headers = exchange.headers
    shown = [headers.get(field_name, "") for field_name in ("x-api-key", "x-goog-api-key")]
    shown.append(headers.get("authorization", "").partition(" ")[2].strip())
    return lower == b"authorization" or any(
        token.encode("utf-8", "surrogateescape") in value for token in shown if token
    )


TYPES: Final[Mapping[str, type[Any]]] = {
    "none": NoAuth,
    "bearer": Bearer,
    "basic": Basic,
    "header": Header,
    "query": Query,
    "aws-sigv4": AwsSigV4,
    "passthrough": Passthrough,
}


def make(auth_type: str, config: Mapping[str, Any]) -> UpstreamAuth:
    """The auth of a connector. Raises AuthFault for an unknown type or setting."""
    if (cls := TYPES.get(auth_type)) is None:
        raise AuthFault(f"unknown auth type {quoted(auth_type)}; known: {', '.join(TYPES)}")
    known = {entry.name for entry in fields(cls)}
    if unknown := set(config) - known:
        raise AuthFault(f"{auth_type} has no setting {quoted(min(unknown))}")
    auth: UpstreamAuth = cls(**config)
    return auth


def names_in(templates: Any) -> tuple[str, ...]:
    """The secrets that occur as `{{secrets.name}}` in some texts, each once, in order."""
    return tuple(dict.fromkeys(name for text in templates for name in _PLACEHOLDER.findall(text)))


def fill(template: str, secrets: Mapping[str, str]) -> str:
    """A text with its `{{secrets.name}}` replaced. Raises KeyError for one that is not set."""
    return _PLACEHOLDER.sub(lambda match: secrets[match.group(1)], template)


def one_host(urls: Iterable[str]) -> bytes:
    """What the Host field will say for all of these origins. Raises AuthFault when that differs."""
    hosts = {_authority(urlsplit(url)) for url in urls}
    if len(hosts) != 1:
        raise AuthFault("a signature is for one host, and the connector's targets have several")
    return hosts.pop()


def _authority(origin: SplitResult) -> bytes:
    """The host, and the port where it is given (RFC 9112 3.2), as `upstream.Target` has them."""
    url = URL.build(scheme=origin.scheme, host=origin.hostname or "", port=origin.port)
    host = url.raw_host or ""
    bare = f"[{host}]" if ":" in host else host
    return (url.raw_authority if origin.port else bare).encode("ascii")


def check_field(name: str, value: str) -> tuple[bytes, bytes]:
    """A header field as bytes. Raises AuthFault for what would break the message (RFC 9110 5.5)."""
    if not is_token(name):
        raise AuthFault(f"{quoted(name)} is not a header field's name")
    if name.lower() in _FRAMING:
        raise AuthFault(f"{name} is made by the gateway and cannot be set")
    try:
        octets = value.strip(" \t").encode("utf-8")
    except UnicodeEncodeError:
        raise AuthFault(f"the value of {name} is not text") from None
    if not _FIELD_VALUE(octets.decode("latin-1")):
        raise AuthFault(f"the value of {name} has a control character")
    return name.encode("ascii"), octets
