"""Attempts and retries: what is sent once more, what never is, and how long that may take."""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest
from aiohttp.streams import StreamReader

from gateway.exchange import Body
from tests.gateway.sending import Source
from tests.gateway.trying import (
    EVERY,
    KEY,
    Hands,
    Trying,
    asking,
    closes,
    hangs,
    in_turn,
    resets,
    status,
    trying,
    upstream_of,
)
from tests.loopback import Call, Peer, Script, Upstream, saying, say_ok

IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE"}


@pytest.fixture
async def tries(clock: Hands) -> AsyncIterator[Trying]:
    async with trying(clock) as made:
        yield made


def gone_at(seconds: int) -> int:
    return seconds
