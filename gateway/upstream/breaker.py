"""The circuit breaker of one target: closed, open for a while, half-open with a few probes.

It opens when too large a share of what was tried lately has failed; what a failure is, the caller
decides. Time comes in as monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.options import number, whole
from gateway.upstream.window import Window

_SOON_S: Final = 1.0
"""When to come back while every probe is under way: any of them may end at any time."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When an upstream is left alone, and for how long."""

    failure_percent: float = number(
        50.0,
        "How many of a hundred attempts must fail for the target to be left alone.",
        least=1,
        most=100,
    )
    window_s: float = number(10.0, "How far back attempts count, in seconds.", least=0.1)
    least_attempts: int = whole(
        20, "How many attempts there must be before their failures mean anything.", least=1
    )
    open_s: float = number(
        5.0,
        "How long the target is left alone at first, in seconds; it doubles while probes fail.",
        least=0.1,
    )
    longest_open_s: float = number(
        60.0, "The longest time that the target is left alone, in seconds.", least=0.1
    )
    probes: int = whole(
        3,
        "How many requests may probe the target at a time afterwards; so many successes close it.",
        least=1,
    )


class State(IntEnum):
    """As `gateway_breaker_state` shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Decides whether a target may be tried.

    Whoever tries it calls `begin` (which may be left out while it is closed), and afterwards one of
    `succeeded`, `failed` and `abandoned` with the `era` that it began in: what was begun before the
    breaker last opened or closed says nothing about the time since.
    """

    __slots__ = ("_open_for_s", "_open_until", "_probing", "_proven", "_settings", "_window", "era",
                 "state")  # fmt: skip

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._window = Window(settings.window_s)
        self._open_until = 0.0
        self._open_for_s = 0.0
        self._probing = 0
        self._proven = 0
        self.state = State.CLOSED
        self.era = 0

    def admits(self, now: float) -> bool:
        """True when the target may be tried; an open breaker whose time is over is half-open."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.OPEN:
            if now < self._open_until:
                return False
            self._enter(State.HALF_OPEN)
        return self._probing < self._settings.probes

    def begin(self) -> None:
        """An attempt that was admitted begins."""
        if self.state is State.HALF_OPEN:
            self._probing += 1

    def succeeded(self, now: float, era: int) -> None:
        """An attempt ended well."""
        if era != self.era:
            return
        if self.state is State.HALF_OPEN:
            self._probing -= 1
            self._proven += 1
            if self._proven >= self._settings.probes:
                self._open_for_s = 0.0
                self._enter(State.CLOSED)
        self._window.add(now)

    def failed(self, now: float, era: int) -> None:
        """An attempt failed."""
        if era != self.era:
            return
        self._window.add(now, bad=True)
        if self.state is State.HALF_OPEN or self._is_too_much(now):
            self._open(now)

    def failed_late(self, now: float, era: int) -> None:
        """An attempt that was counted as good turned out to have failed."""
        if era == self.era and self.state is State.CLOSED:
            self._window.fail_late(now)
            if self._is_too_much(now):
                self._open(now)

    def abandoned(self, era: int) -> None:
        """An attempt ended by no fault or merit of the target: its caller went away."""
        if era == self.era and self.state is State.HALF_OPEN:
            self._probing -= 1

    def wait_s(self, now: float) -> float:
        """When to come back, in seconds, while it does not admit."""
        return self._open_until - now if self.state is State.OPEN else _SOON_S

    def attempts(self, now: float) -> int:
        """How many attempts ended within the window."""
        return self._window.counts(now)[0]

    def condition(self, now: float) -> State:
        """The state as it is at this moment, whether or not somebody has asked since."""
        is_over = self.state is State.OPEN and now >= self._open_until
        return State.HALF_OPEN if is_over else self.state

    def is_idle(self, now: float, for_s: float) -> bool:
        """True when it is not open, and nothing has ended for so long."""
        return now - max(self._window.ends, self._open_until) >= for_s

    def _is_too_much(self, now: float) -> bool:
        attempts, failures = self._window.counts(now)
        settings = self._settings
        return (
            attempts >= settings.least_attempts
            and failures * 100 >= settings.failure_percent * attempts
        )

    def _open(self, now: float) -> None:
        settings = self._settings
        longer = max(self._open_for_s * 2, settings.open_s)
        self._open_for_s = min(longer, max(settings.longest_open_s, settings.open_s))
        self._open_until = now + self._open_for_s
        self._enter(State.OPEN)

    def _enter(self, state: State) -> None:
        self.state = state
        self.era += 1
        self._probing = self._proven = 0
        self._window.clear()
