"""Slots that teams share: who may hold how many, and who is next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.tasks import Tasks
from gateway.turns import Turns


class Work:
    """Pieces of work that hold a slot until they are told to end."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.begun: list[str] = []
        self.tasks = Tasks()
        self._ends: dict[str, list[asyncio.Event]] = {}

    async def come(self, team: str, count: int = 1) -> list[asyncio.Task[None]]:
        """So many pieces of a team's work come, and begin as soon as they may."""
        tasks = [self.tasks.start(self._work(team), team) for _ in range(count)]
        await turn_of_the_loop()
        return tasks

    async def end(self, team: str) -> None:
        """The first of a team's pieces of work that runs ends."""
        self._ends[team].pop(0).set()
        await turn_of_the_loop()

    async def _work(self, team: str) -> None:
        async with self.turns.turn(team):
            self.begun.append(team)
            end = asyncio.Event()
            self._ends.setdefault(team, []).append(end)
            await end.wait()


async def turn_of_the_loop() -> None:
    """Let everything happen that is about to."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def work() -> AsyncIterator[Work]:
    """Work with eight slots, of two teams."""
    made = Work(Turns(8))
    made.turns.teams = {"red", "blue"}
    yield made
    await made.tasks.stop()
    assert (made.turns.held, made.turns.free) == ({}, 8)


async def test_only_team_has_all_slots(work: Work) -> None:
    work.turns.teams = {"red"}
    await work.come("red", 10)

    assert (work.turns.held["red"], work.turns.free) == (8, 0)


async def test_team_leaves_a_share_for_one_that_is_to_come(work: Work) -> None:
    await work.come("red", 10)
    assert work.turns.held == {"red": 4}
    await work.come("blue", 4)

    assert work.turns.held == {"red": 4, "blue": 4}


async def test_share_is_left_for_a_known_team_while_others_are_there(work: Work) -> None:
    work.turns.teams = {"blue"}
    await work.come("red", 8)

    assert work.turns.held == {"red": 4}


async def test_more_teams_than_were_known_share_equally(work: Work) -> None:
    for team in ("red", "blue", "green"):
        await work.come(team, 10)
    assert work.turns.held == {"red": 4, "blue": 4}
    for team in ("red", "blue", "red", "blue"):
        await work.end(team)

    assert work.turns.held == {"red": 2, "blue": 2, "green": 2}


async def test_team_that_holds_the_fewest_is_next_and_within_it_who_came_first(work: Work) -> None:
    one = Turns(1)
    work.turns, several = one, work.turns
    await work.come("red", 3)
    await work.come("blue")
    await work.end("red")
    assert work.begun == ["red", "red"]
    await work.end("red")
    await work.end("red")
    await work.end("blue")

    assert sorted(work.begun) == ["blue", "red", "red", "red"]
    assert not one.held
    work.turns = several


async def test_who_gives_up_waiting_costs_no_slot(work: Work) -> None:
    work.turns.teams = {"red"}
    await work.come("red", 8)
    gone, last = await work.come("red", 2)
    gone.cancel()
    await turn_of_the_loop()
    await work.end("red")
    assert (gone.cancelled(), len(work.begun)) == (True, 9)

    last.cancel()
    (late,) = await work.come("red")
    work._ends["red"].pop(0).set()  # noqa: SLF001 - the slot comes at the moment of the cancellation
    late.cancel()
    await turn_of_the_loop()
    assert work.turns.held["red"] == 6


async def test_every_slot_comes_back_and_nobody_waits_for_ever(work: Work) -> None:
    for number in range(60):
        await work.come(f"team {number % 7}")
    while work.turns.held:
        await work.end(next(iter(work.turns.held)))

    assert len(work.begun) == 60
