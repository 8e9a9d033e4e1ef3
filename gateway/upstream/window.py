"""Counts of a rolling window: one comparison and one addition for each event.

The counters only grow; what they were at the beginning of each slice is noted, and the window is
the difference to its oldest note. So it is exact to one slice, a tenth of the window.
"""

from __future__ import annotations

from typing import Final

_SLICES: Final = 10


class Window:
    """How many events there were in the last `span_s` seconds, and how many of them were bad."""

    __slots__ = ("_all", "_bad", "_notes", "_span_s", "ends")

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._all = 0
        self._bad = 0
        self._notes: list[tuple[float, int, int]] = []
        self.ends = 0.0
        """When the slice of the last event ends: nothing has happened since."""

    def add(self, now: float, *, bad: bool = False) -> None:
        """Count one event."""
        if now >= self.ends:
            self._turn(now)
        self._all += 1
        if bad:
            self._bad += 1

    def fail_late(self, now: float) -> None:
        """An event that was counted as good turned out to be bad."""
        everything, bad = self.counts(now)
        if bad == everything:
            self.add(now, bad=True)  # it has left the window already
        else:
            self._bad += 1

    def counts(self, now: float) -> tuple[int, int]:
        """All events in the window, and the bad ones among them."""
        begins = now - self._span_s
        for at, everything, bad in self._notes:
            if at > begins:
                return self._all - everything, self._bad - bad
        return 0, 0

    def clear(self) -> None:
        """Begin anew."""
        self._notes.clear()
        self.ends = 0.0

    def _turn(self, now: float) -> None:
        """Begin a slice, and forget those that have left the window."""
        begins = now - self._span_s
        notes = [note for note in self._notes if note[0] > begins]
        notes.append((now, self._all, self._bad))
        self._notes = notes
        self.ends = now + self._span_s / _SLICES
