"""Idempotency keys: once carried out, as often answered; what is kept, and for whom."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from filters.idempotency import Idempotency, Options
from gateway.exchange import Exchange, Response
from gateway.model import Connector, Plan
from gateway.options import OptionFaults, load
from gateway.pipeline import plan
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.transform.compiling import compile_connector
from tests.certificates import self_signed
from tests.dataplane import (
    LOOPBACK,
    Gateway,
    assert_honest,
    caller,
    connector,
    endpoint,
    exchange,
    refusal_of,
    snapshot,
)
from tests.loopback import Call, Upstream
from tests.tls import TlsServer

AT = connector("http://up", *(endpoint(m) for m in ("GET", "POST", "PUT", "PATCH", "DELETE")))
STREAMING = connector("http://up", endpoint("POST", "/x", streaming_enabled=True))
BEGUN = 1_764_000_000.0
KEY = "key-1"
Wait = Callable[..., Any]
Start = Callable[..., Awaitable[Gateway]]
PIPELINE = [
    *("usage", "respond", "authenticate", "resolve", "authorize", "rate_limit", "quota"),
    *("validate", "idempotency", "transform", "proxy"),
]


class Origin:
    """An upstream that counts, and gives its answers in turn, the last one for ever.

    With `held` every request waits until it is let go.
    """

    def __init__(self, *answers: Response | Exception, held: bool = False) -> None:
        self.answers = list(answers or [Response(201, [(b"X-Own", b"1")], b"made")])
        self.gate = asyncio.Semaphore(0 if held else 1000)
        self.asked = 0
        self.inside = 0

    async def __call__(self, request: Exchange) -> Response:
        self.asked += 1
        self.inside += 1
        try:
            await self.gate.acquire()
        finally:
            self.inside -= 1
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        request.outcome.source = "upstream"
        return Response(answer.status, list(answer.headers), answer.body, answer.length)


def stage(**options: Any) -> Idempotency:
    return Idempotency(load(Options, options), cast("Runtime", None))


def asking(
    method: str = "POST",
    path: str = "/up/x",
    body: bytes = b"{}",
    *,
    key: str | None = KEY,
    after_s: float = 0,
    **who: Any,
) -> Exchange:
    at = who.pop("at", AT)
    fields = [("Idempotency-Key", key)] if key is not None else []
    made = exchange(method, path, fields, body, at=at)
    made.at, made.started_s = BEGUN + after_s, time.perf_counter()
    made.caller = caller(**who)
    return made


def changed(url: str = "http://up", secret: str = "", **settings: Any) -> Connector:
    """One connector as it was published, or as it is today."""
    signed = {"auth_type": "bearer", "auth_config": {}} if secret else {}
    entry = endpoint("POST", **settings) | {"id": "e"}
    frozen = snapshot(url, [entry], **signed) | {"id": "c"}
    return compile_connector(frozen, team=AT.team, secrets={"token": secret.strip()})


def waiting(idempotency: Idempotency) -> int:
    """How many requests wait for the first."""
    return sum(flight.followers for flight in idempotency._flights._flights.values())  # noqa: SLF001 - nothing else shows it


def is_replay(response: Response) -> bool:
    return (b"Idempotent-Replayed", b"true") in response.headers


@pytest.mark.parametrize("options", [{"keep_s": -1}, {"most_bytes": 0}, {"most_entries": 0}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(OptionFaults):
        stage(**options)


def test_place_before_the_bodys_bound_is_refused() -> None:
    entries = ["authenticate", "resolve", "idempotency", "validate", "transform", "proxy"]
    with pytest.raises(OptionFaults, match="idempotency needs a validity, which no earlier filter"):
        plan(entries)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_request_that_comes_again_is_answered_again(method: str) -> None:
    idempotency, origin = stage(), Origin()
    first = await idempotency(asking(method), origin)
    request = asking(method, after_s=86_000)
    second = await idempotency(request, origin)

    assert not is_replay(first)
    assert second.headers == [(b"X-Own", b"1"), (b"Idempotent-Replayed", b"true")]
    assert (second.status, second.body, request.outcome.source) == (201, b"made", "upstream")
    assert origin.asked == 1


async def test_answer_is_kept_for_its_time() -> None:
    idempotency, origin = stage(keep_s=60), Origin()
    for after_s in (0, 59, 61, 120):
        await idempotency(asking(after_s=after_s), origin)

    assert origin.asked == 2


@pytest.mark.parametrize(("method", "key"), [("GET", KEY), ("POST", None)])
async def test_other_requests_are_none_of_its_business(method: str, key: str | None) -> None:
    idempotency, origin = stage(), Origin()
    for _ in range(2):
        assert not is_replay(await idempotency(asking(method, key=key), origin))

    assert origin.asked == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tbed", "caf\xe9", "nul\0"])
async def test_key_that_is_none_is_refused(key: str) -> None:
    request = asking(key="x")
    request.raw_headers = ((b"idempotency-KEY", key.encode("latin-1")),)
    refused = await refusal_of(stage(), request)

    assert (refused.code, refused.status) == ("validation_failed", 422)
    assert [fault.pointer for fault in refused.errors] == ["idempotency-key"]


@pytest.mark.parametrize("key", ["x" * 255, "!", "a key with spaces", '"quoted"'])
async def test_any_printable_key_will_do(key: str) -> None:
    idempotency, origin = stage(), Origin()
    await idempotency(asking(key=key), origin)

    assert is_replay(await idempotency(asking(key=key), origin))


@pytest.mark.parametrize(
    "other",
    [asking("PUT"), asking(path="/up/y"), asking(path="/up/x?a=1"), asking(body=b"{ }"), asking(body=b"")],
    ids=["method", "path", "query", "body", "no body"],
)  # fmt: skip
async def test_key_that_came_with_another_request_is_refused(
    other: Exchange, eventually: Wait
) -> None:
    idempotency, origin = stage(), Origin(held=True)
    async with asyncio.TaskGroup() as group:
        group.create_task(idempotency(asking(), origin))
        await eventually(lambda: origin.inside == 1)
        during = await refusal_of(idempotency, other)
        origin.gate.release()
    after = await refusal_of(idempotency, other)

    for refused in (during, after):
        assert (refused.code, refused.status) == ("validation_failed", 422)
        assert "with another method, target or body" in refused.detail


@pytest.mark.parametrize(
    "other",
    [asking(key="key-2"), asking(id="another key"), asking(team="blue"), asking(kind="user"),
     asking(at=connector("http://up"))],
    ids=["key", "caller", "team", "kind", "connector"],
)  # fmt: skip
async def test_same_key_in_another_scope_is_another_request(other: Exchange) -> None:
    idempotency, origin = stage(), Origin()
    await idempotency(asking(), origin)

    assert not is_replay(await idempotency(other, origin))
    assert origin.asked == 2


async def test_duplicates_that_come_meanwhile_join(eventually: Wait) -> None:
    idempotency, origin = stage(), Origin(held=True)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(idempotency(asking(), origin)) for _ in range(20)]
        await eventually(lambda: origin.inside == 1)
        origin.gate.release()

    assert [task.result().body for task in tasks] == [b"made"] * 20
    assert sum(is_replay(task.result()) for task in tasks) == 19
    assert origin.asked == 1


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


SSE = (b"Content-Type", b"text/event-stream")


@pytest.mark.parametrize(
    ("answer", "at"),
    [
        (Response(500), AT), (Response(503, [], b"down"), AT), (Response(429), AT),
        (Response(401), AT), (Response(403, [], b"no"), AT), (Response(425), AT),
        (Rejected("upstream_timeout", ""), AT), (Rejected("secret_missing", ""), AT),
        (Response(200, [SSE], b"data: 1\n\n"), AT), (Response(200, [], b"{}"), STREAMING),
        (Response(200, [], b"x" * 11), AT),
    ],
    ids=["500", "503", "429", "401", "403", "425", "timeout", "secret", "events", "stream", "large"],
)  # fmt: skip
async def test_answer_that_is_not_final_is_not_kept(
    answer: Response | Exception, at: Any, eventually: Wait
) -> None:
    """Those who joined carry it out themselves, one at a time."""
    idempotency = stage(most_entry_bytes=10)
    origin = Origin(answer, answer, Response(200, [(b"Content-Length", b"4")], b"made"), held=True)
    calls = [
        asyncio.gather(idempotency(asking(at=at), origin), return_exceptions=True) for _ in range(4)
    ]
    for turn in (1, 2, 3):
        await eventually(lambda turn=turn: origin.asked == turn)
        assert origin.inside == 1
        origin.gate.release()
    results = [(await call)[0] for call in calls]

    assert results[0] is answer or cast("Response", results[0]).status == cast("Any", answer).status
    assert [cast("Response", result).body for result in results[2:]] == [b"made", b"made"]
    assert is_replay(cast("Response", results[3]))


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 409, 422])
async def test_answer_that_is_final_is_kept(status: int) -> None:
    idempotency, origin = stage(), Origin(Response(status, [], b""))
    await idempotency(asking(), origin)

    assert is_replay(await idempotency(asking(), origin))


@pytest.mark.parametrize(
    "settings",
    [{"url": "http://other"}, {"upstream_path": "/elsewhere"}, {"set_headers": {"X-New": "1"}}],
    ids=["upstream", "path", "fields"],
)
async def test_answer_of_an_endpoint_that_has_changed_is_not_given_again(settings: Any) -> None:
    idempotency, origin = stage(), Origin()
    await idempotency(asking(at=changed()), origin)
    same = await idempotency(asking(at=changed()), origin)

    assert (is_replay(same), origin.asked) == (True, 1)
    assert not is_replay(await idempotency(asking(at=changed(**settings)), origin))


async def test_answer_is_given_again_to_a_request_that_would_get_it_today() -> None:
    idempotency, origin = stage(), Origin()
    await idempotency(asking(at=changed(secret="old")), origin)
    large = asking(at=changed(secret="new"), plan=Plan("narrow", "narrow", max_response_size=3))
    again = asking(at=changed(secret="new"))

    assert is_replay(await idempotency(again, origin))
    assert again.outcome.replayed
    unset = asking(at=changed(secret=" "))
    assert (await refusal_of(idempotency, unset)).code == "secret_missing"
    assert (await refusal_of(idempotency, large)).code == "upstream_invalid"


async def test_refusal_of_a_filter_inside_is_not_kept() -> None:
    async def refusing(_request: Exchange) -> Response:
        return Response(403, [], b"made here")

    idempotency, origin = stage(), Origin()
    await idempotency(asking(), refusing)

    assert not is_replay(await idempotency(asking(), origin))


async def test_answer_in_pieces_is_kept_when_it_is_small() -> None:
    idempotency, origin = stage(), Origin(Response(200, [], pieces(b"ma", b"de"), 4))
    first = await idempotency(asking(), origin)
    second = await idempotency(asking(), origin)

    assert (first.body, second.body, is_replay(second)) == (b"made", b"made", True)


async def test_caller_that_hangs_up_finds_the_answer_when_it_comes_again(eventually: Wait) -> None:
    idempotency, origin = stage(), Origin(held=True)
    async with asyncio.TaskGroup() as group:
        gone = group.create_task(idempotency(asking(), origin))
        await eventually(lambda: origin.inside == 1)
        gone.cancel()
        again = group.create_task(idempotency(asking(), origin))
        await eventually(lambda: waiting(idempotency) == 1)
        assert (gone.done(), origin.inside) == (False, 1)
        origin.gate.release()

    assert gone.cancelled()
    assert (again.result().body, is_replay(again.result()), origin.asked) == (b"made", True, 1)


async def test_end_of_the_process_ends_the_work(eventually: Wait) -> None:
    idempotency, origin = stage(), Origin(held=True)
    gone = asyncio.gather(idempotency(asking(), origin), return_exceptions=True)
    await eventually(lambda: origin.inside == 1)
    gone.cancel()
    await asyncio.sleep(0)
    gone.cancel()
    await eventually(lambda: origin.inside == 0)
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_store_is_bounded_and_a_flood_of_one_team_is_its_own_affair() -> None:
    idempotency, origin = stage(most_entries=10), Origin()
    await idempotency(asking(team="blue"), origin)
    for number in range(50):
        await idempotency(asking(key=f"key {number}"), origin)

    assert is_replay(await idempotency(asking(team="blue"), origin))
    assert is_replay(await idempotency(asking(key="key 49"), origin))
    assert not is_replay(await idempotency(asking(key="key 0"), origin))


async def test_large_bodies_are_compared_too() -> None:
    idempotency, origin = stage(), Origin()
    first, same, other = (asking(body=b"x" * (1 << 21) + end) for end in (b"a", b"a", b"b"))
    await idempotency(first, origin)

    assert is_replay(await idempotency(same, origin))
    assert (await refusal_of(idempotency, other)).code == "validation_failed"


async def test_client_that_hangs_up_and_comes_again_pays_once(
    gateway: Start, upstream: Upstream, eventually: Wait
) -> None:
    running = await gateway(PIPELINE)
    key = await running.rows.key()
    await running.rows.connector(upstream.url)
    gate = asyncio.Event()

    async def script(call: Call) -> None:
        await gate.wait()
        await call.answer(201, b"paid")

    upstream.script = script
    fields = [("Authorization", f"Bearer {key}"), ("Idempotency-Key", KEY)]
    client = await running.client()
    await client.request("POST", "/api/v1/gw/up/x", fields, b"{}")
    await eventually(lambda: upstream.calls)
    client.close()
    again = await running.client()
    await again.request("POST", "/api/v1/gw/up/x", fields, b"{}")
    await eventually(lambda: running.worker.runtime.metrics.in_flight == 2)
    gate.set()
    answer = await again.answer("POST")
    other = await running.call("POST", key=key, fields=fields[1:], body=b"{ }")

    assert (answer.status, answer.body) == (201, b"paid")
    assert answer.field("idempotent-replayed") == "true"
    assert upstream.call.field("idempotency-key") == KEY
    assert (other.status, other.code) == (422, "validation_failed")
    records = await running.records(3)
    assert sorted((r["status"], r["attempts"], r["source"]) for r in records) == [
        (201, 0, "upstream"),
        (422, 0, "gateway"),
        (499, 1, "gateway"),
    ]


async def test_answer_that_tls_cuts_is_not_kept(gateway: Start, tmp_path: Path) -> None:
    with TlsServer(self_signed(tmp_path), b"HTTP/1.1 200 OK\r\n\r\nabc") as server:
        trusting = {"allow_networks": list(LOOPBACK), "ca_file": server.certificate}
        running = await gateway(PIPELINE, upstream=trusting)
        await running.rows.connector(server.url)
        key, fields = await running.rows.key(), [("Idempotency-Key", KEY)]
        answers = [await running.call("POST", "/up/x", fields, b"{}", key=key) for _ in range(2)]

    assert [(answer.status, answer.code) for answer in answers] == [(502, "upstream_invalid")] * 2
    assert len(server.requests) == 2


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(stage(), asking())
