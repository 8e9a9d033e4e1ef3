"""Checks of bodies that may take long: each in a process of its own, which is ended at a deadline.

A check against a JSON Schema can neither be interrupted nor run beside the event loop, as it holds
the interpreter. `python -m gateway.transform.costly_checks` reads a schema and a body, and tells what is wrong.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import orjson

from gateway.model import Rules
from gateway.problems import Fault, Rejected
from gateway.tasks import Tasks
from gateway.transform.rules import PATIENCE, Costly, Schema

MOST_CPU_S: Final = 1
"""What one check may use, in seconds of a processor."""
_MOST_S: Final = 5.0
_AT_ONCE: Final = 2
_MOST_WAITING: Final = 16
"""How many checks of one team may wait for their turn."""
_MOST_MEMORY: Final = 2 << 30


class Apart:
    """Two checks at a time, and one of a team, so that no team takes the turns of all others."""

    def __init__(self) -> None:
        self._tasks = Tasks()
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._teams: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiting: defaultdict[str, int] = defaultdict(int)

    async def check_body(
        self, team: str, rules: Rules, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """The rules of an endpoint for a body, beside the event loop what takes long. Raises Rejected."""
        try:
            if rules.is_long(body):
                await asyncio.to_thread(rules.check_body, body, headers)
            else:
                rules.check_body(body, headers)
        except Costly:
            await self.check(team, rules.schema, body)

    async def check(self, team: str, schema: Schema, body: bytes) -> None:
        """Raises Rejected as `Schema.check` does, `validation_failed` also past the deadline, and
        `overloaded` when too many wait.
        """
        async with self._turn(team):
            found = await _found(self._tasks, schema, body)
        if found is None:
            raise Rejected(
                "validation_failed",
                "The body is too much work to check against the endpoint's JSON Schema: "
                f"it took more than {MOST_CPU_S} s.",
                errors=[Fault("", "it takes too long to check")],
            )
        if found:
            faults = [Fault(place, detail) for place, detail in found["faults"]]
            raise Rejected(found["code"], found["detail"], errors=faults)

    @asynccontextmanager
    async def _turn(self, team: str) -> AsyncIterator[None]:
        if self._waiting[team] >= _MOST_WAITING:
            detail = "Too many bodies of the team wait to be checked."
            raise Rejected("overloaded", detail, retry_after_s=1)
        self._waiting[team] += 1
        try:
            async with self._teams[team], self._turns:
                yield
        finally:
            self._waiting[team] -= 1
            if not self._waiting[team]:
                del self._waiting[team], self._teams[team]


async def _found(tasks: Tasks, schema: Schema, body: bytes) -> dict[str, Any] | None:
    """What the other process says; None when it was ended before it did."""
    starting = tasks.start(_start(), "the check of a body")
    try:
        child = await asyncio.shield(starting)
        content = orjson.dumps(schema.document)
        head = len(content).to_bytes(8, "big")
        async with asyncio.timeout(_MOST_S):
            told, _ = await child.communicate(head + content + body)
    except TimeoutError:
        return None
    finally:
        child = await starting  # it is started also for a caller that has gone meanwhile
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await asyncio.shield(child.wait())
    return orjson.loads(told) if child.returncode == 0 else None


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.transform.costly_checks"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def main() -> None:
    """One check: the length of the schema, the schema and the body come in, the verdict goes out."""
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    given = sys.stdin.buffer
    schema = Schema(orjson.loads(given.read(int.from_bytes(given.read(8), "big"))))
    told: dict[str, Any] = {}
    try:
        schema.check(given.read(), PATIENCE)
    except Rejected as rejected:
        faults = [[fault.pointer, fault.detail] for fault in rejected.errors]
        told = {"code": rejected.code, "detail": rejected.detail, "faults": faults}
    sys.stdout.buffer.write(orjson.dumps(told))


if __name__ == "__main__":
    main()
