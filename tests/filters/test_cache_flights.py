"""The cache under concurrency, and as callers meet it: behind a socket, before a real upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from filters.cache import Cache, Options
from gateway.exchange import Exchange, Response
from gateway.problems import Rejected
from gateway.runtime import Runtime
from tests.certificates import self_signed
from tests.dataplane import LOOPBACK, Gateway, connector, endpoint, exchange
from tests.loopback import Call, Fields, Upstream
from tests.tls import TlsServer

AT = connector("http://up", endpoint("GET"), endpoint("DELETE"))
FRESH = ("Cache-Control", "max-age=60")
Wait = Callable[..., Any]
Start = Callable[..., Awaitable[Gateway]]
PIPELINE = [
    *("usage", "respond", "authenticate", "resolve", "authorize", "rate_limit", "quota"),
    *("validate", "cache", "transform", "proxy"),
]


class Gated:
    """An upstream that holds every request until it is let go."""

    def __init__(self, *fields: tuple[str, str], error: Exception | None = None) -> None:
        self.fields = [(name.encode(), value.encode()) for name, value in fields]
        self.error = error
        self.gate = asyncio.Semaphore(0)
        self.asked = 0
        self.inside = 0

    async def __call__(self, _request: Exchange) -> Response:
        self.asked += 1
        number = self.asked
        self.inside += 1
        try:
            await self.gate.acquire()
        finally:
            self.inside -= 1
        if self.error is not None:
            raise self.error
        return Response(200, list(self.fields), b"%d" % number)

    def let_go(self, count: int = 100) -> None:
        """Let so many requests go on, now or when they come."""
        for _ in range(count):
            self.gate.release()


@pytest.fixture
def cache() -> Cache:
    """A cache of its own."""
    return Cache(Options(), cast("Runtime", None))


def asking(method: str = "GET", fields: Fields = ()) -> Exchange:
    return exchange(method, fields=fields, at=AT)


def waiting(cache: Cache) -> int:
    """How many requests wait for another's answer."""
    return sum(flight.followers for flight in cache._flights._flights.values())  # noqa: SLF001 - nothing else shows it


def bodies(tasks: Sequence[asyncio.Task[Response]]) -> list[Any]:
    return [task.result().body for task in tasks]


async def test_concurrent_misses_make_one_upstream_call(cache: Cache, eventually: Wait) -> None:
    origin, requests = Gated(FRESH), [asking() for _ in range(50)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cache(request, origin)) for request in requests]
        await eventually(lambda: waiting(cache) == 49)
        origin.let_go()

    assert bodies(tasks) == [b"1"] * 50
    assert origin.asked == 1
    assert [request.outcome.cached for request in requests] == [False] + [True] * 49
    fields = [dict(task.result().headers)[b"Cache-Status"] for task in tasks]
    assert fields[0] == b"service-gateway; fwd=miss; fwd-status=200; stored"
    assert all(f.startswith(b"service-gateway; fwd=miss; collapsed; ttl=") for f in fields[1:])


async def test_those_who_waited_in_vain_go_on_by_themselves_all_at_once(
    cache: Cache, eventually: Wait
) -> None:
    origin = Gated(("Cache-Control", "private"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cache(asking(), origin)) for _ in range(10)]
        await eventually(lambda: waiting(cache) == 9)
        origin.let_go(1)
        await eventually(lambda: tasks[0].done() and origin.inside == 9)
        origin.let_go(9)

    assert sorted(bodies(tasks)) == sorted(b"%d" % number for number in range(1, 11))

    # and for a while nobody waits for an answer of this target any more
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(cache(asking(), origin))
        await eventually(lambda: origin.inside == 10)
        assert waiting(cache) == 0
        origin.let_go()


async def test_failure_of_the_first_is_its_own(cache: Cache, eventually: Wait) -> None:
    failing, working = Gated(error=Rejected("upstream_timeout", "Late.")), Gated(FRESH)
    first = asyncio.gather(cache(asking(), failing), return_exceptions=True)
    async with asyncio.TaskGroup() as group:
        await eventually(lambda: failing.inside == 1)
        others = [group.create_task(cache(asking(), working)) for _ in range(3)]
        await eventually(lambda: waiting(cache) == 3)
        failing.let_go()
        await eventually(lambda: working.inside == 3)
        working.let_go()

    assert isinstance((await first)[0], Rejected)
    assert sorted(bodies(others)) == [b"1", b"2", b"3"]


async def test_when_the_first_hangs_up_the_next_takes_over(cache: Cache, eventually: Wait) -> None:
    origin = Gated(FRESH)
    async with asyncio.TaskGroup() as group:
        first, *others = [group.create_task(cache(asking(), origin)) for _ in range(5)]
        await eventually(lambda: waiting(cache) == 4)
        first.cancel()
        await eventually(lambda: origin.asked == 2 and waiting(cache) == 3)
        origin.let_go()

    assert first.cancelled()
    assert bodies(others) == [b"2"] * 4


async def test_those_who_ask_for_other_variants_do_not_wait_once_it_is_known(
    cache: Cache, eventually: Wait
) -> None:
    origin = Gated(FRESH, ("Vary", "Accept"))
    origin.let_go(1)
    await cache(asking(fields=[("Accept", "a")]), origin)
    async with asyncio.TaskGroup() as group:
        for kind in "bbcc":
            group.create_task(cache(asking(fields=[("Accept", kind)]), origin))
        await eventually(lambda: origin.inside == 2 and waiting(cache) == 2)
        origin.let_go()

    assert origin.asked == 3


async def test_request_that_wants_the_upstream_itself_does_not_wait(
    cache: Cache, eventually: Wait
) -> None:
    origin = Gated(FRESH)
    async with asyncio.TaskGroup() as group:
        for text in ("max-age=5", "no-cache", "max-age=0", "max-age=5"):
            group.create_task(cache(asking(fields=[("Cache-Control", text)]), origin))
        await eventually(lambda: origin.inside == 3 and waiting(cache) == 1)
        origin.let_go()


async def test_answer_from_before_a_change_is_not_kept_after_it(
    cache: Cache, eventually: Wait
) -> None:
    before, after = Gated(FRESH), Gated(FRESH)
    after.let_go()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(cache(asking(), before))
        await eventually(lambda: before.inside == 1)
        await cache(asking("DELETE"), after)
        before.let_go()

    fields = dict(reading.result().headers)
    assert fields[b"Cache-Status"] == b"service-gateway; fwd=miss; fwd-status=200"
    assert (await cache(asking(), after)).body == b"2"


async def test_callers_meet_a_cache(gateway: Start, upstream: Upstream) -> None:
    running = await gateway(PIPELINE)
    key = await running.rows.key()
    await running.rows.connector(
        upstream.url, endpoint("GET", "/x", response_mode="envelope"), endpoint("POST", "/x")
    )

    async def script(call: Call) -> None:
        if call.field("if-none-match") == '"v1"':
            await call.answer(304, b"", [("ETag", '"v1"'), ("Cache-Control", "max-age=60")])
        else:
            fields = [("ETag", '"v1"'), ("Cache-Control", "max-age=0"), ("Set-Cookie", "a=1")]
            await call.answer(200, b'{"n": 1}', [*fields, ("Content-Type", "application/json")])

    upstream.script = script
    answers = [await running.call(key=key) for _ in range(3)]
    await running.call("POST", key=key, body=b"{}")
    answers.append(await running.call(key=key))

    assert [answer.json()["data"] for answer in answers] == [{"n": 1}] * 4
    assert [answer.json()["meta"]["cached"] for answer in answers] == [False, False, True, False]
    assert [answer.field("cache-status") for answer in answers][:2] == [
        "service-gateway; fwd=miss; fwd-status=200; stored",
        "service-gateway; fwd=stale; fwd-status=304; stored",
    ]
    assert answers[2].field("age") == "0"
    assert all(answer.field("set-cookie") is None for answer in answers)
    assert [call.method for call in upstream.calls] == ["GET", "GET", "POST", "GET"]
    records = await running.records(5)
    assert sorted((r["cached"], r["attempts"], r["source"]) for r in records)[-1] == (
        True, 0, "upstream",
    )  # fmt: skip


async def test_large_answer_streams_and_small_ones_are_shared_by_callers(
    gateway: Start, upstream: Upstream, eventually: Wait
) -> None:
    running = await gateway([{"cache": {"most_entry_bytes": 1000}} if n == "cache" else n
                             for n in PIPELINE])  # fmt: skip
    key, other = await running.rows.key(), await running.rows.key()
    await running.rows.connector(upstream.url, endpoint("GET", "/:rest*", cache_ttl=60))
    gate = asyncio.Event()

    async def script(call: Call) -> None:
        await gate.wait()
        await call.answer(200, bytes(500_000 if call.target == "/large" else 900))

    upstream.script = script
    async with asyncio.TaskGroup() as group:
        small = [group.create_task(running.call(path="/up/s", key=k)) for k in (key, other, key)]
        large = group.create_task(running.call(path="/up/large", key=key))
        await eventually(lambda: running.worker.runtime.metrics.in_flight == 4)
        gate.set()

    assert [task.result().body for task in small] == [bytes(900)] * 3
    assert large.result().body == bytes(500_000)
    assert large.result().field("cache-status") == "service-gateway; fwd=miss; fwd-status=200"
    assert sorted(call.target for call in upstream.calls) == ["/large", "/s"]


async def test_answer_that_tls_cuts_is_not_kept(gateway: Start, tmp_path: Path) -> None:
    raw = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nabc"
    with TlsServer(self_signed(tmp_path), raw) as server:
        trusting = {"allow_networks": list(LOOPBACK), "ca_file": server.certificate}
        running = await gateway(PIPELINE, upstream=trusting)
        await running.rows.connector(server.url, endpoint("GET", "/:rest*", cache_ttl=60))
        key = await running.rows.key()
        answers = [await running.call(key=key) for _ in range(2)]
        records = await running.records(2)

    assert [(answer.status, answer.code) for answer in answers] == [(502, "upstream_invalid")] * 2
    assert [(r["error_code"], r["cached"]) for r in records] == [("upstream_invalid", False)] * 2
    assert len(server.requests) == 2
