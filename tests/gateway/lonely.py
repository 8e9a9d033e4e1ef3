"""A filter as somebody else may write one: it answers everything with a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, ClassVar

from gateway.exchange import Exchange, Proceed, Response
from gateway.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """None."""


class Lonely:
    """Answers by itself."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"answer"})
    answers: ClassVar[bool] = True

    def __init__(self, options: Options, runtime: Runtime) -> None:
        pass

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        return Response(200, [], self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
