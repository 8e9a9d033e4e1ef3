"""Answers that may go on for as long as they like: what they rest on is looked at again meanwhile.

Filters say what that is (`Exchange.grounds`): the credential, the connector, the permission.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.exchange import Exchange, Response
from gateway.http.pieces import is_stream
from gateway.problems import Rejected
from gateway.tasks import Tasks

log = logging.getLogger(__name__)


def is_open_ended(exchange: Exchange, response: Response) -> bool:
    """True for an answer that its own end does not bound: a WebSocket or a stream."""
    if response.tunnel is not None or isinstance(response.body, bytes):
        return response.tunnel is not None
    endpoint = exchange.known_endpoint
    may_stream = endpoint is not None and endpoint.streaming
    return is_stream(exchange.method, response, may_stream=may_stream)


class OpenAnswers:
    """The open ones of one server, each looked at every so many seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._tasks = Tasks()

    @contextmanager
    def watched(self, exchange: Exchange, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` once the answer's grounds are gone; the outcome then says which."""
        watching = self._tasks.start(self._watch(exchange, end), "open answer")
        try:
            yield
        finally:
            watching.cancel()

    async def _watch(self, exchange: Exchange, end: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                refused = await _refused(exchange)
            except Exception:  # it says nothing of the grounds, and the next look may
                log.exception(
                    "open answer not looked at", extra={"request_id": exchange.request_id}
                )
                continue
            if refused is not None:
                exchange.outcome.error_code = refused.code
                reason = {"request_id": exchange.request_id, "reason": str(refused)}
                log.info("open answer ended", extra=reason)
                return end()


async def _refused(exchange: Exchange) -> Rejected | None:
    """Why the exchange would not get here now. What can't be known now goes on."""
    for ground in exchange.grounds:
        try:
            await ground()
        except Rejected as rejected:
            if rejected.status < 500:
                return rejected
    return None
