"""Checks in processes of their own: the same verdicts, a deadline, and turns for every team."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from gateway.problems import Rejected
from gateway.transform.costly_checks import Apart
from gateway.transform.rules import Schema, compile_schema
from tests.costly_schemas import ladder, nested

PERSON = compile_schema({"type": "object", "properties": {"name": {"type": "string"}}})
STEPS = 60
ENDLESS = Schema(ladder(STEPS))
DEEP = nested(STEPS)


async def refusal(checks: Apart, schema: Schema, body: bytes, team: str = "red") -> Rejected:
    with pytest.raises(Rejected) as caught:
        await checks.check(team, schema, body)
    return caught.value


async def test_verdict_is_that_of_the_schema() -> None:
    checks = Apart()

    await checks.check("red", PERSON, b'{"name": "Ann"}')
    broken = await refusal(checks, PERSON, b'{"name": 5}')
    malformed = await refusal(checks, PERSON, b"{")

    assert (broken.code, [fault.pointer for fault in broken.errors]) == (
        "validation_failed",
        ["/name"],
    )
    assert malformed.code == "bad_request"


async def test_check_without_an_end_is_ended_and_refused() -> None:
    rejected = await refusal(Apart(), ENDLESS, DEEP)

    assert rejected.code == "validation_failed"
    assert "too much work" in rejected.detail


async def test_team_with_many_checks_takes_no_other_teams_turn() -> None:
    checks = Apart()
    async with asyncio.TaskGroup() as group:
        many = [group.create_task(refusal(checks, ENDLESS, DEEP)) for _ in range(20)]
        await asyncio.sleep(0)
        await checks.check("blue", PERSON, orjson.dumps({"name": "Ann"}))
        waiting = [task for task in many if not task.done()]
        refused = [task.result().code for task in many if task.done()]
        for task in waiting:
            task.cancel()

    assert len(waiting) >= 14
    assert refused.count("overloaded") >= 4


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.005, 0.2])
async def test_check_ends_with_its_caller(monkeypatch: pytest.MonkeyPatch, after_s: float) -> None:
    started: list[Any] = []
    spawn = asyncio.create_subprocess_exec

    async def noted(*arguments: Any, **options: Any) -> Any:
        started.append(await spawn(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_s):
            await Apart().check("red", ENDLESS, DEEP)

    assert started
    assert all(child.returncode is not None for child in started)
