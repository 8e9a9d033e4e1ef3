"""Attempts at real upstreams, with time that is turned by hand and waits that are noted and pass."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, cast

from gateway.clock import Clock
from gateway.exchange import Body, Exchange
from gateway.metrics import Metrics
from gateway.model import Connector
from gateway.problems import Rejected
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.answer import Answer, Bounds
from gateway.upstream.attempts import Attempts, Lane
from gateway.upstream.connections import Upstreams
from tests.dataplane import LOOPBACK, connector, endpoint, exchange
from tests.loopback import Call, Fields, Script, saying

Eventually = Callable[..., Awaitable[None]]
EVERY = ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH")
KEY = (("Idempotency-Key", "key-1"),)


class Hands(Clock, Protocol):
    """The fixture `clock`."""

    def forward(self, seconds: float) -> None: ...


class Trying:
    """Attempts, and what was noted of them."""

    def __init__(self, upstreams: Upstreams, clock: Clock, **settings: Any) -> None:
        self.metrics = Metrics("0")
        self.clock = clock
        self.waits: list[float] = []
        given = {"chance": lambda: 0.5, "sleep": self._sleep} | settings
        self.attempts = Attempts(upstreams, self.metrics, clock, **given)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        cast("Hands", self.clock).forward(seconds)

    async def send(self, request: Exchange, most_bytes: int = 1 << 20) -> Answer:
        """What the filter `proxy` asks for."""
        own = request.endpoint
        limits = Bounds(own.timeout_s, own.idle_timeout_s, most_bytes, own.streaming)
        return await self.attempts.send(request, limits)

    async def outcome(self, request: Exchange) -> int | str:
        """The status of the answer, or the code of the refusal; nothing is held afterwards."""
        try:
            return (await self.send(request)).status
        except Rejected as refused:
            return refused.code
        finally:
            request.close()

    async def refused(self, request: Exchange) -> Rejected:
        """The refusal of a request."""
        try:
            answer = await self.send(request)
        except Rejected as refused:
            return refused
        raise AssertionError(f"it was answered with {answer.status}")

    def lane(self, at: Connector) -> Lane:
        """What is kept about a connector."""
        return self.attempts._lanes[at.id]  # noqa: SLF001 - what is held is the promise


@asynccontextmanager
async def trying(clock: Clock, **settings: Any) -> AsyncIterator[Trying]:
    """Attempts whose connections are closed at the end; until then nothing was left taken."""
    upstreams = Upstreams(AddressPolicy(map(Allowed.parse, LOOPBACK)))
    made = Trying(upstreams, clock, **settings)
    try:
        yield made
    finally:
        await upstreams.close()
    for lane in made.attempts._lanes.values():  # noqa: SLF001 - see above
        assert lane.slots.is_idle
        assert [member.in_flight for member in lane.targets.members.values()] == [0] * len(
            lane.targets.members
        )


def upstream_of(url: str, retries: int = 0, **definition: Any) -> Connector:
    """A connector that takes every method at every path."""
    own = {name: definition.pop(name) for name in ("timeout",) if name in definition}
    routes = [endpoint(method, retries=retries, **own) for method in EVERY if method != "HEAD"]
    return connector(url, *routes, **definition)


def asking(
    at: Connector, method: str = "GET", fields: Fields = (), body: bytes | Body | None = None
) -> Exchange:
    """A request on its way, complete but for the answer."""
    made = exchange(method, "/up/x", fields, body if isinstance(body, bytes) else None, at=at)
    if isinstance(body, Body):
        made.body = body
    made.outgoing = made.endpoint.mapped.outgoing(made)
    return made


def in_turn(*scripts: Script) -> Script:
    """Each request gets the next script, and the last one for good."""
    left = list(scripts)

    async def script(call: Call) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(call)

    return script


def status(code: int, *fields: str, body: bytes = b"") -> Script:
    """An answer with this status and these header lines."""
    lines = "".join(f"{line}\r\n" for line in fields).encode()
    framing = b"Content-Length: %d\r\n\r\n" % len(body)
    return saying(b"HTTP/1.1 %d x\r\n" % code + lines + framing + body)


ILL = status(200, "a: \x01")
"""What no healthy upstream says: it counts against the target, whatever was asked."""


async def closes(call: Call) -> None:
    """Take the request, and close the connection without an answer."""
    await call.read_body()
    call.close()


async def resets(call: Call) -> None:
    """Take the request, and break the connection."""
    await call.read_body()
    call.reset()


async def hangs(call: Call) -> None:
    """Take the request, and say nothing."""
    await call.gone()


async def gather(count: int, work: Callable[[], Awaitable[Any]]) -> Sequence[Any]:
    """So many at the same time; what each came to, exceptions too."""
    return await asyncio.gather(*(work() for _ in range(count)), return_exceptions=True)


def closed_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port of this machine where nobody takes connections: its queue of one is full."""
    with socket.socket() as listener, socket.socket() as waiting, socket.socket() as also_waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for first in (waiting, also_waiting):
            first.setblocking(False)
            first.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
