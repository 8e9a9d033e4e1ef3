"""Connections to upstreams: aiohttp's connector and C parser, used directly.

`ClientSession` is skipped: it has a cookie jar, follows redirects, re-sends on its own and costs
more than all of the gateway. The names used here (`TCPConnector.connect`, `set_response_params`,
`protocol.read`) are semi-public: aiohttp is pinned to a minor version, and the contract tests in
tests/gateway/upstream/test_connections.py fail when they move.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from functools import partial
from typing import Any, Final, cast
from urllib.parse import SplitResult, urlsplit

from aiohttp import ClientError, ClientTimeout, TCPConnector
from aiohttp.client_exceptions import ClientConnectorError
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

from gateway.exchange import Body, Outgoing
from gateway.http import websocket, wire
from gateway.http.batching import SMALL_BYTES, WriteBatch
from gateway.problems import Rejected
from gateway.tasks import Tasks
from gateway.upstream.addresses import AddressPolicy, AddressRefused
from gateway.upstream.answer import (
    BROKEN,
    Answer,
    Blameless,
    Bounds,
    DeadlinePassed,
    UpstreamProtocol,
)
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.retries import IDEMPOTENT

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MOST_FETCHED_BYTES: Final = 1 << 20
_LEAST_S: Final = 0.001
"""aiohttp takes zero for "no limit"."""


class Target:
    """Where to connect to: what `TCPConnector.connect` reads of a request, and no more.

    `owner` keeps pools apart: connections are only shared between requests with one owner.
    """

    proxy = None
    server_hostname = None

    def __init__(self, base: SplitResult, owner: str, connect_timeout_s: float) -> None:
        if base.scheme not in _DEFAULT_PORTS or not base.hostname:
            raise ValueError("an upstream is an http or https URL with a host")
        self.url = URL.build(scheme=base.scheme, host=base.hostname, port=base.port)
        self.host = self.url.raw_host or base.hostname
        self.port = base.port or _DEFAULT_PORTS[base.scheme]
        self.ssl = True
        self.connection_key = ConnectionKey(
            self.host, self.port, base.scheme == "https", True, None, None, hash(owner), None
        )
        self.connect_timeout_s = connect_timeout_s
        self.timeout = ClientTimeout(total=None, connect=connect_timeout_s, ceil_threshold=math.inf)
        authority = self.url.raw_authority if base.port else self.host
        if ":" in self.host and not base.port:
            authority = f"[{self.host}]"
        self.host_field = b"Host: " + authority.encode("ascii") + b"\r\n"
        self.label = f"{self.host}:{self.port}"

    def is_ssl(self) -> bool:
        """True for https."""
        return self.connection_key.is_ssl


class Upstreams:
    """All connections of one process to upstreams."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        idle_s: float = 15,
        dns_ttl_s: int = 10,
        ca_file: str | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(self._loop)
        self._batch = WriteBatch(self._loop)
        self._connector = TCPConnector(
            limit=0,
            keepalive_timeout=idle_s,
            ttl_dns_cache=dns_ttl_s,
            socket_factory=policy.socket_for,
            ssl=ssl.create_default_context(cafile=ca_file) if ca_file else True,
        )
        protocols = partial(UpstreamProtocol, loop=self._loop)
        self._connector._factory = cast("Any", protocols)  # noqa: SLF001 - the pinned door
        self._tasks = Tasks(expected=(*BROKEN, Rejected))

    async def close(self) -> None:
        """Close every connection."""
        await self._tasks.stop()
        await self._connector.close()

    async def send(self, target: Target, outgoing: Outgoing, body: Body, limits: Bounds) -> Answer:
        """Send a request and wait for the head of its answer.

        The caller releases the answer. A kept connection that turns out to be closed is replaced
        when the request may be repeated (RFC 9110 9.2.2). Raises Rejected `upstream_blocked`,
        `upstream_unavailable`, `upstream_invalid` or `upstream_timeout`, and what `body` raises.
        """
        deadline, left_s = self._loop.time() + limits.total_s, limits.total_s
        is_second = False
        while True:
            connection = await self._connect(target, left_s)
            protocol = cast("UpstreamProtocol", connection.protocol)
            if protocol.served and (is_second or protocol.should_close):
                # A second try is the last: not on a kept one. And what a kept one said while
                # nobody had asked is no answer.
                connection.close()
                continue
            self._deadlines.watch(protocol, deadline)
            try:
                return await self._exchange(connection, target, outgoing, body, limits, deadline)
            except _StaleConnection:
                is_second = True
                left_s = max(deadline - self._loop.time(), _LEAST_S)
            except DeadlinePassed:
                raise Rejected("upstream_timeout", "The upstream did not answer in time.") from None
            finally:
                self._deadlines.forget(protocol)

    async def _connect(self, target: Target, most_s: float) -> Connection:
        timeout = target.timeout
        if most_s < target.connect_timeout_s:
            timeout = ClientTimeout(total=None, connect=most_s, ceil_threshold=math.inf)
        try:
            return await self._connector.connect(cast("Any", target), [], timeout)
        except ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise Rejected(
                    "upstream_blocked", "The upstream's address is not allowed here."
                ) from None
            raise Rejected("upstream_unavailable", _reason(error)) from error
        except TimeoutError:
            raise Rejected("upstream_timeout", "The upstream took no connection in time.") from None
        except (ClientError, OSError) as error:
            raise Rejected("upstream_unavailable", "The upstream could not be reached.") from error

    async def _exchange(
        self,
        connection: Connection,
        target: Target,
        outgoing: Outgoing,
        body: Body,
        limits: Bounds,
        deadline: float,
    ) -> Answer:
        protocol = cast("UpstreamProtocol", connection.protocol)
        content = outgoing.body if outgoing.body is not None else body.arrived()
        upload: asyncio.Task[None] | None = None
        try:
            # A new parser for each answer: what came after the last one must not begin this one.
            protocol.set_response_params(
                skip_payload=outgoing.method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                max_field_size=16384,
                max_line_size=16384,
            )
            transport = _transport(connection)
            block = wire.request_head(target.host_field, outgoing, body.declared_bytes, content)
            if content is None or len(block) > SMALL_BYTES:
                transport.write(block)
            else:
                self._batch.write(transport, block)
            outgoing.sent += 1
            if content is None:
                upload = self._tasks.start(_upload(protocol, body), "upload")
            head = await protocol.read() if upload is None else await _first(protocol, upload)
            while 100 <= head[0].code < 200 and head[0].code != 101:  # interim (RFC 9110 15.2)
                head = await protocol.read() if upload is None else await _first(protocol, upload)
            protocol.served = True
            if outgoing.websocket_key is not None and head[0].code == 101:
                websocket.check_switch(head[0], outgoing.websocket_key)
            else:
                wire.check_answer_head(head[0])
            return Answer(connection, head, limits, deadline, upload)
        except BaseException as error:
            is_callers = upload is not None and not upload.done() and not _is_full(connection)
            if upload is not None:
                upload.cancel()
            connection.close()
            if is_callers and isinstance(error, DeadlinePassed):
                raise Blameless("upstream_timeout", "The request did not come in time.") from None
            if not isinstance(error, BROKEN):
                raise
            if isinstance(error, HttpProcessingError):
                raise Rejected("upstream_invalid", "The upstream's answer is not HTTP.") from error
            if protocol.served and content is not None and outgoing.method in IDEMPOTENT:
                raise _StaleConnection from None
            raise Rejected(
                "upstream_unavailable", "The upstream closed the connection without an answer."
            ) from error

    async def fetch(self, url: str) -> bytes:
        """A small document by GET, under the same address policy. Raises Rejected."""
        base = urlsplit(url)
        target = Target(base, f"fetch {base.netloc}", 5)
        outgoing = Outgoing(
            "GET", (base.path or "/") + (f"?{base.query}" if base.query else ""), []
        )
        answer = await self.send(target, outgoing, Body.of(b""), Bounds(10, 5, _MOST_FETCHED_BYTES))
        try:
            content = answer.body
            if content is None:
                content = b"".join([piece async for piece in answer.pieces()])
        finally:
            answer.release()
        if answer.status != 200:
            raise Rejected("upstream_invalid", f"The answer had status {answer.status}.")
        return content


class _StaleConnection(Exception):
    """A kept connection was closed by the upstream before it answered anything."""


def _transport(connection: Connection) -> asyncio.Transport:
    if (transport := connection.transport) is None:
        raise ConnectionResetError("the connection was lost between two turns of the loop")
    return transport


def _is_full(connection: Connection) -> bool:
    """True while the upstream has not taken what was written to it."""
    transport = connection.transport
    return transport is not None and transport.get_write_buffer_size() > 0


async def _first(
    protocol: UpstreamProtocol, upload: asyncio.Task[None]
) -> tuple[Any, StreamReader]:
    """The next head, unless the upload fails before it comes."""
    reading = asyncio.ensure_future(protocol.read())  # noqa: TID251 - ended below
    try:
        await asyncio.wait({reading, upload}, return_when=asyncio.FIRST_COMPLETED)
        if upload.done() and not reading.done():
            upload.result()
        return await reading
    finally:
        reading.cancel()


async def _upload(protocol: UpstreamProtocol, body: Body) -> None:
    """Pass the caller's body on as it comes, never faster than the upstream takes it."""
    chunked = body.declared_bytes is None
    async for piece in body.pieces():
        transport = protocol.transport
        if transport is None:
            return  # the upstream is gone; the reading side finds out
        transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        await protocol._drain_helper()  # noqa: SLF001 - the pinned door
    if chunked and protocol.transport is not None:
        protocol.transport.write(b"0\r\n\r\n")


def host_fits(host: str, pattern: str) -> bool:
    """True when a host is on an allow-list: itself, or below `*.example.com`."""
    host, pattern = host.lower().rstrip("."), pattern.lower().rstrip(".")
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _reason(error: ClientConnectorError) -> str:
    """What went wrong, without addresses: the caller may not learn how the network looks."""
    name = type(error).__name__
    if "DNS" in name:
        return "The upstream's host name could not be resolved."
    if "Certificate" in name or "SSL" in name:
        return "The upstream's TLS certificate or handshake was not accepted."
    return "The upstream could not be reached."
