"""Values that are loaded once, remembered within bounds, and never served after they changed."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import pytest

from gateway.clock import Clock
from gateway.database import DatabaseAway
from gateway.lookup import Cache, Loaded
from gateway.recent import ENTRY_BYTES
from gateway.tasks import Tasks

SIZE = 1_000


class Turned(Protocol):
    """The fixture `clock`."""

    def forward(self, seconds: float) -> None: ...


class Source:
    """What a cache loads from; `gate` holds a load up."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {"a": "1", "b": "2", "c": "3"}
        self.loads: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False

    async def load(self, name: str) -> Loaded[str] | None:
        self.loads.append(name)
        value = self.values.get(name)
        await self.gate.wait()
        if self.away:
            raise DatabaseAway
        return None if value is None else Loaded(value, SIZE)


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def cache(source: Source, clock: Clock) -> AsyncIterator[Cache[str]]:
    tasks = Tasks(expected=(DatabaseAway,))
    yield Cache(source.load, clock, tasks, 2 * (SIZE + ENTRY_BYTES + sys.getsizeof("a")))
    await tasks.stop()


async def test_value_is_loaded_once_however_many_ask(source: Source, cache: Cache[str]) -> None:
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(cache.get("a")) for _ in range(50)]
        await asyncio.sleep(0)
        asking[0].cancel()
        source.gate.set()

    assert [task.result() for task in asking[1:]] == ["1"] * 49
    assert (await cache.get("a"), cache.held("a")) == ("1", "1")
    assert source.loads == ["a"]


async def test_that_there_is_none_is_remembered_for_five_seconds(
    source: Source, cache: Cache[str], clock: Turned
) -> None:
    assert [await cache.get("x"), await cache.get("x")] == [None, None]
    clock.forward(4.9)
    assert await cache.get("x") is None
    source.values["x"] = "new"
    clock.forward(0.2)

    assert await cache.get("x") == "new"
    assert source.loads == ["x", "x"]


async def test_whatever_is_asked_for_puts_nothing_out_that_is_there(
    source: Source, cache: Cache[str]
) -> None:
    await cache.get("a")
    for number in range(10):
        await cache.get(f"none-{number}")
    assert cache.held("a") == "1"
    await cache.get("b")
    await cache.get("c")

    assert [cache.held(name) for name in "abc"] == ["1", None, "3"], "what was used stays"


async def test_names_of_what_is_not_there_are_bounded_in_bytes(
    source: Source, cache: Cache[str]
) -> None:
    tracemalloc.start()
    for number in range(300):
        await cache.get(f"{number}" + "x" * 60_000)
        source.loads.clear()
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert grown < 5 << 20


async def test_change_while_a_value_is_read_is_not_missed(
    source: Source, cache: Cache[str]
) -> None:
    changes: list[Callable[[], None]] = [
        lambda: cache.drop("a"), lambda: cache.drop_where(lambda _: False), cache.make_stale
    ]  # fmt: skip
    for change in changes:
        cache.drop("a")
        source.values["a"] = "old"
        source.gate.clear()
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(cache.get("a"))
            for _ in range(3):
                await asyncio.sleep(0)
            source.values["a"] = "new"
            change()
            source.gate.set()
        assert (asking.result(), cache.held("a")) == ("new", "new")


async def test_changes_of_others_do_not_hold_a_load_up(source: Source, cache: Cache[str]) -> None:
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(cache.get("a"))
        for number in range(5):
            await asyncio.sleep(0)
            cache.drop(f"other-{number}")
        source.gate.set()

    assert (asking.result(), source.loads) == ("1", ["a"])


async def test_what_is_in_doubt_is_looked_up_and_serves_while_that_fails(
    source: Source, cache: Cache[str]
) -> None:
    await cache.get("a")
    cache.make_stale()
    source.away = True
    assert (cache.held("a"), await cache.get("a")) == (None, "1")
    with pytest.raises(DatabaseAway):
        await cache.get("b")
    source.away, source.values["a"] = False, "new"

    assert await cache.get("a") == "new"


async def test_what_is_in_doubt_serves_while_the_look_up_takes_long_and_is_looked_up_behind(
    source: Source, cache: Cache[str], eventually: Callable[..., Awaitable[None]]
) -> None:
    await cache.get("a")
    cache.make_stale()
    source.gate.clear()
    source.values["a"] = "new"
    async with asyncio.timeout(1):
        assert await cache.get("a") == "1"
    async with asyncio.timeout(0.1):
        assert [await cache.get("a") for _ in range(100)] == ["1"] * 100
    source.gate.set()
    await eventually(lambda: cache.held("a") == "new")

    assert source.loads == ["a", "a"]


async def test_what_one_value_is_in_doubt_for_is_looked_up_alone_and_serves_while_that_fails(
    source: Source, cache: Cache[str]
) -> None:
    assert [await cache.get(name) for name in "ab"] == ["1", "2"]
    assert cache.values() == ["1", "2"]
    source.values["a"] = "new"

    assert [cache.make_stale_where(lambda value: value == "1") for _ in range(2)] == [1, 0]
    assert [cache.held(name) for name in "ab"] == [None, "2"]
    source.away = True
    assert await cache.get("a") == "1"
    source.away = False
    assert await cache.get("a") == cache.held("a") == "new"
    assert source.loads == ["a", "b", "a", "a"]


async def test_what_is_cleared_is_loaded_anew_and_never_served(
    source: Source, cache: Cache[str]
) -> None:
    assert [await cache.get(name) for name in "abx"] == ["1", "2", None]
    assert cache.names() == ["a", "b"]
    cache.clear()
    assert cache.names() == []
    source.away = True
    with pytest.raises(DatabaseAway):
        await cache.get("a")
    with pytest.raises(DatabaseAway):
        await cache.get("x")


async def test_what_was_taken_back_does_not_serve_while_the_look_up_fails(
    source: Source, cache: Cache[str]
) -> None:
    await cache.get("a")
    cache.make_stale()
    source.away = True
    source.gate.clear()
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(attempt(cache.get("a")))
        await asyncio.sleep(0)
        cache.drop("a")
        source.gate.set()

    assert isinstance(asking.result(), DatabaseAway)


async def attempt(looking: Awaitable[Any]) -> Any:
    """What came of it, be it an exception."""
    try:
        return await looking
    except Exception as error:
        return error
