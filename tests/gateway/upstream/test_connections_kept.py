"""Connections that are kept, and what happens to them: repeats, stray answers, broken uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.exchange import Body, Outgoing
from gateway.problems import Rejected
from gateway.upstream.answer import Blameless
from gateway.upstream.connections import Upstreams
from tests.gateway.sending import USUAL, Source, refused, target, whole
from tests.loopback import Call, Upstream, saying

Eventually = Callable[[Callable[[], Any]], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


async def kept(upstreams: Upstreams, upstream: Upstream, count: int = 1) -> None:
    """Have so many connections in the pool."""
    together = asyncio.Barrier(count)

    async def script(call: Call) -> None:
        await together.wait()
        await call.answer()

    upstream.script = script
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(once(upstreams, upstream))
    upstream.calls.clear()


async def once(upstreams: Upstreams, upstream: Upstream, method: str = "GET") -> bytes:
    answer = await upstreams.send(
        target(upstream.url), Outgoing(method, "/x", []), Body.of(b"" if method == "GET" else b"1"),
        USUAL
    )  # fmt: skip
    got = await whole(answer)
    answer.release()
    return got


async def close_kept(call: Call) -> None:
    """Close a connection at the second request on it, without an answer."""
    if call.connection <= 1:
        call.close()
    else:
        await call.answer(body=b"anew")


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_kept_connection_that_was_closed_before_it_is_used_is_replaced(
    upstreams: Upstreams,
    upstream: Upstream,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system is asked: the loop had no turn to see it."""
    monkeypatch.setattr("gateway.upstream.pool._QUIET_S", 0)
    held: list[Call] = []

    async def hold(call: Call) -> None:
        held.append(call)
        await call.answer()

    upstream.script = hold
    await once(upstreams, upstream)
    held[0].end()
    await once(upstreams, upstream, method)

    assert [call.connection for call in upstream.calls] == [1, 2]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
async def test_kept_connection_that_closes_instead_of_an_answer_is_nobodys_fault(
    upstreams: Upstreams, upstream: Upstream, method: str
) -> None:
    await kept(upstreams, upstream)
    upstream.script = close_kept
    rejected, sent = await refused(upstreams, upstream.url, method, Body.of(b"1"))

    assert isinstance(rejected, Blameless)
    assert (rejected.code, sent, len(upstream.calls)) == ("upstream_unavailable", 1, 1)


async def test_repetition_goes_on_a_new_connection(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    """However many are kept."""

    async def die(call: Call) -> None:
        call.reset()

    await kept(upstreams, upstream, 4)
    upstream.script = die
    outgoing = Outgoing("GET", "/x", [])
    for _ in range(2):
        with pytest.raises(Rejected, match="upstream_unavailable"):
            await upstreams.send(target(upstream.url), outgoing, Body(None), USUAL)

    assert upstream.calls[0].connection <= 4 < upstream.calls[1].connection


async def test_body_that_was_passed_on_is_not_repeated(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    await kept(upstreams, upstream)
    upstream.script = close_kept
    rejected, sent = await refused(upstreams, upstream.url, "PUT", Body(Source(b"a", b"b"), None))

    assert (rejected.code, sent) == ("upstream_unavailable", 1)


async def test_answer_that_nobody_asked_for_is_given_to_nobody(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    """Some servers say 408 on an idle connection and close it a little later."""
    await kept(upstreams, upstream)
    early = upstream.connections

    async def anew(call: Call) -> None:
        await call.answer(body=b"mine")

    upstream.script = anew
    await once(upstreams, upstream)
    await upstream.calls[-1].send(b"HTTP/1.1 408 Too slow\r\nContent-Length: 5\r\n\r\nstray")
    for _ in range(100):
        await asyncio.sleep(0)
    got = await once(upstreams, upstream)

    assert got == b"mine"
    assert (early, upstream.connections) == (1, 2)


async def test_body_after_a_bodyless_answer_is_not_the_next_answer(
    upstreams: Upstreams, upstream: Upstream
) -> None:
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
    upstream.script = saying(b"HTTP/1.1 204 x\r\n\r\n" + stray)
    first = await upstreams.send(target(upstream.url), Outgoing("GET", "/", []), Body(None), USUAL)
    first.release()
    upstream.script = saying(OK + b"Content-Length: 4\r\n\r\nmine")

    assert first.status == 204
    assert await once(upstreams, upstream) == b"mine"


async def test_early_answer_is_passed_on_while_the_body_still_comes(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually
) -> None:
    async def refuse(call: Call) -> None:
        await call.send(b"HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno")
        await call.gone()

    upstream.script = refuse
    never = asyncio.Event()
    answer = await upstreams.send(
        target(upstream.url), Outgoing("POST", "/", []), Body(Source(b"a", b"b", wait=never), None),
        USUAL
    )  # fmt: skip
    assert (answer.status, answer.body) == (413, b"no")
    answer.release()

    await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("error", [ConnectionResetError(), Rejected("payload_too_large", "")])
async def test_connection_whose_upload_broke_after_the_answer_is_closed(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, error: Exception
) -> None:
    """The upstream still waits for the rest: it would take the next request for that."""

    async def early(call: Call) -> None:
        await call.send(OK + b"Content-Length: 2\r\n\r\nok")
        await call.gone()

    upstream.script = early
    leave = asyncio.Event()
    body = Body(Source(b"a", error, wait=leave), None)
    answer = await upstreams.send(target(upstream.url), Outgoing("POST", "/", []), body, USUAL)
    leave.set()
    for _ in range(10):
        await asyncio.sleep(0)
    answer.release()

    await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 103 Early\r\n\r\n"])
async def test_upload_over_its_limit_is_the_callers_fault_whatever_the_upstream_said(
    upstreams: Upstreams, upstream: Upstream, eventually: Eventually, first: bytes
) -> None:
    async def wait(call: Call) -> None:
        if first:
            await call.send(first)
        await call.gone()

    upstream.script = wait
    go_on = asyncio.Event()
    body = Body(Source(b"aaa", b"bbb", wait=go_on), None)
    body.limit(5)
    async with asyncio.TaskGroup() as group:
        refusing = group.create_task(refused(upstreams, upstream.url, "POST", body))
        await eventually(lambda: upstream.calls)
        for _ in range(100):
            await asyncio.sleep(0)
        go_on.set()
        rejected, _ = await refusing

    assert rejected.code == "payload_too_large"
    await eventually(lambda: upstream.open == 0)


@pytest.mark.parametrize("apart", [False, True])
async def test_beginning_of_an_answer_that_nobody_asked_for_is_no_part_of_the_next(
    upstreams: Upstreams, upstream: Upstream, apart: bool
) -> None:
    """As when a body stands behind an answer that has none, and what is in it is the caller's."""

    async def script(call: Call) -> None:
        whole_answer = OK + b"Content-Length: 2\r\n\r\nok"
        stray = OK + b"X-Stray: " if len(upstream.calls) == 1 else b""
        for piece in (whole_answer, stray) if apart else (whole_answer + stray,):
            await call.send(piece)

    upstream.script = script
    for _ in range(3):
        answer = await upstreams.send(
            target(upstream.url), Outgoing("GET", "/x", []), Body.of(b""), USUAL
        )
        assert b"X-Stray" not in dict(answer.headers)
        assert await whole(answer) == b"ok"
        answer.release()
