"""What a person at a terminal sees: progress and a banner there, silence in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


class Screen:
    """Standard error when it is a terminal, nothing otherwise."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, quiet=not sys.stderr.isatty(), highlight=False)

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show what takes a while, for as long as it takes; gives what changes the text."""
        with self._console.status(text) as status:
            yield status.update

    def tell(self, text: str) -> None:
        """A line for the person."""
        self._console.print(text, soft_wrap=True, markup=False)


class Output:
    """Standard output, in colours when it is a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)

    def line(self, text: str, style: str = "") -> None:
        """A line of what a command is for."""
        self._console.print(text, style=style, soft_wrap=True, markup=False, emoji=False)


def complain(text: str) -> None:
    """One line on standard error that says what to do, terminal or not."""
    print(f"service-gateway: {text}", file=sys.stderr)
