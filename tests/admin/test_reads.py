"""Reading in one transaction: the team's rows at one moment, and nothing is written."""

from __future__ import annotations

import asyncpg
import pytest
from aiohttp.test_utils import make_mocked_request

import sql
from admin.access import NOBODY
from admin.calls import Call
from admin.control import Control
from admin.reads import reading
from tests.admin.client import Make, User

PLANS = sql.query("plans.first")
INSERT_FIRST = sql.query("plans.insert_first")


@pytest.fixture
def call(control: Control) -> Call:
    """A read for the team red."""
    return Call(make_mocked_request("GET", "/"), control, NOBODY, "red", "viewer", "r")


async def test_rows_are_those_of_one_moment_and_of_the_team(
    call: Call, admin: User, stranger: User, make_connector: Make
) -> None:
    await make_connector(by=stranger, slug="atlas")
    async with reading(call) as team:
        assert await team.row(PLANS) is None
        await admin.get("/plans")
        assert await team.rows(PLANS) == []
    async with reading(call) as team:
        assert await team.row(PLANS) is not None


async def test_nothing_is_written(call: Call) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with reading(call) as team:
            await team.row(INSERT_FIRST, {})
