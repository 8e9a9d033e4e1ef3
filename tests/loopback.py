"""HTTP over loopback, byte by byte: an upstream that a test scripts, and a client that tells all."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import h11

from gateway.tasks import Tasks

PATIENCE_S = 30
Fields = Sequence[tuple[str, str]]
Script = Callable[["Call"], Awaitable[None]]


class Peer:
    """One end of a connection. Everything waits for half a minute at most."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.rest = b""
        self.was_reset = False

    async def send(self, content: bytes) -> None:
        """Send all of it; it may fail when the other side is gone."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self.sock, content)

    async def receive(self) -> bytes:
        """What comes next; nothing at the end, and then `was_reset` tells which end it was."""
        if self.rest:
            got, self.rest = self.rest, b""
            return got
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.get_running_loop().sock_recv(self.sock, 65_536)
        except ConnectionError:
            self.was_reset = True
            return b""

    async def gone(self) -> bytes:
        """Read until the other side is gone; answers what it still said."""
        pieces = []
        while piece := await self.receive():
            pieces.append(piece)
        return b"".join(pieces)

    async def until(self, end: bytes) -> bytes:
        """Read up to and with `end`. ConnectionError when it does not come."""
        got = b""
        while end not in got:
            if not (piece := await self.receive()):
                raise ConnectionError("the other side is gone")
            got += piece
        head, _, self.rest = got.partition(end)
        return head + end

    def end(self) -> None:
        """Say nothing more, and still listen."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection as a program does that has finished."""
        self.sock.close()

    def reset(self) -> None:
        """Break the connection: the other side gets a RST at once."""
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Call(Peer):
    """One request as the upstream got it. The script reads its body and answers it."""

    def __init__(self, sock: socket.socket, connection: int, head: bytes, rest: bytes) -> None:
        super().__init__(sock)
        self.connection = connection
        self.head = head
        self.rest = rest
        self.chunks: list[bytes] = []
        self.is_complete = False
        line, *lines = head[:-4].split(b"\r\n")
        self.method, self.target, self.version = line.decode("latin-1").split(" ")
        self.fields = [(n, v.strip()) for n, _, v in (entry.partition(b":") for entry in lines)]

    def all(self, name: str) -> list[str]:
        """The values of a field, in their order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for n, value in self.fields if n.lower() == wanted]

    def field(self, name: str) -> str | None:
        """The value of a field that may come once at most."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    async def read_body(self) -> bytes:
        """The body to its end."""
        if self.is_complete:
            return self.body
        if self.field("transfer-encoding") == "chunked":
            while size := int(await self.until(b"\r\n"), 16):
                await self._take(size)
                assert await self.until(b"\r\n") == b"\r\n"
            assert await self.until(b"\r\n") == b"\r\n"
        else:
            await self._take(int(self.field("content-length") or 0))
        self.is_complete = True
        return self.body

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return b"".join(self.chunks)

    async def _take(self, size: int) -> None:
        piece = bytearray()
        while len(piece) < size:
            if not (more := await self.receive()):
                raise ConnectionError("the request was cut off")
            piece += more
        self.rest = bytes(piece[size:]) or self.rest
        self.chunks.append(bytes(piece[:size]))

    async def answer(self, status: int = 200, body: bytes = b"ok", fields: Fields = ()) -> None:
        """Read the request's body, then answer with a Content-Length."""
        await self.read_body()
        whole = message(status, body, fields)
        await self.send(whole if self.method != "HEAD" else whole.removesuffix(body))


def message(status: int, body: bytes, fields: Fields = ()) -> bytes:
    """An answer with a Content-Length as one block."""
    lines = [f"HTTP/1.1 {status} Upstream's words", *(f"{n}: {v}" for n, v in fields)]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


async def say_ok(call: Call) -> None:
    """What an upstream does when no test says otherwise."""
    await call.answer()


def saying(raw: bytes, *, close: bool = False) -> Script:
    """A script that reads the request and sends these very bytes."""

    async def script(call: Call) -> None:
        await call.read_body()
        await call.send(raw)
        if close:
            call.close()

    return script


class Upstream:
    """A server on loopback that does what `script` says, for each request anew."""

    def __init__(self) -> None:
        self.script: Script = say_ok
        self.calls: list[Call] = []
        self.connections = 0
        self.open = 0
        self.faults: list[Exception] = []
        self._tasks = Tasks()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._tasks.start(self._accept(), "upstream")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.stop()
        self._listener.close()
        assert not self.faults, self.faults

    @property
    def call(self) -> Call:
        """The one request that came."""
        assert len(self.calls) == 1, [call.head for call in self.calls]
        return self.calls[0]

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self._listener)
            self.connections += 1
            self._tasks.start(self._converse(sock, self.connections), "conversation")

    async def _converse(self, sock: socket.socket, number: int) -> None:
        self.open += 1
        peer = Peer(sock)
        try:
            while sock.fileno() >= 0:
                head = await peer.until(b"\r\n\r\n")
                call = Call(sock, number, head, peer.rest)
                self.calls.append(call)
                await self.script(call)
                peer.rest = call.rest
        except (ConnectionError, TimeoutError):
            pass
        except Exception as fault:
            self.faults.append(fault)
        finally:
            self.open -= 1
            sock.close()


@dataclass
class Message:
    """An answer as a strict parser reads it; `complete` is False when it was cut off."""

    status: int = 0
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        """What came of the body."""
        return b"".join(self.pieces)

    def all(self, name: str) -> list[str]:
        """The values of a field, in their order."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for n, value in self.fields if n.lower() == wanted]

    def field(self, name: str) -> str | None:
        """The value of a field that may come once at most."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a problem document, whose form is checked."""
        assert self.field("content-type") == "application/problem+json", self
        document = self.json()
        assert document["status"] == self.status
        assert document["requestId"] == self.field("x-request-id")
        assert document["type"].endswith(f"#{document['code']}")
        return str(document["code"])


class Client(Peer):
    """A caller with a socket of its own."""

    @classmethod
    async def connect(cls, address: tuple[str, int] | str) -> Client:
        """A connection to a host and port, or to the path of a Unix socket."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def request(
        self, method: str, target: str, fields: Fields = (), body: bytes | None = None
    ) -> None:
        """Send a request; with a body it has a Content-Length."""
        await self.send(request(method, target, fields, body))

    async def answer(self, method: str = "GET") -> Message:
        """The next answer, read to its end, by h11. Fails on anything that isn't HTTP."""
        reader = Reader(self, method)
        while await reader.more():
            pass
        return reader.message


def request(method: str, target: str, fields: Fields = (), body: bytes | None = None) -> bytes:
    """A request as bytes."""
    lines = [f"{method} {target} HTTP/1.1", "Host: gateway", *(f"{n}: {v}" for n, v in fields)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def chunked(pieces: Iterable[bytes]) -> bytes:
    """A body in chunks (RFC 9112 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


class Reader:
    """An answer that is read piece by piece."""

    def __init__(self, client: Client, method: str = "GET") -> None:
        self._client = client
        self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
        self._parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        self._parser.send(h11.EndOfMessage())
        self.message = Message()

    async def more(self) -> bool:
        """Read on to the next event; False at the end, whichever it was."""
        try:
            event = self._parser.next_event()
            while event is h11.NEED_DATA:
                self._parser.receive_data(await self._client.receive())
                event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            if "without sending complete" not in str(error) and "closed" not in str(error):
                raise
            return False
        got = self.message
        if isinstance(event, h11.InformationalResponse):
            got.interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            got.status, got.fields = event.status_code, list(event.headers.raw_items())
        elif isinstance(event, h11.Data):
            got.pieces.append(bytes(event.data))
        else:
            got.complete = isinstance(event, h11.EndOfMessage)
            self._client.rest = self._parser.trailing_data[0]
            return False
        return True
