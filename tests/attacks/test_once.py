"""What is not idempotent is executed once at most, whatever its upstream breaks and when."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.attacks.strict import BREAKER
from tests.dataplane import LOOPBACK, Gateway, endpoint
from tests.loopback import Call, Script, Upstream, chunked, message

Start = Callable[..., Awaitable[Gateway]]
SETTINGS = {"upstream": {"allow_networks": list(LOOPBACK), "breaker": BREAKER}}
OK = b"HTTP/1.1 200 OK\r\nX-Padding: some more bytes for faults to be in\r\n"
ANSWERS = {
    "counted": OK + b"Content-Length: 120\r\n\r\n" + b"hello, world" * 10,
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked([b"hello, ", b"world"]),
    "to-the-end": OK + b"Connection: close\r\n\r\nhello, world",
    "after-100": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
}
ENDS: dict[str, Callable[[Call], None]] = {"fin": Call.close, "rst": Call.reset}
PHASES = ("idle", "in-head", "in-body", "after-body", "after-100")
LARGE = b"x" * 700_000


class Shop:
    """A gateway that would retry, and an upstream that breaks its answers to orders."""

    def __init__(self, running: Gateway, upstream: Upstream, key: str) -> None:
        self.running = running
        self.upstream = upstream
        self.key = key
        self.break_off: Script = Call.answer
        upstream.script = self._answer

    async def _answer(self, call: Call) -> None:
        await (call.answer() if call.method == "GET" else self.break_off(call))

    async def executed(
        self, method: str, body: bytes = b"{}", fields: tuple[tuple[str, str], ...] = ()
    ) -> int:
        """Order once, and tell how often the upstream got to see it."""
        self.upstream.calls.clear()
        got = await self.running.call(method, "/up/order", fields, body, key=self.key)
        assert got.status in {200, 502, 503, 504, 429} or not got.complete
        return sum(call.method == method for call in self.upstream.calls)

    async def warm(self) -> None:
        """Have a kept connection: the next request finds it."""
        assert (await self.running.call(key=self.key)).status == 200


async def shop(gateway: Start, upstream: Upstream) -> Shop:
    running = await gateway(**SETTINGS)
    await running.rows.plan()
    endpoints = [endpoint(method, retries=3) for method in ("GET", "POST", "PATCH", "PUT")]
    await running.rows.connector(upstream.url, *endpoints)
    return Shop(running, upstream, await running.rows.key())


def cut(raw: bytes, end: Callable[[Call], None]) -> Script:
    """Take the order, say so much and go."""

    async def script(call: Call) -> None:
        await call.read_body()
        await call.send(raw)
        end(call)

    return script


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "kept"])
async def test_order_is_not_repeated_wherever_its_answer_breaks(
    gateway: Start, upstream: Upstream, end: str, answer: str, kept: bool
) -> None:
    made, raw = await shop(gateway, upstream), ANSWERS[answer]
    for offset in range(len(raw) + 1):
        if kept:
            await made.warm()
        made.break_off = cut(raw[:offset], ENDS[end])

        assert (offset, await made.executed("POST")) == (offset, 1)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["small", "large"])
async def test_order_on_a_kept_connection_that_closes_is_not_repeated(
    gateway: Start, upstream: Upstream, end: str, phase: str, body: bytes
) -> None:
    async def break_off(call: Call) -> None:
        if phase == "in-body":
            call.rest = call.rest or await call.receive()
        elif phase in {"after-body", "after-100"}:
            await call.read_body()
        if phase == "after-100":
            await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        ENDS[end](call)

    async def answer_and_go(call: Call) -> None:
        await call.answer()
        if call.method == "GET":
            ENDS[end](call)

    made = await shop(gateway, upstream)
    made.break_off = break_off
    if phase == "idle":
        upstream.script = answer_and_go
    for method in ("POST", "PATCH") * 5:
        await made.warm()
        assert await made.executed(method, body) <= 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_order_is_not_repeated_after_an_answer_that_asks_for_it(
    gateway: Start, upstream: Upstream, status: int
) -> None:
    made = await shop(gateway, upstream)
    made.break_off = cut(message(status, b"again", [("Retry-After", "0")]), ENDS["fin"])

    assert await made.executed("POST") == 1
    assert await made.executed("PATCH") == 1


async def test_what_may_be_repeated_is(gateway: Start, upstream: Upstream) -> None:
    """So that the others do not hold for want of retries."""
    made = await shop(gateway, upstream)
    made.break_off = cut(b"HTTP/1.1 200", ENDS["fin"])

    assert await made.executed("PUT") > 1
    assert await made.executed("POST", fields=(("Idempotency-Key", "a"),)) > 1
