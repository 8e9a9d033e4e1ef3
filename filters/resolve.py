"""Which connector and endpoint: the slug within the caller's team, then the most specific pattern.

Answers 404 `connector_not_found` (a draft of one's own team says so) or `endpoint_not_found`, 405
`method_not_allowed`, and 400 `bad_request` for a path that can be read in two ways. OPTIONS never goes
on to an upstream; with `Max-Forwards: 0` it gets 204 and `Allow`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from gateway.directory import Draft
from gateway.exchange import Exchange, Proceed, Response
from gateway.model import Connector
from gateway.problems import Rejected
from gateway.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """`resolve` has no options."""


class Resolve:
    """Finds the connector and the endpoint."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller"})
    gives: ClassVar[frozenset[str]] = frozenset({"connector", "endpoint"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._directory = runtime.directory

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        slug, slash, rest = exchange.path[1:].partition("/")
        connector = await self._connector(exchange.caller.team, slug)
        exchange.connector = connector
        try:
            match = connector.router.match(exchange.method, slash + rest)
        except Rejected as rejected:
            if rejected.code == "method_not_allowed" and _is_for_us(exchange):
                return Response(204, rejected.headers)
            raise
        exchange.endpoint = match.route
        exchange.params = match.params
        if "%2" in exchange.path and match.route.definition.encoded_slashes != "allow":
            _refuse_slashes(match.params.values())
        response = await proceed(exchange)
        if not isinstance(response.body, bytes):
            exchange.rests_on(partial(self._find_again, exchange))
        return response

    async def _connector(self, team: str, slug: str) -> Connector:
        """A published connector. Raises Rejected."""
        connector = self._directory.held_connector(team, slug)
        if connector is None:
            connector = await self._directory.connector(team, slug)
        if connector is None:
            raise Rejected("connector_not_found", "The team has no connector of this name.")
        if isinstance(connector, Draft):
            raise Rejected(
                "connector_not_found", f"The connector {slug} is a draft: publish it to call it."
            )
        return connector

    async def _find_again(self, exchange: Exchange) -> None:
        """See that the connector and an endpoint for the path are still there. Raises Rejected."""
        slug, slash, rest = exchange.path[1:].partition("/")
        connector = await self._connector(exchange.caller.team, slug)
        if connector.id != exchange.connector.id:
            raise Rejected("connector_not_found", "The connector is another one now.")
        connector.router.match(exchange.method, slash + rest)


def _refuse_slashes(values: Iterable[str]) -> None:
    """An upstream that decodes `%2F` would read another path, perhaps that of another endpoint."""
    if any("%2F" in value for value in values):
        raise Rejected("bad_request", "The path has an encoded slash, which the endpoint refuses.")


def _is_for_us(exchange: Exchange) -> bool:
    """True for an OPTIONS that no intermediary may pass on (RFC 9110 7.6.2)."""
    return exchange.method == "OPTIONS" and exchange.headers.get("max-forwards") == "0"
