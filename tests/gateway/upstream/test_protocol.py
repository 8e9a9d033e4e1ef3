"""A connection takes what is owed and no more: nothing while idle, nothing past an answer's end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import Body
from gateway.problems import Rejected
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from gateway.upstream.protocol import HELD_BYTES, UpstreamProtocol
from tests.certificates import self_signed
from tests.dataplane import LOOPBACK
from tests.gateway.sending import LARGE, ask, refused, sent, target, to, whole
from tests.loopback import Call, Upstream, message, saying
from tests.tls import LOOPS, NewLoop, TlsServer

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
STRAY = OK + b"Content-Length: 0\r\n\r\n"
ALLOWED = AddressPolicy(map(Allowed.parse, LOOPBACK))
INTERIM = b"HTTP/1.1 103 \r\n\r\n"


async def flood(call: Call, first: bytes) -> None:
    """Answer, and go on with answers that nobody asked for for as long as it goes."""
    await call.send(first)
    with suppress(ConnectionError):
        for _ in range(1000):
            await call.send(STRAY * 2000)
        raise AssertionError("all of it was taken")


@pytest.mark.parametrize("byte", [b"\r", b"H", b"\x00", STRAY])
async def test_first_byte_on_an_idle_connection_closes_it(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, byte: bytes
) -> None:
    async with sent(upstreams, upstream, ask()) as answer:
        protocol = answer.protocol
    assert protocol.is_open
    await upstream.call.send(byte)
    await eventually(lambda: upstream.open == 0)


async def test_answers_that_nobody_asked_for_are_not_read(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    upstream.script = lambda call: flood(call, message(200, b"ok"))
    async with sent(upstreams, upstream, ask()) as answer:
        assert await whole(answer) == b"ok"
    await eventually(lambda: upstream.open == 0)


async def test_answers_behind_one_that_is_on_its_way_are_not_read(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    content = b"x" * 3_000_000
    upstream.script = lambda call: flood(call, message(200, content))
    async with sent(upstreams, upstream, ask()) as answer:
        await eventually(lambda: answer.protocol._reading_paused)  # noqa: SLF001 - what is promised
        assert upstream.open == 1
        assert await whole(answer) == content
    await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_upstream_is_not_read_faster_than_its_answer_is_taken(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, is_chunked: bool
) -> None:
    piece, count = b"x" * 100_000, 300

    async def script(call: Call) -> None:
        framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: 30000000"
        await call.send(OK + framing + b"\r\n\r\n")
        for _ in range(count):
            await call.send(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        await call.send(b"0\r\n\r\n" * is_chunked)

    upstream.script = script
    async with sent(upstreams, upstream, ask()) as answer:
        protocol = answer.protocol
        size_bytes = most_bytes = 0
        async for got in answer.pieces():
            size_bytes += len(got)
            await asyncio.sleep(0)
            most_bytes = max(most_bytes, protocol._held_bytes)  # noqa: SLF001 - what is promised

    assert size_bytes == 30_000_000
    assert most_bytes <= HELD_BYTES + 300_000  # a read of the event loop's


@pytest.mark.parametrize(
    "interim",
    [INTERIM * 9, b"HTTP/1.1 103 \r\nLink: a\r\n\r\n" * 100_000,
     b"HTTP/1.1 103 \r\n" + (b"A: " + b"a" * 16_000 + b"\r\n") * 5 + b"\r\n"],
    ids=["nine", "many", "large"],
)  # fmt: skip
async def test_more_than_a_few_interim_answers_are_refused(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, interim: bytes
) -> None:
    async def script(call: Call) -> None:
        with suppress(ConnectionError):
            await call.send(interim + STRAY)

    upstream.script = script
    rejected, _ = await refused(upstreams, upstream.url)

    assert (rejected.code, "interim" in rejected.detail) == ("upstream_invalid", True)
    await eventually(lambda: upstream.open == 0)


async def test_a_few_interim_answers_are_passed_over(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    upstream.script = saying(INTERIM * 8 + STRAY)
    async with sent(upstreams, upstream, ask()) as answer:
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("fields", "said"),
    [(b"A: b\r\n" * 129, "more than 128 header fields"),
     (b"A: " + b"b" * 20_000 + b"\r\n", "more than 16384 bytes")],
)  # fmt: skip
async def test_head_past_the_limits_is_told_for_what_it_is(
    upstreams: Upstreams, upstream: Upstream, fields: bytes, said: str
) -> None:
    upstream.script = saying(OK + fields + b"Content-Length: 0\r\n\r\n")
    rejected, _ = await refused(upstreams, upstream.url)

    assert rejected.code == "upstream_invalid"
    assert said in rejected.detail


async def test_upload_that_breaks_is_not_the_upstreams_fault(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    async def gone(_self: Any) -> bytes:
        raise ConnectionResetError

    upstream.script = Call.gone  # type: ignore[assignment] # what it said is not wanted
    source = type("Source", (), {"is_eof": lambda _: False, "at_eof": lambda _: False,
                                 "readany": gone})()  # fmt: skip
    with pytest.raises(Rejected, match="upstream_unavailable") as caught:
        await upstreams.send(to(upstream), ask("POST"), Body(source, None), LARGE)

    assert type(caught.value).__name__ == "Blameless"


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("body", "is_at_once"),
    [(b"", False), (b"", True), (b"abc", False), (b"abc", True), (b"abc" * HELD_BYTES, False)],
    ids=["none", "none-at-once", "small", "small-at-once", "large"],
)
def test_only_a_proper_end_of_tls_ends_a_body_without_length(
    tmp_path: Path, new_loop: NewLoop, is_at_once: bool, body: bytes
) -> None:
    certificate = self_signed(tmp_path)

    async def ask_it(says_goodbye: bool) -> bytes | Rejected:
        loop = asyncio.get_running_loop() if is_at_once else None
        with TlsServer(certificate, OK + b"\r\n" + body, says_goodbye, loop) as server:
            upstreams = Upstreams(ALLOWED, ca_file=server.certificate)
            try:
                answer = await upstreams.send(target(server.url), ask(), Body(None), LARGE)
                assert says_goodbye or answer.body is None
                return await whole(answer)
            except Rejected as rejected:
                return rejected
            finally:
                await upstreams.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(ask_it(says_goodbye=True)) == body
        cut = runner.run(ask_it(says_goodbye=False))
    assert isinstance(cut, Rejected)
    assert (cut.code, cut.detail) == ("upstream_invalid", "The upstream broke its answer off.")


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    "raw", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)  # fmt: skip
def test_body_that_tells_its_end_needs_no_end_of_tls(
    tmp_path: Path, new_loop: NewLoop, raw: bytes
) -> None:
    async def ask_it() -> bytes:
        with TlsServer(self_signed(tmp_path), OK + raw) as server:
            upstreams = Upstreams(ALLOWED, ca_file=server.certificate)
            answer = await upstreams.send(target(server.url), ask(), Body(None), LARGE)
            got = await whole(answer)
            answer.release()
            await upstreams.close()
            return got

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(ask_it()) == b"abc"


async def test_document_that_tls_cuts_is_not_fetched(tmp_path: Path) -> None:
    with TlsServer(self_signed(tmp_path), OK + b"\r\n{}") as server:
        upstreams = Upstreams(ALLOWED, ca_file=server.certificate)
        with pytest.raises(Rejected, match="upstream_invalid"):
            await upstreams.fetch(f"{server.url}/jwks.json")
        await upstreams.close()


async def test_refusal_that_comes_before_the_request_is_told_when_it_begins() -> None:
    refused_early = ssl.SSLError(1, "alert")
    refused_early.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    protocol = UpstreamProtocol(asyncio.get_running_loop())
    protocol.connection_lost(refused_early)

    with pytest.raises(Rejected, match="upstream_unavailable"):
        protocol.begin(is_head=False)
