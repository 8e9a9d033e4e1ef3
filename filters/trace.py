"""Makes an OpenTelemetry span of every exchange, and one of its upstream. Refuses nothing.

Stands before `authenticate`, or refused callers leave no trace. An answer that streams has ended when
its last byte has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.http.wire import has_no_body
from gateway.options import number, text
from gateway.problems import answer_to
from gateway.runtime import Runtime

if TYPE_CHECKING:
    from gateway.tracing import Trace as Spans

_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of `trace`; where spans go, the OTEL_EXPORTER_OTLP_ variables say."""

    service_name: str = text(
        "", "The resource's service.name; without one OTEL_SERVICE_NAME, else service-gateway."
    )
    sample_ratio: float = number(
        1.0, "The share of traces that are kept, unless the caller's traceparent says.", most=1
    )

    def __post_init__(self) -> None:
        """Refuse what can't work: the SDK is an extra."""
        if not _is_installed():
            raise ValueError("needs OpenTelemetry: pip install 'service-gateway[otel]'")


class Trace:
    """Begins and ends the spans of each exchange."""

    options: ClassVar[type[Any]] = Options
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"trace"})
    precedes: ClassVar[frozenset[str]] = frozenset({"caller"})
    explained: ClassVar[bool] = False  # what is only explained did not happen

    def __init__(self, options: Options, runtime: Runtime) -> None:
        from gateway.tracing import Tracing  # noqa: PLC0415 - imports the SDK, which is an extra

        self.tracing = Tracing(options.service_name, options.sample_ratio)

    async def __call__(self, exchange: Exchange, proceed: Proceed) -> Response:
        spans = self.tracing.begin(exchange)
        try:
            response = await proceed(exchange)
        except asyncio.CancelledError:
            spans.gone()
            raise
        except Exception as error:
            rejected = answer_to(error)
            spans.end(rejected.status, rejected.code)
            raise
        is_bare = response.tunnel is None and has_no_body(exchange.method, response.status)
        if is_bare or isinstance(response.body, bytes):
            spans.end(response.status)
        else:
            response.body = _Watched(response.body, response.status, spans)
        return response


class _Watched:
    """An answer's pieces; the spans end when they do, or when they are given up."""

    def __init__(self, pieces: AsyncIterator[bytes], status: int, spans: Spans) -> None:
        self._pieces = pieces
        self._status = status
        self._spans = spans

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._pieces.__anext__()
        except StopAsyncIteration:
            self._spans.end(self._status)
            raise
        except Exception as error:
            self._spans.end(self._status, answer_to(error).code)
            raise

    async def aclose(self) -> None:
        """The server is done with the answer; if it hasn't ended, the client is gone."""
        self._spans.gone()
        if (end := getattr(self._pieces, "aclose", None)) is not None:
            await end()


def _is_installed() -> bool:
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False
