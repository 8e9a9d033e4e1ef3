"""A request that comes twice with one `Idempotency-Key` is carried out once, and answered twice.

Duplicates wait for the first, and later ones get its answer again, with `Idempotent-Replayed: true`.
A key that comes with another request is answered with 422 `validation_failed`. Only answers that
are final are kept: after a failure, a stream, or what the connector's credential or the moment was to
blame for, the next one is carried out, one at a time; so it is after the endpoint has changed. A kept
answer is for a request that would be sent today: what `transform` refuses is refused.
Kept in the memory of one process: replicas and workers don't know each other's keys.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, ClassVar, Final, NamedTuple

from gateway.cache.bounded import Bounded
from gateway.cache.single_flight import SingleFlight
from gateway.exchange import Exchange, Proceed, RawHeaders, Response
from gateway.http.header_fields import joined
from gateway.http.pieces import gather, is_stream
from gateway.model import ConnectorDefinition, Endpoint
from gateway.options import number, whole
from gateway.problems import Fault, Rejected
from gateway.runtime import Runtime
from gateway.tasks import Tasks

_FIELD: Final = b"idempotency-key"
_METHODS: Final = frozenset(["POST", "PUT", "PATCH", "DELETE"])
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}").fullmatch
_OF_THE_MOMENT: Final = frozenset([401, 402, 403, 407, 408, 421, 425, 429])
"""What an upstream answers for other reasons than what the request says."""
_LONG_BYTES: Final = 1 << 20
"""Bodies longer than this are hashed beside the event loop."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `idempotency`."""

    keep_s: float = number(86_400, "How long an answer is kept, in seconds.")
    most_bytes: int = whole(64 << 20, "How much one process keeps in all, in bytes.", least=1)
    most_entry_bytes: int = whole(1 << 20, "The largest answer that is kept, in bytes.", least=1)
    most_entries: int = whole(100_000, "How many answers one process keeps.", least=1)


class Scope(NamedTuple):
    """Within what a key means one request."""

    caller: str
    connector: str
    key: str


class Course(NamedTuple):
    """What a request comes to: while it is the same, so is the answer's meaning."""

    connector: ConnectorDefinition
    endpoint: Endpoint

    def leads(self, exchange: Exchange) -> bool:
        """True when a request comes to the same today."""
        old, new = self.endpoint, exchange.endpoint
        return (
            (old.id, old.method, old.path) == (new.id, new.method, new.path)
            and old.definition == new.definition
            and self.connector == exchange.connector.definition
        )


class Kept(NamedTuple):
    """The answer to the first request, and which request that was."""

    fingerprint: bytes
    course: Course
    until: float
    status: int
    headers: RawHeaders
    body: bytes


class Idempotency:
    """Carries a request out once for each key."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller", "connector", "endpoint", "validity"})
    gives: ClassVar[frozenset[str]] = frozenset({"idempotence"})
    refuses_answers: ClassVar[bool] = True
    spares_upstream: ClassVar[bool] = True

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._options = options
        self._kept: Bounded[Scope, Kept] = Bounded(options.most_bytes, options.most_entries)
        self._flights: SingleFlight[Scope] = SingleFlight()
        self._tasks = Tasks(expected=(Exception,))

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        caller, connector = exchange.caller, exchange.connector
        key = joined(exchange.raw_headers, _FIELD) if exchange.method in _METHODS else None
        if key is None:
            return await proceed(exchange)
        if not _KEY(key):
            raise _invalid("The key is 1 to 255 printable ASCII characters.")
        scope = Scope(caller.who, connector.id, key)
        fingerprint = await _fingerprint(exchange)
        while True:
            kept = self._kept.get(caller.team, scope)
            if kept is not None and exchange.now() < kept.until:
                if kept.fingerprint != fingerprint:
                    raise _other()
                if kept.course.leads(exchange):
                    return _replay(exchange, kept)
            running = self._flights.running(scope)
            if running is None:
                return await self._carry_out(exchange, proceed, scope, fingerprint)
            if running.subject != fingerprint:
                raise _other()
            await running.ended()

    async def _carry_out(
        self, exchange: Exchange, proceed: Proceed, scope: Scope, fingerprint: bytes
    ) -> Response:
        """Carry the request out to its end, even when its caller has gone: who comes again joins."""
        with self._flights.begin(scope, fingerprint):
            work = self._tasks.start(self._answer(exchange, proceed, scope, fingerprint), "first")
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise
            finally:
                work.cancel()

    async def _answer(
        self, exchange: Exchange, proceed: Proceed, scope: Scope, fingerprint: bytes
    ) -> Response:
        may_stream = exchange.endpoint.streaming
        response = await proceed(exchange)
        final = response.status < 500 and response.status not in _OF_THE_MOMENT
        made_here = exchange.outcome.source == "gateway" and response.status >= 400
        if (
            final
            and not made_here
            and not is_stream(exchange.method, response, may_stream=may_stream)
        ):
            body = await gather(response, self._options.most_entry_bytes)
            if body is not None:
                until = exchange.now() + self._options.keep_s
                course = Course(exchange.connector.definition, exchange.endpoint)
                fields = list(response.headers)
                kept = Kept(fingerprint, course, until, response.status, fields, body)
                self._kept.put(exchange.caller.team, scope, kept, _size(scope, kept))
        return response


async def _fingerprint(exchange: Exchange) -> bytes:
    """What makes a request the same: its method, its target and its body."""
    body = await exchange.body.read()
    head = f"{exchange.method} {exchange.path}?{exchange.query}\n".encode(
        "utf-8", "surrogateescape"
    )
    if len(body) <= _LONG_BYTES:
        return sha256(head + body).digest()
    return await asyncio.to_thread(lambda: sha256(head + body).digest())


def _replay(exchange: Exchange, kept: Kept) -> Response:
    exchange.endpoint.mapped.outgoing(exchange)  # refuses what would not be sent today
    if len(kept.body) > (most := exchange.endpoint.most_response_bytes(exchange.caller.plan)):
        raise Rejected("upstream_invalid", f"The answer has more than {most} bytes.")
    exchange.outcome.source, exchange.outcome.replayed = "upstream", True
    headers = [*kept.headers, (b"Idempotent-Replayed", b"true")]
    return Response(kept.status, headers, kept.body)


def _size(scope: Scope, kept: Kept) -> int:
    fields = sum(len(name) + len(value) + 128 for name, value in kept.headers)
    return 1024 + len(scope.key) + fields + len(kept.body)


def _other() -> Rejected:
    return _invalid("The key came before with another method, target or body.")


def _invalid(why: str) -> Rejected:
    return Rejected("validation_failed", why, errors=[Fault("idempotency-key", why)])
