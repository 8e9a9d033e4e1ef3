"""After every edit the next answer is the one that a gateway which was started again would give."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from gateway.settings import DEFAULT_PIPELINE
from tests.dataplane import Gateway, Migrated, endpoint, running, snapshot
from tests.loopback import Call, Upstream

Eventually = Callable[..., Awaitable[None]]
Edit = tuple[str, dict[str, Any]]

_ANNOUNCED = 20
_WHERE = DEFAULT_PIPELINE.index("transform")
PIPELINE = [*DEFAULT_PIPELINE[:_WHERE], "cache", "idempotency", *DEFAULT_PIPELINE[_WHERE:]]
NEVER, PAST, SOON = None, datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)  # noqa: TID251 - a day that is to come
ZONES = ["UTC", "America/Havana", "Pacific/Kiritimati", "Asia/Kathmandu", "Pacific/Niue"]
PLAN = st.fixed_dictionaries(
    {},
    optional={
        "daily_quota": st.sampled_from([None, 0, 2, 5, 1000]),
        "monthly_quota": st.sampled_from([None, 0, 3, 6, 1000]),
        "time_zone": st.sampled_from(ZONES),
        "rate_limit": st.sampled_from([0, 100_000]),
        "max_request_size": st.sampled_from([1, 1000]),
        "max_response_size": st.sampled_from([3, 100_000]),
        "max_concurrent": st.sampled_from([None, 0, 5]),
        "allowed_connectors": st.sampled_from([[], [uuid4()]]),
    },
)
KEY = st.fixed_dictionaries(
    {},
    optional={
        "plan_id": st.sampled_from(["first", "second", None]),
        "revoked_at": st.sampled_from([None, None, PAST]),
        "expires_at": st.sampled_from([NEVER, PAST, SOON]),
        "allowed_endpoints": st.sampled_from([[], ["read"], ["write"]]),
        "allowed_ips": st.sampled_from([[], ["127.0.0.0/8"], ["192.0.2.0/24"]]),
        "connector_ids": st.sampled_from([[], [uuid4()]]),
    },
)
CONNECTOR = st.fixed_dictionaries(
    {},
    optional={
        "required_headers": st.sampled_from([[], ["X-Own"]]),
        "body_blacklist": st.sampled_from([[], ["drop"]]),
        "cache_ttl": st.sampled_from([None, 60]),
        "set_headers": st.sampled_from([{}, {"X-Set": "1"}, {"X-Set": "2"}]),
        "upstream_path": st.sampled_from([None, "/elsewhere"]),
        "field_map": st.sampled_from([{}, {"told": "set"}]),
        "response_mode": st.sampled_from(["raw", "envelope"]),
        "max_response_size": st.sampled_from([None, 3]),
        "auth_type": st.sampled_from(["none", "bearer"]),
        "enabled": st.booleans(),
    },
)
SECRET = st.fixed_dictionaries({"value": st.sampled_from([None, "one", "two"])})
EDITS = st.one_of(
    st.tuples(st.sampled_from(["first", "second"]), PLAN),
    st.tuples(st.just("key"), KEY),
    st.tuples(st.just("connector"), CONNECTOR),
    st.tuples(st.just("secret"), SECRET),
)


UNLIMITED: Edit = ("first", {"daily_quota": None, "monthly_quota": None})
NOTHING: Edit = ("key", {})
KIRITIMATI: Edit = ("first", {"time_zone": "Pacific/Kiritimati"})
NIUE: Edit = ("first", {"time_zone": "Pacific/Niue"})


async def mirror(call: Call) -> None:
    """An upstream that answers with what it was asked."""

    told = {"path": call.target, "set": call.field("x-set"), "as": call.field("authorization")}
    body = orjson.dumps(told)
    await call.answer(200, body, [("Content-Type", "application/json")])


class Edited:
    """A team's configuration, the gateway that hears of each edit, and one that is started after it."""

    def __init__(self, running: Gateway, plans: dict[str | None, UUID | None], url: str) -> None:
        self.running = running
        self._plans = plans
        self._url = url
        self._versions = itertools.count(1)
        self._ids = itertools.count()
        self._secrets = 0
        self.connector = UUID(int=0)
        self.key = ""

    async def make(self) -> None:
        """The objects before any edit."""
        rows = self.running.rows
        self.connector = await rows.connector(self._url, *self._endpoints({}), secrets={"token": "one"})  # fmt: skip
        next(self._versions)
        self.key = await rows.key(plan_id=self._plans["first"])

    def _endpoints(self, definition: dict[str, Any]) -> list[dict[str, Any]]:
        read = {name: value for name, value in definition.items() if name != "body_blacklist"}
        write = {name: value for name, value in definition.items() if name != "field_map"}
        return [
            endpoint("GET", "/x", "read", **read) | {"id": "read"},
            endpoint("POST", "/x", "write", **write) | {"id": "write"},
        ]

    async def edit(self, what: str, values: dict[str, Any]) -> None:
        """Make an edit, and wait until the gateway has heard of it."""
        rows, values = self.running.rows, dict(values)
        if what == "secret":
            self._secrets += 1
            if values["value"] is None:
                await rows.run("DELETE FROM connector_secret")
            else:
                await rows.secret(self.connector, "token", values["value"])
        elif what == "connector":
            auth = {"auth_type": values.pop("auth_type", "none")}
            enabled = values.pop("enabled", True)
            frozen = snapshot(self._url, self._endpoints(values)[: 2 if enabled else 1], **auth)
            await rows.publish(self.connector, frozen | {"id": str(self.connector)}, next(self._versions))  # fmt: skip
        else:
            table, id_ = "gateway_api_key", None
            if what != "key":
                table, id_ = "gateway_plan", self._plans[what]
            if "plan_id" in values:
                values["plan_id"] = self._plans[values["plan_id"]]
            for name, value in values.items():
                change = f"UPDATE {table} SET {name} = $1 WHERE $2::uuid IS NULL OR id = $2"  # noqa: S608 - names of ours
                await rows.run(change, value, id_)
        await self._heard()

    async def _heard(self) -> None:
        """Wait for more announcements than an edit makes: they come in their order."""
        directory = self.running.worker.runtime.directory
        for _ in range(_ANNOUNCED):
            before = directory.changes
            await self.running.rows.run(
                "SELECT pg_notify('plugin_service_gateway', 'plan none none')"
            )
            async with asyncio.timeout(10):
                while directory.changes == before:  # noqa: ASYNC110 - the directory tells nobody
                    await asyncio.sleep(0.001)

    async def answer(self, gateway: Gateway, whose: str, method: str) -> tuple[Any, ...]:
        """What a request is answered with, but for what is of this one answer."""
        fields = [
            ("X-Request-Id", f"{whose}-{next(self._ids)}"),
            ("Idempotency-Key", f"{self._secrets}"),
        ]
        body = None if method == "GET" else b'"drop it"'
        got = await gateway.call(method, "/up/x", fields, body, key=self.key)
        told = got.json() if got.body else {}
        for name in ("meta", "requestId", "request_id", "error"):
            told.pop(name, None)
        told.pop("instance", None)
        return got.status, told


@asynccontextmanager
async def started(
    database: Migrated, folder: Path, eventually: Eventually
) -> AsyncIterator[Gateway]:
    async with running(database.dsn, folder, PIPELINE) as gateway:
        await eventually(lambda: "quota counts" not in {t.get_name() for t in asyncio.all_tasks()})
        yield gateway


@settings(
    max_examples=5,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example([(UNLIMITED, "GET"), (NOTHING, "GET"), (("first", {"daily_quota": 2}), "GET")])
@example(
    [(("first", {"daily_quota": 2}), "GET"), (NOTHING, "GET"), (KIRITIMATI, "GET"), (NIUE, "GET")]
)
@example(
    [
        (("first", {"monthly_quota": 2}), "GET"),
        (NOTHING, "GET"),
        (("key", {"plan_id": "second"}), "GET"),
        (("second", {"monthly_quota": 2}), "GET"),
    ]
)
@example([(("connector", {"cache_ttl": 60}), "GET"), (("first", {"max_response_size": 3}), "GET")])
@example([(NOTHING, "POST"), (("connector", {"set_headers": {"X-Set": "1"}}), "POST")])
@given(st.lists(st.tuples(EDITS, st.sampled_from(["GET", "GET", "POST"])), min_size=4, max_size=8))
async def test_next_answer_after_an_edit_is_that_of_a_gateway_that_was_started_again(
    database: Migrated,
    tmp_path: Path,
    upstream: Upstream,
    eventually: Eventually,
    steps: list[tuple[Edit, str]],
) -> None:
    upstream.script = mirror
    async with started(database, tmp_path, eventually) as gateway:
        rows = gateway.rows
        await rows.run(
            "TRUNCATE gateway_usage_record, gateway_api_key, gateway_plan, service_connector CASCADE"
        )
        plans: dict[str | None, UUID | None] = {None: None}
        for name in ("first", "second"):
            plans[name] = await rows.plan(name)
        await rows.plan("default")
        edited = Edited(gateway, plans, upstream.url)
        await edited.make()
        for asked, ((what, values), method) in enumerate(steps, 1):
            await edited.edit(what, values)
            async with started(database, tmp_path, eventually) as fresh:
                there = await edited.answer(gateway, "old", method)
                assert there == await edited.answer(fresh, "new", method), (what, values)
            await rows.run("DELETE FROM gateway_usage_record WHERE request_id LIKE 'new-%'")
            await rows.records(asked)
