"""Explaining: the filters of the pipeline run, and nothing is sent, counted or recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from multidict import CIMultiDict

from gateway import pipeline
from gateway.database import Database
from gateway.exchange import Body, Exchange, Proceed, Response
from gateway.explain.explanation import MASK, ByKey, ByUser, Explainer, Explanation
from gateway.problems import Rejected
from gateway.runtime import Runtime
from gateway.settings import DEFAULT_PIPELINE
from tests.dataplane import TEAM, Gateway, endpoint
from tests.loopback import Upstream

Start = Callable[..., Awaitable[Gateway]]
USER = ByUser("uma", TEAM, "viewer")
FIELDS = [("X-Mine", "yes")]


@dataclass(frozen=True)
class Options:
    """None."""


class Foreign:
    """A filter of somebody else's, which must not run unasked."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Options, runtime: Runtime) -> None:
        pass

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        raise AssertionError("it was run")


class Safe(Foreign):
    """One that may run."""

    explained: ClassVar[bool] = True

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        exchange.params = {}
        return await proceed(exchange)


class Greets(Safe):
    """One that answers for the upstream."""

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        return Response(204)


class Broken(Safe):
    """One with a fault."""

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        raise ZeroDivisionError


class Knows(Foreign):
    """Another way to know the caller."""

    gives: ClassVar[frozenset[str]] = frozenset({"caller"})


class Resolves(Foreign):
    """Another way to know the endpoint."""

    needs: ClassVar[frozenset[str]] = frozenset({"caller"})
    gives: ClassVar[frozenset[str]] = frozenset({"connector", "endpoint"})


def explainer(gateway: Gateway, entries: Sequence[Any] = DEFAULT_PIPELINE) -> Explainer:
    worker = gateway.worker
    stages = pipeline.plan(entries)
    return Explainer(stages, worker.runtime, worker.database, worker.vault, worker.default_plan)


def described(method: str = "GET", path: str = "/up/x") -> Callable[[tuple[str, str]], Exchange]:
    def make(credential: tuple[str, str]) -> Exchange:
        fields = [*FIELDS, credential]
        raw = tuple((name.encode(), value.encode()) for name, value in fields)
        return Exchange(
            method, path, "", CIMultiDict(fields), raw, Body(None),
            client_address="192.0.2.1", request_id="r", traceparent=f"00-{'a' * 32}-{'b' * 16}-00",
        )  # fmt: skip

    return make


def with_foreign(cls: type[Foreign], instead_of: str | None = None) -> list[Any]:
    """The usual pipeline with one more filter, or another one in a place."""
    entry = f"{__name__}:{cls.__name__}"
    if instead_of is None:
        return [*DEFAULT_PIPELINE[:2], entry, *DEFAULT_PIPELINE[2:]]
    return [entry if name == instead_of else name for name in DEFAULT_PIPELINE]


def verdicts(told: Explanation) -> dict[str, str]:
    return {one.name.rpartition(":")[2]: one.verdict for one in told.verdicts}


async def test_nothing_is_sent_counted_or_recorded(gateway: Start, upstream: Upstream) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url)
    plan = await started.rows.plan(daily_quota=1, rate_limit=1, max_concurrent=1)
    key = await started.rows.key(plan_id=plan)
    tale = explainer(started)
    for _ in range(3):
        told = await tale.explain(described(), ByKey(key[3:11]))
        assert told.outcome == "forwarded", told
        assert [(standing.limit.policy, standing.remaining) for standing in told.exchange.limits] == [
            ("rate", 0), ("concurrent", 0), ("daily", 0)
        ]  # fmt: skip

    assert upstream.connections == 0
    assert (await started.call(key=key)).status == 200
    assert len(await started.records(1)) == 1
    assert started.worker.runtime.metrics.rejections == {}
    told = await tale.explain(described(), ByKey(key[3:11]))
    assert (told.outcome, told.status, verdicts(told)["rate_limit"]) == ("refused", 429, "refused")


async def test_outgoing_request_has_masks_for_secrets(gateway: Start, upstream: Upstream) -> None:
    started = await gateway()
    secrets = {"token": "s3cr3t"}
    await started.rows.connector(upstream.url, auth_type="bearer", secrets=secrets)
    told = await explainer(started).explain(described(), USER)

    assert (b"Authorization", f"Bearer {MASK}".encode()) in told.exchange.outgoing.headers
    assert (b"X-Mine", b"yes") in told.exchange.outgoing.headers
    assert "s3cr3t" not in repr(vars(told.exchange))


async def test_change_is_told_at_once(gateway: Start, upstream: Upstream) -> None:
    """What the gateway holds in memory is not asked."""
    started = await gateway()
    await started.rows.connector(upstream.url, endpoint("GET", "/x"))
    tale = explainer(started)
    assert (await tale.explain(described(), USER)).outcome == "forwarded"
    await started.rows.run("UPDATE service_connector SET status = 'archived'")
    told = await tale.explain(described(), USER)

    assert verdicts(told)["resolve"] == "refused"
    assert verdicts(told)["proxy"] == "not reached"


async def test_user_acts_for_the_team_that_is_described(gateway: Start, upstream: Upstream) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url)
    told = await explainer(started).explain(described(), USER)

    caller = told.exchange.caller
    assert (caller.kind, caller.id, caller.team, caller.role) == ("user", "uma", TEAM, "viewer")


async def test_unknown_key_is_not_taken(gateway: Start) -> None:
    told = await explainer(await gateway()).explain(described(), ByKey("aaaaaaaa"))

    assert (told.outcome, told.status, verdicts(told)["authenticate"]) == (
        "refused",
        401,
        "refused",
    )


@pytest.mark.parametrize(
    ("cls", "verdict", "outcome", "status"),
    [
        (Foreign, "skipped", "forwarded", 200),
        (Safe, "passed", "forwarded", 200),
        (Greets, "answered", "answered", 204),
        (Broken, "failed", "failed", 500),
    ],
)
async def test_filter_of_somebody_else_runs_when_it_says_so(
    cls: type[Foreign],
    verdict: str,
    outcome: str,
    status: int,
    gateway: Start,
    upstream: Upstream,
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url)
    told = await explainer(started, with_foreign(cls)).explain(described(), USER)

    assert (verdicts(told)[cls.__name__], told.outcome, told.status) == (verdict, outcome, status)


async def test_caller_is_known_where_another_filter_would_find_it(
    gateway: Start, upstream: Upstream
) -> None:
    started = await gateway()
    await started.rows.connector(upstream.url)
    key = await started.rows.key()
    tale = explainer(started, with_foreign(Knows, "authenticate"))
    for caller in (USER, ByKey(key[3:11])):
        told = await tale.explain(described(), caller)
        assert (verdicts(told)["Knows"], told.outcome) == ("skipped", "forwarded")

    unknown = await tale.explain(described(), ByKey("aaaaaaaa"))
    assert (unknown.outcome, verdicts(unknown)["resolve"]) == ("unknown", "not reached")


async def test_tale_ends_where_something_is_missing(gateway: Start) -> None:
    tale = explainer(await gateway(), with_foreign(Resolves, "resolve"))
    told = await tale.explain(described(), USER)

    assert (told.outcome, verdicts(told)["Resolves"]) == ("unknown", "skipped")
    assert verdicts(told)["authorize"] == "not reached"


async def test_filters_that_keep_something_keep_nothing_of_it(
    gateway: Start, upstream: Upstream
) -> None:
    within = ["concurrency", "idempotency", "cache"]
    where = DEFAULT_PIPELINE.index("transform")
    entries = ["compress", *DEFAULT_PIPELINE[:where], *within, *DEFAULT_PIPELINE[where:]]
    started = await gateway(entries)
    await started.rows.connector(upstream.url)
    tale = explainer(started, entries)

    for _ in range(2):
        told = await tale.explain(described(), USER)
        assert told.outcome == "forwarded", told
    assert upstream.connections == 0


async def test_store_that_is_away_is_told(gateway: Start) -> None:
    worker = (await gateway()).worker
    away = Database("postgresql://127.0.0.1:1/nowhere", timeout_s=1)
    stages = pipeline.plan(DEFAULT_PIPELINE)
    tale = Explainer(stages, worker.runtime, away, worker.vault, worker.default_plan)
    await away.open()
    try:
        told = await tale.explain(described(), USER)
    finally:
        await away.close()

    refused = [one.rejected for one in told.verdicts if one.rejected is not None]
    assert [type(one) for one in refused] == [Rejected]
