"""Every byte in every place of a message, both ways: one message in is at most one message out."""

from __future__ import annotations

import re
import string
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.server.connection import Patience
from tests.attacks.strict import BREAKER, Received, StrictUpstream, echo, strict_upstream
from tests.dataplane import LOOPBACK, Gateway
from tests.loopback import Client, Message

Start = Callable[..., Awaitable[Gateway]]
BYTES = [bytes([number]) for number in range(256)]
CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
UP = b"/api/v1/gw/up"
SETTINGS = {"upstream": {"allow_networks": list(LOOPBACK), "breaker": BREAKER}}


@pytest.fixture
async def strict() -> AsyncIterator[StrictUpstream]:
    async with strict_upstream() as upstream:
        yield upstream


async def credential(running: Gateway, strict: StrictUpstream, timeout_ms: int) -> bytes:
    """A connector to the upstream, and the field with a key for it."""
    await running.rows.plan()
    times: dict[str, Any] = {"default_timeout": timeout_ms, "idle_timeout": timeout_ms}
    await running.rows.connector(strict.url, **times)
    return f"Authorization: Bearer {await running.rows.key()}\r\n".encode()


GET = b"GET " + UP + b"/x HTTP/1.1\r\nHost: a\r\n"
POST = b"POST " + UP + b"/x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n<key>\r\n"
BODY = b"5\r\nhello\r\n0\r\n\r\n"
END = b"<as many as said>\r\n0\r\n\r\n"

REQUESTS = {
    "before-method": GET.replace(b"GET", b"<byte>GET") + b"<key>\r\n",
    "in-method": GET.replace(b"GET", b"GE<byte>T") + b"<key>\r\n",
    "before-target": GET.replace(b" /", b" <byte>/") + b"<key>\r\n",
    "in-slug": GET.replace(b"up", b"u<byte>p") + b"<key>\r\n",
    "in-path": GET.replace(b"/x", b"/x<byte>y") + b"<key>\r\n",
    "in-query": GET.replace(b"/x", b"/x?a<byte>b") + b"<key>\r\n",
    "after-target": GET.replace(b"/x", b"/x<byte>") + b"<key>\r\n",
    "in-version": GET.replace(b"1.1", b"1.<byte>") + b"<key>\r\n",
    "after-version": GET.replace(b"1.1", b"1.1<byte>") + b"<key>\r\n",
    "in-host": GET.replace(b": a", b": a<byte>") + b"<key>\r\n",
    "before-name": GET + b"X-A: 1\r\n<key><byte>X-B: 2\r\n\r\n",
    "in-name": GET + b"<key>X<byte>A: 1\r\n\r\n",
    "after-name": GET + b"<key>X-A<byte>: 1\r\n\r\n",
    "before-value": GET + b"<key>X-A:<byte>1\r\n\r\n",
    "in-value": GET + b"<key>X-A: 1<byte>2\r\n\r\n",
    "after-value": GET + b"<key>X-A: 1<byte>\r\n\r\n",
    "in-length": POST + b"<key>Content-Length: <1byte>\r\n\r\n" + END[:-7],
    "before-coding": POST + b"<key>Transfer-Encoding:<byte>chunked\r\n\r\n" + BODY,
    "after-coding": POST + b"<key>Transfer-Encoding: chunked<byte>\r\n\r\n" + BODY,
    "before-size": CHUNKED + b"<byte1>\r\n" + END,
    "after-size": CHUNKED + b"<1byte>\r\n" + END,
    "in-extension": CHUNKED + BODY.replace(b"5", b"5;a=<byte>"),
    "after-chunk": CHUNKED + BODY.replace(b"hello", b"hello<byte>"),
    "in-trailer": CHUNKED + BODY[:-2] + b"X<byte>A: 1\r\n\r\n",
}
NEVER_GOOD = {"in-method", "in-slug", "after-version", "after-chunk"}

OK = b"HTTP/1.1 200 OK\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n<field>\r\nhello"
ANSWERS = {
    "before-version": ANSWER.replace(b"HTTP", b"<byte>HTTP"),
    "in-version": ANSWER.replace(b"1.1", b"1.<byte>"),
    "before-status": ANSWER.replace(b" 200", b"<byte>200"),
    "first-digit": ANSWER.replace(b" 200", b" <byte>00"),
    "last-digit": ANSWER.replace(b" 200", b" 20<byte>"),
    "after-status": ANSWER.replace(b"200 ", b"200<byte>"),
    "in-reason": ANSWER.replace(b"OK", b"O<byte>K"),
    "after-reason": ANSWER.replace(b"OK", b"OK<byte>"),
    "before-name": ANSWER.replace(b"<field>", b"<byte>X-A: 1\r\n"),
    "in-name": ANSWER.replace(b"<field>", b"X<byte>A: 1\r\n"),
    "after-name": ANSWER.replace(b"<field>", b"X-A<byte>: 1\r\n"),
    "before-value": ANSWER.replace(b"<field>", b"X-A:<byte>1\r\n"),
    "in-value": ANSWER.replace(b"<field>", b"X-A: 1<byte>2\r\n"),
    "after-value": ANSWER.replace(b"<field>", b"X-A: 1<byte>\r\n"),
    "in-length": ANSWER.replace(b"5", b"<1byte>").replace(b"hello", END[:-7]),
    "before-coding": OK + b"Transfer-Encoding:<byte>chunked\r\n\r\n" + BODY,
    "after-coding": OK + b"Transfer-Encoding: chunked<byte>\r\n\r\n" + BODY,
    "before-size": OK + b"Transfer-Encoding: chunked\r\n\r\n<byte1>\r\n" + END,
    "after-size": OK + b"Transfer-Encoding: chunked\r\n\r\n<1byte>\r\n" + END,
    "in-trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n" + BODY[:-2] + b"X<byte>A: 1\r\n\r\n",
}


def filled(text: bytes, byte: bytes, key: bytes = b"") -> bytes:
    """The message with this byte. Where it is in a size, the body has the size that then is said."""
    digits, base = (string.digits, 10) if b"Length: <1" in text else (string.hexdigits, 16)
    for mark, size in ((b"<1byte>", b"1" + byte), (b"<byte1>", byte + b"1")):
        if mark in text:
            said = int(size, base) if byte in digits.encode() else 1
            text = text.replace(mark, size).replace(b"<as many as said>", b"a" * said)
    return text.replace(b"<byte>", byte).replace(b"<key>", key).replace(b"<field>", b"")


async def exchange(client: Client, raw: bytes) -> Message:
    """One request and its one answer; with a kept connection the next one works, or nothing follows."""
    await client.send(raw)
    got = await client.answer()
    if got.field("content-type") == "application/problem+json":  # the gateway's own
        assert got.status == 502 or 400 <= got.status < 500, got
    assert not any(CONTROL(value) for _, value in got.fields), got
    if not got.complete or got.field("connection") == "close":
        assert await client.gone() == b""
    return got


async def assert_next_is_answered(client: Client, key: bytes) -> None:
    await client.send(filled(GET.replace(b"/x", b"/next") + b"<key>\r\n", b"", key))
    got = await client.answer()
    assert (got.status, got.body, got.complete) == (200, b"/next", True)


@pytest.mark.parametrize("place", REQUESTS)
async def test_byte_in_a_request_makes_one_message_or_none(
    gateway: Start, strict: StrictUpstream, place: str
) -> None:
    running = await gateway(patience=Patience(linger_s=0.1), **SETTINGS)
    key = await credential(running, strict, 30_000)
    statuses = set()
    for byte in BYTES:
        strict.requests.clear()
        client = await running.client()
        got = await exchange(client, filled(REQUESTS[place], byte, key))

        came = [request.target for request in strict.requests]
        if got.status == 200:
            assert (byte, came, got.complete) == (byte, [got.body], True)
        else:
            assert (byte, came) == (byte, [])
            assert 400 <= got.status < 500, (byte, got)
        if got.field("connection") != "close":
            await assert_next_is_answered(client, key)
        client.close()
        statuses.add(got.status)
    assert (400 in statuses, 200 in statuses) == (True, place not in NEVER_GOOD)


@pytest.mark.parametrize("place", ANSWERS)
async def test_byte_in_an_answer_makes_one_answer_or_a_cut_one(
    gateway: Start, strict: StrictUpstream, place: str
) -> None:
    def reply(request: Received) -> bytes:
        return raw if request.target == b"/x" else echo(request)

    strict.reply = reply
    running = await gateway(**SETTINGS)
    key = await credential(running, strict, 2_000)
    for byte in BYTES:
        raw = filled(ANSWERS[place], byte)
        client = await running.client()
        got = await exchange(client, filled(GET + b"<key>\r\n", b"", key))

        assert 200 <= got.status < 600, (byte, got)
        if got.complete and got.field("connection") != "close":
            await assert_next_is_answered(client, key)
        else:
            await assert_next_is_answered(await running.client(), key)
        client.close()
