"""Clocks that tests turn by hand."""

from __future__ import annotations


class HandClock:
    """Time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.wall = 1_764_000_000.0
        self.passed = 1_000.0

    def now(self) -> float:
        """Unix seconds."""
        return self.wall

    def monotonic(self) -> float:
        """Seconds since something."""
        return self.passed

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.passed += seconds
