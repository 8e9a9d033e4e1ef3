"""The client and the server of the library `websockets`, with a gateway between them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.typing import Subprotocol

from tests.e2e.services import serving
from tests.e2e.sockets import Front, in_front_of
from tests.templates.mock import Stop

Eventually = Callable[..., Awaitable[None]]
CHAT = Subprotocol("chat")


class Room:
    """The upstream: echoes, and does what the path says."""

    def __init__(self) -> None:
        self.ends: list[tuple[int | None, str]] = []
        self.asked: list[dict[str, str]] = []

    async def start(self) -> tuple[str, Stop]:
        server = await serve(
            self.talk, "127.0.0.1", 0, subprotocols=[CHAT], max_size=None,
            select_subprotocol=lambda _, offered: CHAT if CHAT in offered else None,
        )  # fmt: skip
        port = next(iter(server.sockets)).getsockname()[1]

        async def stop() -> None:
            server.close()
            await server.wait_closed()

        return f"http://127.0.0.1:{port}", stop

    async def talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.asked.append(
            {name.lower(): value for name, value in connection.request.headers.items()}
        )
        match connection.request.path.partition("?")[0]:
            case "/bye":
                await connection.close(4001, "enough")
            case "/drop":
                connection.transport.abort()
            case "/pieces":
                await connection.send(["in ", "three ", "pieces"])
            case "/ping":
                await (await connection.ping())
                await connection.send("the client is there")
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        self.ends.append((connection.close_code, connection.close_reason or ""))


@pytest.fixture(scope="module")
def room() -> Room:
    return Room()


@pytest.fixture(scope="module")
def front(room: Room, open_directory: Path) -> Iterator[Front]:
    with serving(room.start) as base_url, in_front_of(base_url, open_directory) as made:
        yield made


@asynccontextmanager
async def talking(front: Front, path: str = "/x", **how: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket through the gateway."""
    headers = {"Authorization": f"Bearer {front.key}"}
    given = {"additional_headers": headers, "max_size": None, "proxy": None} | how
    async with connect(front.url(path), **given) as connection:
        yield connection


async def refused(front: Front, path: str = "/x", **how: Any) -> InvalidStatus:
    """How a handshake is refused."""
    with pytest.raises(InvalidStatus) as caught:
        async with talking(front, path, **how):
            pass
    return caught.value


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize(
    "message", ["text", "", "ä€𝄞" * 50, b"\x00\xff" * 40, os.urandom(1 << 20), "a" * (1 << 20)],
    ids=["text", "empty", "unicode", "binary", "1-MiB-binary", "1-MiB-text"],
)  # fmt: skip
async def test_messages_come_back_as_they_were(
    front: Front, message: str | bytes, compression: str | None
) -> None:
    async with talking(front, compression=compression) as connection:
        extensions = [extension.name for extension in connection.protocol.extensions]
        await connection.send(message)
        assert await connection.recv() == message

    assert extensions == (["permessage-deflate"] if compression else [])


async def test_fragments_pass_both_ways(front: Front) -> None:
    async with talking(front, "/pieces") as connection:
        assert [piece async for piece in connection.recv_streaming()] == [
            "in ",
            "three ",
            "pieces",
            "",
        ]
        await connection.send([b"a" * 70_000, b"b", b""])
        assert await connection.recv() == b"a" * 70_000 + b"b"


async def test_pings_are_answered_by_the_other_end(front: Front) -> None:
    async with talking(front, "/ping") as connection:
        assert await connection.recv() == "the client is there"
        assert await (await connection.ping(b"are you there")) >= 0


async def test_many_messages_at_a_time_keep_their_order(front: Front) -> None:
    async with talking(front) as connection:
        wanted = [str(number) * (number % 300) for number in range(1000)]

        async def send() -> None:
            for message in wanted:
                await connection.send(message)

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            assert [await connection.recv() for _ in wanted] == wanted


async def test_close_codes_pass_both_ways(front: Front, room: Room, eventually: Eventually) -> None:
    before = len(room.ends)
    async with talking(front) as connection:
        await connection.close(4002, "bye")
    await eventually(lambda: len(room.ends) > before)
    async with talking(front, "/bye") as connection:
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()

    assert room.ends[before] == (4002, "bye")
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough")


async def test_subprotocol_is_the_upstreams_choice(front: Front) -> None:
    async with talking(front, subprotocols=[Subprotocol("other"), CHAT]) as connection:
        assert connection.subprotocol == CHAT


@pytest.mark.parametrize(
    ("offered", "chosen", "passed"),
    [
        ((), "service-gateway.key.", None),
        (("service-gateway",), "service-gateway", None),
        (("chat",), "chat", "chat"),
        (("service-gateway", "other", "chat"), "chat", "other, chat"),
    ],
)
async def test_credential_may_be_a_subprotocol_and_stays_here(
    front: Front, room: Room, offered: tuple[str, ...], chosen: str, passed: str | None
) -> None:
    subprotocols = [*map(Subprotocol, offered), Subprotocol(f"service-gateway.key.{front.key}")]
    async with talking(front, additional_headers={}, subprotocols=subprotocols) as connection:
        await connection.send("x")
        assert await connection.recv() == "x"
        got = connection.subprotocol or ""

    assert got == (f"{chosen}{front.key}" if chosen.endswith(".") else chosen)
    assert room.asked[-1].get("sec-websocket-protocol") == passed
    assert front.key not in str(room.asked[-1])


async def test_refusals_come_as_http_before_the_upgrade(front: Front, room: Room) -> None:
    before = len(room.asked)
    stranger = await refused(front, additional_headers={})
    async with talking(front, "/once"):
        pass
    hasty = await refused(front, "/once")
    plain = await refused(front, "/plain")

    assert stranger.response.status_code == 401
    assert hasty.response.status_code == 429
    assert "Retry-After" in hasty.response.headers
    assert plain.response.status_code == 426
    assert len(room.asked) == before + 1


async def test_upstream_that_dies_takes_its_client_along(front: Front) -> None:
    async with talking(front, "/drop") as connection:
        with pytest.raises(ConnectionClosedError) as caught:
            await connection.recv()

    assert caught.value.rcvd is None


async def test_client_that_dies_takes_its_upstream_along(
    front: Front, room: Room, eventually: Eventually
) -> None:
    before = len(room.ends)
    async with talking(front) as connection:
        await connection.send("x")
        await connection.recv()
        connection.transport.abort()
        await eventually(lambda: len(room.ends) > before)

    assert room.ends[before][0] == 1006
    await eventually(lambda: front.streams_open == 0)


async def test_gateway_that_stops_says_that_it_goes_away(
    open_directory: Path, eventually: Eventually
) -> None:
    room = Room()
    with serving(room.start) as base_url, in_front_of(base_url, open_directory) as front:
        async with talking(front) as connection:
            assert front.streams_open == 1
            stopping = asyncio.to_thread(front.gateway.stop, signal.SIGTERM)
            stopped, closed = await asyncio.gather(stopping, _end(connection))

    assert stopped == 0
    assert closed == 1001
    assert room.ends == [(1001, "")]


async def _end(connection: ClientConnection) -> int | None:
    async for _ in connection:
        pass
    return connection.close_code
