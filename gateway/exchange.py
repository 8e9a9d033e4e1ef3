"""The contract between the server and the filters: Exchange, Body, Response, Filter, Proceed.

An exchange is one request on its way through the filters and what came back. Everything about a
request lives here; filters keep nothing about one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final, Protocol

from gateway.http.messages import Outgoing, RawHeaders, Response
from gateway.limits.contract import Standing
from gateway.model import Caller, Connector, Endpoint
from gateway.problems import MEDIA_TYPE, Rejected, render

__all__ = [
    "Body", "Exchange", "Filter", "Outcome", "Outgoing", "Proceed", "RawHeaders", "Response", "problem", "refusal", "too_large",
]  # fmt: skip

FIELDS: Final = frozenset({"caller", "connector", "endpoint", "outgoing"})
"""What filters find out and set in the exchange, for the `needs` and `gives` of others."""
MARKS: Final = frozenset(
    {
        "admission", "answer", "cache_status", "content_coding", "cors", "final_answer", "idempotence",
        "permission", "place", "quota_decision", "rate_decision", "record", "trace", "validity",
    }
)  # fmt: skip
"""What filters have done that no field tells, for the same; one that isn't ours has a dot in it."""

_PROBLEM: Final = (b"Content-Type", MEDIA_TYPE.encode("ascii"))
_LEAST_BYTES_PER_S: Final = 100
"""How slowly a request's body may come, once the patience is used up."""


class Source(Protocol):
    """Where a body's bytes come from: the reading side of aiohttp's StreamReader."""

    def is_eof(self) -> bool: ...
    def at_eof(self) -> bool: ...
    async def readany(self) -> bytes: ...
    def read_nowait(self, n: int = -1, /) -> bytes: ...


class Body:
    """The request's body: read whole up to a limit, or piece by piece, once.

    `declared_bytes` is the Content-Length, None when chunked. `on_first_read` sends `100 Continue`
    when the client waits for it (RFC 9110 10.1.1). All of it may take `patience_s`, and more when
    it is large.
    """

    __slots__ = (
        "_on_first_read",
        "_patience_s",
        "_source",
        "_whole",
        "declared_bytes",
        "limit_bytes",
        "read_bytes",
    )

    def __init__(
        self,
        source: Source | None,
        declared_bytes: int | None = 0,
        on_first_read: Callable[[], None] | None = None,
        patience_s: float = 30.0,
    ) -> None:
        self._patience_s = patience_s
        self._source = source
        self._whole: bytes | None = b"" if source is None else None
        self._on_first_read = on_first_read
        self.declared_bytes = declared_bytes
        self.limit_bytes: int | None = None
        self.read_bytes = 0

    @classmethod
    def of(cls, content: bytes) -> Body:
        """A body that is already here."""
        body = cls(None, len(content))
        body._whole = content
        body.read_bytes = len(content)
        return body

    @property
    def is_empty(self) -> bool:
        """True when the request has no body at all."""
        return self._source is None and not self._whole

    @property
    def is_whole(self) -> bool:
        """True when all of it is in memory, and can be sent more than once."""
        return self._whole is not None

    @property
    def is_coming(self) -> bool:
        """True when all of it is still to come, of a known length, and nobody has to ask for it."""
        return (
            self._whole is None
            and self.declared_bytes is not None
            and not self.read_bytes
            and self._on_first_read is None
        )

    def limit(self, most_bytes: int) -> None:
        """Refuse more than this: at once when the declared length is more, else when it arrives."""
        self.limit_bytes = most_bytes
        if self.declared_bytes is not None and self.declared_bytes > most_bytes:
            raise too_large(most_bytes)

    def arrived(self) -> bytes | None:
        """The whole body when it is here already, else None; never waits."""
        if self._whole is not None:
            return self._whole
        source = self._source
        if source is None or self._on_first_read is not None or not source.is_eof():
            return None
        if self.read_bytes:
            return None  # some of it was passed on already
        self._whole = self._count(source.read_nowait(-1))
        return self._whole

    async def read(self) -> bytes:
        """The whole body. Raises Rejected `payload_too_large` at the limit."""
        if (whole := self.arrived()) is None:
            whole = b"".join([piece async for piece in self.pieces()])
            self._whole = whole
        return whole

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives.

        Raises Rejected `payload_too_large` at the limit, `bad_request` when it comes too slowly.
        """
        if self._whole is not None:
            if self._whole:
                yield self._whole
            return
        if self._on_first_read is not None:
            self._on_first_read()
            self._on_first_read = None
        source, waited_s = self._source, 0.0
        while source is not None and not source.at_eof():  # is_eof() is true before the last piece
            if self.read_bytes:
                await asyncio.sleep(0)  # what is here already may be much work: others have a turn
            begun = time.monotonic()
            patience_s = self._patience_s + self.read_bytes / _LEAST_BYTES_PER_S - waited_s
            try:
                async with asyncio.timeout(patience_s):
                    piece = await source.readany()
            except TimeoutError:
                raise Rejected("bad_request", "The request's body comes too slowly.") from None
            waited_s += time.monotonic() - begun
            if piece:
                yield self._count(piece)

    def _count(self, piece: bytes) -> bytes:
        self.read_bytes += len(piece)
        if self.limit_bytes is not None and self.read_bytes > self.limit_bytes:
            raise too_large(self.limit_bytes)
        return piece


def too_large(most_bytes: int) -> Rejected:
    """The one text for a request body past its limit."""
    return Rejected("payload_too_large", f"The request body may have at most {most_bytes} bytes.")


def problem(rejected: Rejected, request_id: str) -> Response:
    """What a refusal says as an answer: problem+json, and the fields that it adds."""
    return Response(rejected.status, [_PROBLEM, *rejected.headers], render(rejected, request_id))


def refusal(rejected: Rejected, request_id: str) -> Response:
    """A refusal as an answer that is complete: it has the request's id in a field, too."""
    response = problem(rejected, request_id)
    response.headers.insert(1, (b"X-Request-Id", request_id.encode("ascii")))
    return response


@dataclass(slots=True)
class Outcome:
    """What became of an exchange: told by the filters that bring it about, read by those that record.

    `source` is who made the answer, `gateway` or `upstream`, and `error_code` why it is none or not
    complete. `cached` and `replayed` say that it was given before. `attempts` counts how often the request was sent; `target` is where to, as host:port.
    `upstream_begun_s` is when the upstream was first turned to, on the monotonic clock; the other times
    are durations in seconds: `upstream_s` until its answer began, `first_byte_s` until ours did.
    """

    status: int = 0
    source: str = "gateway"
    error_code: str = ""
    attempts: int = 0
    target: str = ""
    cached: bool = False
    replayed: bool = False
    client_gone: bool = False
    upstream_begun_s: float = 0.0
    upstream_s: float = 0.0
    first_byte_s: float = 0.0
    bytes_out: int = 0

    @property
    def own_s(self) -> float:
        """The gateway's own time before our answer began, in seconds."""
        return max(self.first_byte_s - self.upstream_s, 0.0)


class Exchange:
    """One request, what the filters found out about it, and what became of it."""

    # What a request begins with costs nothing: it is on the class until a filter sets it. Until a
    # filter gives them, caller, connector, endpoint and outgoing are None; a filter that `needs`
    # one is never called then.
    caller: Caller = None  # type: ignore[assignment] # see above
    connector: Connector = None  # type: ignore[assignment] # see above
    endpoint: Endpoint = None  # type: ignore[assignment] # see above
    outgoing: Outgoing = None  # type: ignore[assignment] # see above
    params: Mapping[str, str] = MappingProxyType({})
    limits: tuple[Standing, ...] = ()
    proxies: tuple[str, ...] = ()
    """The trusted proxies that it came through and that told of its client, the nearest last."""

    reached = ""
    """The filter that it has come to, by its name in the pipeline."""

    grounds: tuple[Callable[[], Awaitable[object]], ...] = ()
    """What an open answer rests on; see `rests_on`."""

    guards_origin = False
    """True where the admin plane answers, too, and the operator lets no connector be anything there."""

    may_switch = False
    """True when the caller asks for a WebSocket and its connection can become one."""
    _exits: list[Callable[[], None]] | None = None

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        raw_headers: tuple[tuple[bytes, bytes], ...],
        body: Body,
        *,
        client_address: str,
        request_id: str,
        traceparent: str = "",
        at: float | None = None,
    ) -> None:
        self.method = method
        self.path = path
        """The path below `/api/v1/gw`, raw, beginning with a slash."""
        self.query = query
        """The raw query without its question mark."""
        self.headers = headers
        """Case-insensitive; the first value of a repeated field."""
        self.raw_headers = raw_headers
        self.body = body
        self.client_address = client_address
        self.request_id = request_id
        self.traceparent = traceparent
        self.at = time.time() if at is None else at
        """When the request came, as Unix time in seconds."""
        self.started_s = time.perf_counter()
        self.outcome = Outcome()

    @property
    def known_caller(self) -> Caller | None:
        """The caller, for filters that also see exchanges without one."""
        return self.caller

    @property
    def known_connector(self) -> Connector | None:
        """The connector, for filters that also see exchanges without one."""
        return self.connector

    @property
    def known_outgoing(self) -> Outgoing | None:
        """The request for the upstream, for who also sees exchanges that came to none."""
        return self.outgoing

    @property
    def known_endpoint(self) -> Endpoint | None:
        """The endpoint, for filters that also see exchanges without one."""
        return self.endpoint

    def elapsed_s(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self.started_s

    def now(self) -> float:
        """This moment as Unix time in seconds; what `at` is set to, it counts from."""
        return self.at + self.elapsed_s()

    def on_exit(self, release: Callable[[], None]) -> None:
        """Call this when the exchange is over, whatever happened; last in, first out."""
        if self._exits is None:
            self._exits = []
        self._exits.append(release)

    def rests_on(self, ground: Callable[[], Awaitable[object]]) -> None:
        """Have this asked again while the answer is open: it raises Rejected once it holds no more.

        Filters say so on the way back, so that the outermost is asked first.
        """
        self.grounds = (ground, *self.grounds)

    def close(self) -> None:
        """Run what was registered by `on_exit`; one that fails does not keep the others from it."""
        exits = self._exits
        try:
            while exits:
                exits.pop()()
        finally:
            if exits:
                self.close()


Proceed = Callable[[Exchange], Awaitable[Response]]


class Filter(Protocol):
    """One stage of the pipeline; see `filters/__init__.py` for how to write one.

    `needs` and `gives` are of `FIELDS` and `MARKS`, or marks of its own: `my_package.audited`.
    """

    needs: ClassVar[frozenset[str]]
    gives: ClassVar[frozenset[str]]

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response: ...
