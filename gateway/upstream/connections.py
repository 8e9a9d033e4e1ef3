"""Exchanges with upstreams: a request on a connection, and the answer to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from gateway.exchange import Body, Outgoing
from gateway.http import websocket, wire
from gateway.http.batching import SMALL_BYTES, WriteBatch
from gateway.problems import Rejected
from gateway.tasks import Tasks
from gateway.upstream.address_policy import AddressPolicy
from gateway.upstream.answer import Answer, Blameless, Bounds
from gateway.upstream.deadlines import Deadlines
from gateway.upstream.dialling import Dialler, Stage, Target
from gateway.upstream.heads import FieldLimits
from gateway.upstream.pool import Pool
from gateway.upstream.protocol import Broken, DeadlinePassed, UpstreamProtocol
from gateway.upstream.resolver import Resolver

_MOST_FETCHED_BYTES: Final = 1 << 20
_AWAITED_BYTES: Final = 1 << 16
"""A body of this length at most is waited for, so that it can be sent once more."""
_USUAL_LIMITS: Final = FieldLimits()


class Upstreams:
    """All connections of one process to upstreams."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        idle_s: float = 15,
        max_age_s: float = 300,
        dns_ttl_s: float = 10,
        ca_file: str | None = None,
        limits: FieldLimits = _USUAL_LIMITS,
        resolver: Resolver | None = None,
        note: Callable[[Stage], None] | None = None,
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(loop)
        self._batch = WriteBatch(loop)
        self.resolver = resolver or Resolver(dns_ttl_s)
        self._dialler = Dialler(
            policy, self.resolver, max_age_s=max_age_s, limits=limits, ca_file=ca_file, note=note
        )
        self._pool = Pool(loop, idle_s)
        self._tasks = Tasks(expected=(Exception,))  # told to whoever waits for the answer

    async def close(self) -> None:
        """Close every connection."""
        await self._tasks.stop()
        await self._dialler.close()

    def obey(self, policy: AddressPolicy) -> None:
        """Follow another policy. Connections that it does not allow are closed, used ones when free."""
        self._dialler.obey(policy)
        self._pool.drop_unfit()

    async def send(self, target: Target, outgoing: Outgoing, body: Body, limits: Bounds) -> Answer:
        """Send a request and wait for the head of its answer.

        The caller releases the answer. A kept connection that turns out to be closed before
        anything was written is replaced; after that, it is Blameless, and a repetition goes on a new
        one. Raises Rejected `upstream_blocked`, `upstream_unavailable`, `upstream_invalid` or
        `upstream_timeout`, and what `body` raises.
        """
        deadline = self._loop.time() + limits.total_s
        content = outgoing.body if outgoing.body is not None else body.arrived()
        if content is None and body.is_coming and (body.declared_bytes or 0) <= _AWAITED_BYTES:
            content = await self._awaited(body, deadline)
        while True:
            connection = None if outgoing.needs_new else self._kept(target)
            if connection is None:
                left_s = deadline - self._loop.time()
                connection = await self._dialler.dial(target, left_s)
            self._deadlines.watch(connection, deadline)
            try:
                return await self._exchange(
                    connection, target, outgoing, body, content, limits, deadline
                )
            except _Unsent:
                continue
            except DeadlinePassed:
                raise Rejected("upstream_timeout", "The upstream did not answer in time.") from None
            finally:
                self._deadlines.forget(connection)

    def _kept(self, target: Target) -> UpstreamProtocol | None:
        """A connection that can be used again; its name is looked up anew when it is time."""
        connection = self._pool.take(target.key)
        if connection is not None and connection.name is not None:
            self.resolver.renew(connection.name, target.team)
        return connection

    async def _awaited(self, body: Body, deadline: float) -> bytes:
        """A body that is about to be here."""
        try:
            async with asyncio.timeout_at(deadline):
                return await body.read()
        except TimeoutError:
            raise Blameless("upstream_timeout", "The request did not come in time.") from None

    async def _exchange(
        self,
        connection: UpstreamProtocol,
        target: Target,
        outgoing: Outgoing,
        body: Body,
        content: bytes | None,
        limits: Bounds,
        deadline: float,
    ) -> Answer:
        upload: asyncio.Task[None] | None = None
        is_kept = connection.served > 0
        outgoing.sent += 1
        try:
            connection.begin(is_head=outgoing.method == "HEAD")
            block = wire.request_head(target.host_field, outgoing, body.declared_bytes, content)
            if content is not None and len(block) <= SMALL_BYTES:
                self._batch.write(connection, block)
            elif not connection.is_closing():
                connection.write(block)
                if content is None:
                    upload = self._tasks.start(_upload(connection, body), "upload")
            message = await connection.head()
            if outgoing.websocket_key is not None and message.code == 101:
                websocket.check_switch(message, outgoing.websocket_key)
            else:
                wire.check_answer_head(message)
            return Answer(connection, limits, deadline, upload, self._deadlines, self._pool.keep)
        except BaseException as error:
            is_callers = upload is not None and not upload.done() and not connection.is_full
            if upload is not None:
                upload.cancel()
            connection.close()
            if is_callers and isinstance(error, DeadlinePassed):
                raise Blameless("upstream_timeout", "The request did not come in time.") from None
            if not isinstance(error, Broken):
                raise
            if is_kept and not connection.wrote:
                outgoing.sent -= 1
                raise _Unsent from None
            if is_kept and not connection.received:
                outgoing.needs_new = True
                raise Blameless(
                    "upstream_unavailable", "The upstream closed a connection that was kept."
                ) from error
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


class _Unsent(Exception):
    """A kept connection was closed by the upstream before anything was written to it."""


async def _upload(connection: UpstreamProtocol, body: Body) -> None:
    """Pass the caller's body on as it comes, never faster than the upstream takes it."""
    chunked = body.declared_bytes is None
    try:
        async for piece in body.pieces():
            if connection.is_closing():
                return  # the upstream is gone; the reading side finds out
            connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await connection.drain()
    except Exception as error:
        if connection.message is None:
            gone = isinstance(error, ConnectionError)
            connection.fail(
                Blameless("upstream_unavailable", "The request broke off.") if gone else error
            )
        raise
    if chunked and not connection.is_closing():
        connection.write(b"0\r\n\r\n")


def host_fits(host: str, pattern: str) -> bool:
    """True when a host is on an allow-list: itself, or below `*.example.com`."""
    host, pattern = host.lower().rstrip("."), pattern.lower().rstrip(".")
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
