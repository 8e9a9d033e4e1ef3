"""TLS to upstreams: whose certificate is taken, and what is said when there is none to take."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from gateway.exchange import Body
from gateway.problems import Rejected
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from gateway.upstream.resolver import Found, Resolver
from gateway.upstream.tls import after_the_handshake, in_the_handshake, tls_context
from tests.certificates import self_signed
from tests.dataplane import LOOPBACK
from tests.gateway.sending import LARGE, ask, target, whole
from tests.tls import LOOPS, NewLoop, TlsServer

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def here(_host: str) -> list[Found]:
    return [(socket.AF_INET, 6, ("127.0.0.1", 0))]


async def outcome(server: TlsServer, host: str = "127.0.0.1") -> bytes | Rejected:
    """The body of an answer to a request for this host, or how it is refused."""
    upstreams = Upstreams(
        AddressPolicy(map(Allowed.parse, LOOPBACK)),
        ca_file=server.certificate,
        resolver=Resolver(ask=here),
    )
    try:
        to_it = target(f"https://{host}:{server.port}")
        return await whole(await upstreams.send(to_it, ask(), Body(None), LARGE))
    except Rejected as rejected:
        return rejected
    finally:
        await upstreams.close()


def test_certificates_are_checked_and_authorities_read_once() -> None:
    context = tls_context(None)

    assert (context.check_hostname, context.verify_mode.name) == (True, "CERT_REQUIRED")
    assert tls_context(None) is context


async def test_common_name_is_no_name_of_a_host(tmp_path: Path) -> None:
    with TlsServer(self_signed(tmp_path, "a.example", has_names=False), WHOLE) as server:
        got = await outcome(server, "a.example")

    assert isinstance(got, Rejected)
    assert (got.code, "certificate" in got.detail) == ("upstream_unavailable", True)


async def test_dot_at_the_end_of_a_host_is_the_host_fields_alone(tmp_path: Path) -> None:
    asked_for = []

    def note(_sock: object, name: str | None, _context: ssl.SSLContext) -> None:
        asked_for.append(name)

    with TlsServer(self_signed(tmp_path, "a.example"), WHOLE) as server:
        server.context.sni_callback = note
        assert await outcome(server, "a.example.") == b"ok"

    assert asked_for == ["a.example"]
    assert f"\r\nHost: a.example.:{server.port}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("version", "said"),
    [
        (ssl.TLSVersion.TLSv1_2, "refused the TLS handshake; it may ask for a client certificate."),
        (ssl.TLSVersion.TLSv1_3, "asks for a client certificate."),
    ],
)
def test_client_certificate_that_is_asked_for_is_told(
    tmp_path: Path,
    new_loop: NewLoop,
    version: ssl.TLSVersion,
    said: str,
) -> None:
    async def ask_it() -> bytes | Rejected:
        with TlsServer(self_signed(tmp_path), WHOLE) as server:
            server.context.load_verify_locations(server.certificate)
            server.context.verify_mode = ssl.CERT_REQUIRED
            server.context.maximum_version = version
            return await outcome(server)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        got = runner.run(ask_it())
    assert isinstance(got, Rejected)
    assert (got.code, got.detail) == ("upstream_unavailable", f"The upstream {said}")


def alert(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


def test_only_what_a_missing_certificate_is_answered_with_is_told_as_one() -> None:
    other = alert("TLSV1_ALERT_INTERNAL_ERROR")
    for error in (other, ConnectionResetError(), None):
        assert after_the_handshake(error) is None
    for reason in ("SSLV3_ALERT_HANDSHAKE_FAILURE", "SSLV3_ALERT_BAD_CERTIFICATE"):
        told = after_the_handshake(alert(reason))
        assert told is not None
        assert told.detail == "The upstream asks for a client certificate."

    assert "client" not in in_the_handshake(other).detail
