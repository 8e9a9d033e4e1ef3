"""Upstreams that break, stall or lie: the caller is told, and nobody else suffers."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Body, Outgoing
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.answer import Bounds
from gateway.upstream.connections import Upstreams
from tests.certificates import self_signed
from tests.dataplane import LOOPBACK
from tests.gateway.sending import USUAL, break_after, refused, target
from tests.loopback import Call, Upstream, saying

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
COUNTED = OK + b"Content-Length: 9\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    {
        "noise": b"\x00\x01\x02\x03\r\n\r\n",
        "ssh": b"SSH-2.0-OpenSSH_9.9\r\n",
        "http-0.9": b"<html></html>",
        "status-99": b"HTTP/1.1 99 x\r\n\r\n",
        "status-1000": b"HTTP/1.1 1000 x\r\n\r\n",
        "status-600": b"HTTP/1.1 600 x\r\n\r\n",
        "status-000": b"HTTP/1.1 000 x\r\n\r\n",
        "status-words": b"HTTP/1.1 OK\r\n\r\n",
        "switching": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        "version": b"HTTP/9.9 200 OK\r\n\r\n",
        "space-in-name": OK + b"X A: b\r\n\r\n",
        "space-before-colon": OK + b"X-A : b\r\n\r\n",
        "odd-name": OK + b"X(A): b\r\n\r\n",
        "obs-name": OK + b"X\xe9: b\r\n\r\n",
        "no-name": OK + b": b\r\n\r\n",
        "no-colon": OK + b"X-A\r\n\r\n",
        "bare-cr": OK + b"X-A: b\rX-B: c\r\n\r\n",
        "nul": OK + b"X-A: b\x00c\r\n\r\n",
        "escape": OK + b"X-A: b\x1bc\r\n\r\n",
        "both-framings": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "both-reversed": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "two-lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "signed-length": OK + b"Content-Length: +3\r\n\r\nabc",
        "negative-length": OK + b"Content-Length: -3\r\n\r\nabc",
        "odd-coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "unknown-coding": OK + b"Transfer-Encoding: x\r\nConnection: close\r\n\r\nabc",
        "huge-field": OK + b"X-A: " + b"b" * 20_000 + b"\r\n\r\n",
        "huge-reason": b"HTTP/1.1 200 " + b"b" * 20_000 + b"\r\n\r\n",
        "many-fields": OK + b"A: b\r\n" * 200 + b"\r\n",
        "too-long": OK + b"Content-Length: 1001\r\n\r\n",
    }.items(),
    ids=lambda item: item[0],
)
async def test_head_that_could_mislead_is_refused_and_its_connection_closed(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, head: tuple[str, bytes]
) -> None:
    upstream.script = saying(head[1], close=head[0] in {"http-0.9", "ssh", "no-colon"})
    rejected, sent = await refused(upstreams, upstream.url)

    assert (rejected.code, sent) == ("upstream_invalid", 1)
    assert "X-A" not in rejected.detail
    await eventually(lambda: upstream.open == 0)


async def test_fields_that_are_odd_but_sound_are_kept(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    """A folded line is joined by its space (RFC 9112 5.2)."""
    fields = b"X-Latin: \xe9\xff\r\nX-Tab: a\tb\r\nx-EMPTY:\r\nX-Latin: 2\r\nX-Fold: a\r\n b: c\r\n"
    upstream.script = saying(OK + fields + b"Content-Length: 0\r\n\r\n")
    answer = await upstreams.send(target(upstream.url), Outgoing("GET", "/", []), Body(None), USUAL)
    answer.release()

    assert answer.headers[:-1] == [
        (b"X-Latin", b"\xe9\xff"), (b"X-Tab", b"a\tb"), (b"x-EMPTY", b""), (b"X-Latin", b"2"),
        (b"X-Fold", b"a b: c"),
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200", OK + b"X-A: b"])
async def test_upstream_that_is_gone_before_its_answer_is_unavailable(
    upstreams: Upstreams, upstream: Upstream, raw: bytes, how: str
) -> None:
    upstream.script = break_after(raw, how)
    rejected, sent = await refused(upstreams, upstream.url)

    assert rejected.code in ({"upstream_unavailable"} if not raw else
                             {"upstream_unavailable", "upstream_invalid"})  # fmt: skip
    assert sent == 1


async def hang(call: Call) -> None:
    await call.gone()


def stalling(raw: bytes) -> Callable[[Call], Awaitable[None]]:
    async def script(call: Call) -> None:
        await call.send(raw)
        await call.gone()

    return script


@pytest.mark.parametrize(
    ("script", "bounds"),
    [
        (hang, Bounds(0.1, 10, 1000)),
        (stalling(b"HTTP/1.1 200"), Bounds(0.1, 10, 1000)),
        (stalling(b"HTTP/1.1 100 Continue\r\n\r\n"), Bounds(0.1, 10, 1000)),
        (stalling(COUNTED + b"abc"), Bounds(0.1, 10, 1000)),
        (stalling(COUNTED + b"abc"), Bounds(10, 0.1, 1000)),
        (stalling(COUNTED + b"abc"), Bounds(10, 0.1, 1000, streaming=True)),
        (stalling(CHUNKED), Bounds(10, 0.1, 1000)),
    ],
    ids=["head", "half-a-head", "after-100", "body-total", "body-idle", "stream-idle", "no-piece"],
)
async def test_upstream_that_stalls_is_given_up_in_time_and_its_connection_closed(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, script: Any, bounds: Bounds
) -> None:
    upstream.script = script
    begun = asyncio.get_running_loop().time()
    rejected, _ = await refused(upstreams, upstream.url, bounds=bounds)

    assert rejected.code == "upstream_timeout"
    assert 0.09 <= asyncio.get_running_loop().time() - begun < 3
    await eventually(lambda: upstream.open == 0)


async def test_connection_that_is_not_taken_in_time_is_a_timeout(upstreams: Upstreams) -> None:
    """A full backlog: the kernel answers no more handshakes."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        rejected, sent = await refused(upstreams, f"http://127.0.0.1:{port}", connect_s=0.2)
        for filler in fillers:
            filler.close()

    assert (rejected.code, sent) == ("upstream_timeout", 0)


async def test_port_that_nobody_listens_on_is_unavailable(upstreams: Upstreams) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    rejected, sent = await refused(upstreams, f"http://127.0.0.1:{port}")

    assert (rejected.code, sent) == ("upstream_unavailable", 0)
    assert "127.0.0.1" not in rejected.detail


async def test_name_that_nobody_has_is_blocked_like_one_that_leads_to_a_refused_address(
    upstreams: Upstreams,
) -> None:
    rejected, sent = await refused(upstreams, "http://nobody.invalid")

    assert (rejected.code, sent) == ("upstream_blocked", 0)


async def test_certificate_that_is_not_trusted_is_told_from_a_server_that_hangs_up(
    upstreams: Upstreams, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self_signed(tmp_path))
        server = await asyncio.start_server(lambda _r, w: w.close(), sock=listener, ssl=tls)
        port = listener.getsockname()[1]
        untrusted, _ = await refused(upstreams, f"https://127.0.0.1:{port}")
        trusting = Upstreams(
            AddressPolicy(map(Allowed.parse, LOOPBACK)), ca_file=str(tmp_path / "pem")
        )
        gone, _ = await refused(trusting, f"https://127.0.0.1:{port}")
        await trusting.close()
        server.close()

    assert (untrusted.code, "certificate" in untrusted.detail) == ("upstream_unavailable", True)
    assert (gone.code, "certificate" in gone.detail) == ("upstream_unavailable", False)
