"""Schemas and bodies of one team that are much work: the loop stays free, others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from tests.costly_schemas import RECURSIVE, ladder, nested
from tests.dataplane import Gateway, endpoint
from tests.loopback import Upstream
from tests.loopwatch import watching

Start = Callable[..., Awaitable[Gateway]]
MIXED = {
    "$dynamicAnchor": "n",
    "if": {"items": {"$dynamicRef": "#n"}},
    "then": {"not": {"items": {"$dynamicRef": "#n"}}},
    "else": {"allOf": [{"items": {"$ref": "#n"}}, {"contains": {"$ref": "#"}}]},
}
SCHEMAS = {"recursive": RECURSIVE, "ladder": ladder(40), "mixed": MIXED}


async def two_teams(gateway: Start, upstream: Upstream, **rules: Any) -> tuple[Gateway, str, str]:
    """A gateway with a hostile team's key, and a neighbour's."""
    running = await gateway()
    found = []
    for team in ("red", "blue"):
        own = rules if team == "red" else {}
        await running.rows.plan(team=team)
        await running.rows.connector(upstream.url, endpoint("POST", "/x", **own), team=team)
        found.append(await running.rows.key(team=team))
        assert (await running.call("POST", body=b"1", key=found[-1])).status in {200, 422}
    return running, found[0], found[1]


@asynccontextmanager
async def others_served(running: Gateway, key: str) -> AsyncIterator[None]:
    """A neighbour calls all along; each call is answered, and none has to wait."""
    done = asyncio.Event()

    async def neighbour() -> None:
        while not done.is_set():
            async with asyncio.timeout(2):
                assert (await running.call("POST", body=b"{}", key=key)).status == 200
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(neighbour())
        async with watching():
            yield
        done.set()


@pytest.mark.parametrize("levels", [10, 14, 16, 40, 100])
@pytest.mark.parametrize("schema", SCHEMAS)
async def test_body_whose_check_would_grow_with_a_power_of_its_depth_holds_nobody_up(
    schema: str, levels: int, gateway: Start, upstream: Upstream
) -> None:
    running, red, blue = await two_teams(gateway, upstream, body_schema=SCHEMAS[schema])

    async with others_served(running, blue):
        answer = await running.call("POST", body=nested(levels), key=red)

    assert answer.status in {200, 422}
    if schema == "recursive":
        assert orjson.loads(answer.body)["code"] == "validation_failed"


@pytest.mark.parametrize("levels", [254, 256, 1020])
@pytest.mark.parametrize("schema", [{"type": "object"}, {"items": {"type": "integer"}}, RECURSIVE])
async def test_body_that_is_nested_deeply_and_breaks_its_schema_is_refused(
    schema: Any, levels: int, gateway: Start, upstream: Upstream
) -> None:
    running, red, blue = await two_teams(gateway, upstream, body_schema=schema)

    async with others_served(running, blue):
        answer = await running.call("POST", body=nested(levels), key=red)

    assert answer.status == 422
    assert orjson.loads(answer.body)["code"] == "validation_failed"


@pytest.mark.parametrize(
    "rules",
    [
        {"body_schema": {"items": {"type": "integer"}}},
        {"body_schema": {"anyOf": [{"items": {"type": "integer"}}, {"items": {"type": "null"}}]}},
        {"body_schema": {"items": {"enum": [f"v{number}" for number in range(2000)]}}},
        {"body_schema": {"uniqueItems": True, "maxItems": 1}},
        {"body_pattern": "(?:[a-z]{1,100}){1,9}!"},
    ],
    ids=["errors", "branches", "enum", "unique", "pattern"],
)
async def test_large_body_that_breaks_a_rule_holds_nobody_up(
    rules: Any, gateway: Start, upstream: Upstream
) -> None:
    running, red, blue = await two_teams(gateway, upstream, **rules)
    body = orjson.dumps(["value"] * 120_000)

    async with others_served(running, blue):
        answer = await running.call("POST", body=body, key=red)

    assert answer.status == 422


async def test_first_call_of_a_connector_with_many_rules_holds_nobody_up(
    gateway: Start, upstream: Upstream
) -> None:
    running, _, blue = await two_teams(gateway, upstream)
    fields = {f"f{at}": {"type": "string", "pattern": f"^[a-z]{{1,{at + 1}}}$"} for at in range(40)}
    rules: dict[str, Any] = {
        "body_schema": {"properties": fields},
        "body_blacklist": [f"w{at}" for at in range(40)],
    }
    many = [endpoint("POST", f"/many/{at}", **rules) for at in range(500)]
    await running.rows.connector(upstream.url, *many, slug="many", team="green")
    await running.rows.plan(team="green")
    green = await running.rows.key(team="green")

    async with others_served(running, blue):
        answer = await running.call("POST", "/many/many/7", body=b'{"f0": "a"}', key=green)

    assert answer.status == 200
