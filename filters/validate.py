"""Is the request what the endpoint asks for: size, media type, header fields, body.

Answers 413 `payload_too_large`, 415 `unsupported_media_type` (also for a body that can't be looked
into), 422 `validation_failed` with a pointer to each place, and 400 `bad_request` for a body that is
not JSON or not text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.runtime import Runtime
from gateway.transform.costly_checks import Apart


@dataclass(frozen=True, slots=True)
class Options:
    """`validate` has no options: the rules are the endpoint's."""


class Validate:
    """Applies the endpoint's rules."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset({"caller", "endpoint"})
    gives: ClassVar[frozenset[str]] = frozenset({"validity"})

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self._apart = Apart()

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        endpoint = exchange.endpoint
        exchange.body.limit(endpoint.most_request_bytes(exchange.caller.plan))
        rules = endpoint.rules
        if rules.required_headers or rules.media_types:
            rules.check_headers(exchange.headers)
        if rules.need_body:
            team, body = exchange.caller.team, await exchange.body.read()
            await self._apart.check_body(team, rules, body, exchange.headers)
        return await proceed(exchange)
