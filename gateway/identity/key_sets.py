"""The keys that an issuer publishes (RFC 7517): held ones count at once and are fetched anew behind.

A key that is not held is waited for, as the issuer may have begun to use it this moment. However many
ask, there is one fetch a second at most, and less often while the issuer fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from gateway.clock import Clock
from gateway.problems import Rejected
from gateway.tasks import Tasks

log = logging.getLogger(__name__)

_EVERY_S: Final = 1.0
"""How long after a fetch has begun, or the first one failed, the next may begin."""
_MOST_WAIT_S: Final = 30.0
"""How far failed fetches back off."""
_FRESH_S: Final = 300.0
"""How long keys are held before they are fetched anew: a withdrawn one is refused after that."""


class TokenFault(Exception):
    """A token that is not accepted. The text is for the log; callers all get the same 401."""


class KeysAway(TokenFault):
    """No held key fits, and the issuer can't be asked: that says nothing of the token."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the keys of the issuer can't be fetched")
        self.retry_after_s = retry_after_s

    def refusal(self) -> Rejected:
        """What a caller is told, who has done nothing wrong."""
        return Rejected(
            "store_unavailable",
            "The keys that tokens are signed with can't be fetched at the moment.",
            retry_after_s=self.retry_after_s,
        )


class PublishedKey(NamedTuple):
    """A key, the one algorithm that it is taken for, and its id, which may be empty."""

    algorithm: str
    kid: str
    key: Any


class KeySet:
    """The keys of one address.

    `fetch` gives those that can be used; whatever it raises changes nothing. `on_fresh` is called when
    they were fetched: what was verified with a key that is gone must be forgotten.
    """

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], Awaitable[Sequence[PublishedKey]]],
        on_fresh: Callable[[], None],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._url = url
        self._fetch = fetch
        self._on_fresh = on_fresh
        self._clock = clock
        self._tasks = tasks
        self._keys: Sequence[PublishedKey] = ()
        self._stale_at = self._free_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._begun = self._ended = self._failures = 0

    def held(self, algorithm: str, kid: Any) -> list[Any]:
        """The keys for an algorithm, all of them when the token names none. Never waits."""
        found = [k.key for k in self._keys if k.algorithm == algorithm and kid in (None, "", k.kid)]
        if found and self._clock.monotonic() >= max(self._stale_at, self._free_at):
            self._start()
        return found

    async def fitting(self, algorithm: str, kid: Any) -> list[Any]:
        """The same, but asks the issuer for a key that is not held. Raises KeysAway."""
        came = self._begun
        while not (found := self.held(algorithm, kid)) and self._ended <= came:
            left_s = self._free_at - self._clock.monotonic()
            if self._failures and left_s > 0 and self._fetching is None:
                raise KeysAway(left_s)
            await asyncio.shield(self._start())
            if self._failures:
                raise KeysAway(self._free_at - self._clock.monotonic())
        return found

    def _start(self) -> asyncio.Task[None]:
        """The fetch that is on its way, or else the next one."""
        if self._fetching is None:
            self._fetching = self._tasks.start(self._refresh(), "keys of an issuer")
        return self._fetching

    async def _refresh(self) -> None:
        try:
            await asyncio.sleep(max(self._free_at - self._clock.monotonic(), 0))
            self._begun += 1
            self._free_at = self._clock.monotonic() + _EVERY_S
            self._take(await self._fetch(self._url))
        except Exception as error:  # whatever an issuer answers, the keys that are held stay
            self._failures += 1
            wait_s = min(_EVERY_S * 2 ** min(self._failures - 1, 10), _MOST_WAIT_S)
            self._free_at = self._clock.monotonic() + wait_s
            reason = {"url": self._url, "reason": str(error) or type(error).__name__}
            log.warning("could not fetch the keys of an issuer", extra=reason)
        finally:
            self._ended = self._begun
            self._fetching = None

    def _take(self, keys: Sequence[PublishedKey]) -> None:
        if not keys:
            raise ValueError("no key of the set can be used")
        self._keys = keys
        self._on_fresh()
        self._failures = 0
        self._stale_at = self._clock.monotonic() + _FRESH_S
