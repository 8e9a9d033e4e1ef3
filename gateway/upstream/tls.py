"""TLS to upstreams: what is asked of their certificates, and what their refusals mean."""

from __future__ import annotations

import ssl
from functools import lru_cache
from typing import Final

from gateway.problems import Rejected

_WANTED: Final = frozenset(["TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"])
_HANDSHAKE_FAILURE: Final = "SSLV3_ALERT_HANDSHAKE_FAILURE"


@lru_cache(maxsize=8)
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Certificates are checked against these authorities, None: the system's. Reading them is dear.

    A host is looked for in the certificate's alternative names alone (RFC 9525 6.3).
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def in_the_handshake(error: ssl.SSLError) -> Rejected:
    """Why there is no TLS. Up to TLS 1.2, an upstream says so that it asks for a certificate."""
    detail = "The upstream's TLS certificate or handshake was not accepted."
    if error.reason in _WANTED:
        detail = "The upstream asks for a client certificate."
    elif error.reason == _HANDSHAKE_FAILURE:
        detail = "The upstream refused the TLS handshake; it may ask for a client certificate."
    return Rejected("upstream_unavailable", detail)


def after_the_handshake(error: Exception | None) -> Rejected | None:
    """How a missing client certificate is told by TLS 1.3, which has the handshake done by then."""
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    if reason in _WANTED or reason == _HANDSHAKE_FAILURE:
        return Rejected("upstream_unavailable", "The upstream asks for a client certificate.")
    return None
