"""TLS to upstreams: what is asked of their certificates."""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache(maxsize=8)
def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Certificates are checked against these authorities, None: the system's. Reading them is dear.

    A host is looked for in the certificate's alternative names alone (RFC 9525 6.3).
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context
