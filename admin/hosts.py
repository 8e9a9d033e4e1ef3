"""The hosts of connectors: base URLs, allowed hosts, and the placeholders that people leave in them.

A draft may hold a placeholder (`https://YOUR_ACCOUNT.example.com`); publishing refuses it.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from marshmallow import ValidationError

from admin.fields import says
from gateway.secrets.destinations import Origin

_PLACEHOLDER: Final = re.compile(r"YOUR[_-]\w*|CHANGE_?ME|\{[^}]*\}?\}?|<[^>]*>?").search
_VISIBLE: Final = re.compile(r"[!-~]+").fullmatch
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*"
)
_SCHEMES: Final = frozenset({"http", "https"})


def placeholder(text: str) -> str | None:
    """The first part of a text that stands for something still to be filled in."""
    found = _PLACEHOLDER(text)
    return found and found.group()


def origin(base_url: str) -> Origin:
    """Scheme, host (lower case, without brackets) and port of a checked base URL."""
    return Origin.of(urlsplit(base_url))


def host(base_url: str) -> str:
    """The host of a checked base URL."""
    return origin(base_url)[1]


@says(format="uri", pattern="^https?://[!-~]+$")
def check_base_url(text: str) -> None:
    """Raises ValidationError for what is not an http or https URL of a host and a path."""
    if not _VISIBLE(text) or "\\" in text:
        raise ValidationError("Not a URL: it is printable ASCII (xn-- for other alphabets).")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValidationError("Not a URL with a valid host and port.") from None
    if parts.scheme not in _SCHEMES:
        raise ValidationError("The scheme must be http or https, as in https://api.example.com.")
    if "@" in parts.netloc:
        raise ValidationError("A URL with a user name or password is not taken: use secrets.")
    if "?" in text or "#" in text:
        raise ValidationError("A base URL has no query and no fragment.")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValidationError("The port is not valid.")
    if {".", ".."} & set(parts.path.lower().replace("%2e", ".").split("/")):
        raise ValidationError("The path has a dot segment.")
    if not parts.hostname or (placeholder(text) is None and not _has_valid_host(parts)):
        raise ValidationError("The host is not valid.")


@says(format="uri", pattern="^https?://[!-~]+$")
def check_origin(text: str) -> None:
    """Raises ValidationError for what is not an http or https URL of a host alone."""
    check_base_url(text)
    if urlsplit(text).path:
        raise ValidationError("Not a scheme, host and port alone: paths are those of the base URL.")


def _has_valid_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    return is_host(host) and (":" in host) == parts.netloc.startswith("[")


def is_host(text: str) -> bool:
    """True for a host's name in lower case, and for an IPv4 or IPv6 address without brackets."""
    if ":" in text:
        try:
            return "%" not in text and ip_address(text).version == 6
        except ValueError:
            return False
    return _NAME.fullmatch(text) is not None


def check_allowed_host(text: str) -> None:
    """Raises ValidationError for what is neither a host nor `*.` and a domain."""
    if placeholder(text) is None and not is_host(text.removeprefix("*.")):
        raise ValidationError("Not a host in lower case, such as api.example.com or *.example.com.")
