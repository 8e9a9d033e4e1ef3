"""Answers GET and HEAD from memory where HTTP allows it: a shared cache by RFC 9111, for each team.

Concurrent requests for one target make one upstream call. Refuses nothing, but answers 504
`not_cached` to a caller who wants an answer only if it is here. Goes behind all filters that refuse
requests, or its answers would get past them, and before `transform`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from gateway.cache import rules
from gateway.cache.rules import Directives, Selecting, Stored
from gateway.cache.single_flight import SingleFlight
from gateway.cache.store import Answers, Shelf, Target
from gateway.exchange import Exchange, Proceed, Response
from gateway.http.pieces import gather
from gateway.options import whole
from gateway.problems import Rejected
from gateway.runtime import Runtime

_CHANGES_NOTHING: Final = frozenset(["OPTIONS", "TRACE"])
_ALONE_S: Final = 60.0
"""How long nobody waits for another's answer, after one that could not be shared."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `cache`."""

    most_bytes: int = whole(64 << 20, "How much one process keeps in all, in bytes.", least=1)
    most_entry_bytes: int = whole(
        1 << 20,
        "The largest body that is kept; up to this much of an answer is held back.",
        least=1,
    )


class Cache:
    """Keeps answers, and gives them again."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset(
        {"caller", "connector", "endpoint", "permission", "validity"}
    )
    gives: ClassVar[frozenset[str]] = frozenset({"cache_status"})
    precedes: ClassVar[frozenset[str]] = frozenset({"outgoing"})
    refuses_answers: ClassVar[bool] = True
    spares_upstream: ClassVar[bool] = True

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._answers = Answers(options.most_bytes)
        self._most_entry_bytes = options.most_entry_bytes
        self._flights: SingleFlight[tuple[Target, Selecting]] = SingleFlight()

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        target = Target.of(exchange)
        if exchange.method in _CHANGES_NOTHING:
            return await proceed(exchange)
        if exchange.method not in {"GET", "HEAD"}:
            try:
                return await proceed(exchange)
            finally:
                self._answers.forget(target)
        asked = rules.directives(exchange.raw_headers)
        if (reason := rules.bypasses(exchange, asked)) is not None:
            return _told(await proceed(exchange), f"fwd={reason}")
        return await self._look(_Lookup(exchange, proceed, target, asked))

    async def _look(self, lookup: _Lookup) -> Response:
        exchange, proceed, target, asked = lookup
        followed = False
        while True:
            shelf, now = self._answers.shelf(target), exchange.now()
            old = shelf.find(exchange)
            if old is not None and not rules.is_granted(exchange, old):
                return _told(await proceed(exchange), "fwd=bypass")
            if old is not None and rules.is_usable(old, asked, now):
                exchange.endpoint.mapped.outgoing(exchange)  # refuses what would not be sent today
                return _hit(exchange, old, now, "fwd=miss; collapsed" if followed else "hit")
            if "only-if-cached" in asked:
                raise Rejected("not_cached", "The cache has no answer to this that it may give.")
            if exchange.method == "HEAD":
                return _told(await proceed(exchange), _why(old, now))
            if followed or now < shelf.alone_until or rules.wants_validation(asked):
                return (await self._fetch(lookup, shelf, old))[0]
            course = (target, shelf.selects(exchange))
            if (flight := self._flights.running(course)) is not None:
                followed = await flight.ended()
                continue
            with self._flights.begin(course) as flight:
                response, is_shared = await self._fetch(lookup, shelf, old)
                if flight.followers and not is_shared:
                    shelf.alone_until = exchange.now() + _ALONE_S
                    self._answers.keep(target, shelf)
                return response

    async def _fetch(
        self, lookup: _Lookup, shelf: Shelf, old: Stored | None
    ) -> tuple[Response, bool]:
        """The upstream's answer, and whether others who wait may have it, too."""
        exchange, asked_at = lookup.exchange, lookup.exchange.now()
        why = _why(old, asked_at)
        validated = old if old is not None and rules.can_validate(exchange, old) else None
        own = exchange.raw_headers
        if validated is not None or asked_at >= shelf.alone_until:
            exchange.raw_headers = rules.conditional_on(own, validated)
        try:
            response = await lookup.proceed(exchange)
        finally:
            exchange.raw_headers = own
        why = f"{why}; fwd-status={response.status}"
        fresh = await self._received(exchange, response, validated, asked_at)
        if fresh is None:
            if old is not None and response.status < 500:
                shelf.remove(old)
                self._answers.keep(lookup.target, shelf)
            return _told(response, why), False
        shelf.remove(old)
        may_keep = rules.may_keep(exchange, fresh, response.headers)
        if may_keep:
            shelf.put(fresh)
        kept, now = self._answers.keep(lookup.target, shelf) and may_keep, exchange.now()
        answer = fresh.answer(exchange, now, hit=False)
        shared = kept and rules.is_shared(fresh, now)
        return _told(answer, f"{why}; stored" if kept else why), shared

    async def _received(
        self, exchange: Exchange, response: Response, validated: Stored | None, asked_at: float
    ) -> Stored | None:
        """What the cache makes of an answer; None for one that is not kept and passes as it is."""
        if validated is not None and response.status == 304:
            return rules.freshened(exchange, validated, response.headers, asked_at)
        fresh = rules.received(exchange, response.status, response.headers, asked_at)
        if not rules.may_keep(exchange, fresh, response.headers):
            return None
        body = await gather(response, self._most_entry_bytes)
        if body is None:
            return None
        fresh.body = body
        return fresh


class _Lookup(NamedTuple):
    """One request that looks for an answer."""

    exchange: Exchange
    proceed: Proceed
    target: Target
    asked: Directives


def _hit(exchange: Exchange, stored: Stored, now: float, why: str) -> Response:
    outcome = exchange.outcome
    outcome.cached, outcome.source = True, "upstream"
    answer = stored.answer(exchange, now, hit=True)
    return _told(answer, f"{why}; ttl={int(stored.fresh_for_s(now))}")


def _why(old: Stored | None, now: float) -> str:
    """Why a request goes to the upstream (RFC 9211 2.2)."""
    if old is None:
        return "fwd=miss"
    return "fwd=request" if rules.is_shared(old, now) else "fwd=stale"


def _told(response: Response, why: str) -> Response:
    """The answer with what the cache did, in Cache-Status (RFC 9211)."""
    response.headers.append((b"Cache-Status", f"service-gateway; {why}".encode("ascii")))
    return response
