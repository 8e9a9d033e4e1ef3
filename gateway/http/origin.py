"""What is the whole origin's, and so the gateway's alone: fields that act on an origin, and its session cookie.

All connectors answer at one origin, often that of the admin UI: an upstream speaks for its own answers,
never for those of others.
"""

from __future__ import annotations

from typing import Final

from gateway.http.messages import RawHeaders

SESSION_COOKIE: Final = "gateway_session"
"""The cookie of the admin UI's session."""
SECURE_COOKIE: Final = f"__Secure-{SESSION_COOKIE}"
"""The same where the browser came by https: no page of plain HTTP can set it (RFC 6265bis 4.1.3.1)."""
_SESSION: Final = SESSION_COOKIE.encode("ascii")

ACTING: Final = frozenset(
    b"accept-ch accept-ch-lifetime activate-storage-access alt-svc alternate-protocol "
    b"attribution-reporting-info attribution-reporting-register-source "
    b"attribution-reporting-register-trigger clear-site-data critical-ch expect-ct "
    b"idp-signin-status nel observe-browsing-topics origin-agent-cluster origin-isolation "
    b"public-key-pins public-key-pins-report-only refresh report-to reporting-endpoints "
    b"sec-session-challenge sec-session-registration secure-session-challenge "
    b"secure-session-registration service-worker-allowed set-cookie2 set-login "
    b"shared-storage-write speculation-rules strict-transport-security use-as-dictionary "
    b"x-litespeed-location x-lighttpd-send-file x-lighttpd-send-tempfile x-reproxy-expected-size "
    b"x-reproxy-file x-reproxy-url x-sendfile x-sendfile2".split()
)
"""Answer fields by which browsers, or a proxy in front, do more than to show this one answer."""
PROXY_ORDERS: Final = b"x-accel-"
"""How the fields begin by which nginx in front takes orders."""

CHALLENGE: Final = b"www-authenticate"
"""The field by which a server asks for credentials (RFC 9110 11.6.1)."""
REMAPPED: Final = b"X-Upstream-WWW-Authenticate"
"""Where an upstream's challenge is told: browsers would ask for a password for the whole origin."""


def is_session(pair: bytes) -> bool:
    """True for the session's cookie in a Cookie or Set-Cookie field, however a browser may read it.

    A cookie without a name is sent as its value, which may look like another's name and value.
    """
    name = pair.partition(b";")[0].strip().lstrip(b"= \t").partition(b"=")[0].strip().lower()
    return name.removeprefix(b"__secure-").removeprefix(b"__host-") == _SESSION


def without_session(fields: RawHeaders) -> RawHeaders:
    """A request's fields without the session's cookie; other cookies stay as they are."""
    kept = []
    for name, value in fields:
        if name.lower() == b"cookie":
            pairs = value.split(b";")
            others = [pair for pair in pairs if not is_session(pair)]
            if not others:
                continue
            if len(others) < len(pairs):
                value = b";".join(others).strip()  # noqa: PLW2901 - what is left of it
        kept.append((name, value))
    return kept
