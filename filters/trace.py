"""Makes an OpenTelemetry span of every exchange, and one of its upstream. Refuses nothing.

Stands before `authenticate`, or refused callers leave no trace. An answer that streams has ended when
its last byte has left.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gateway.exchange import Exchange, Proceed, Response
from gateway.http.pieces import End, Watched
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
            response.body = Watched(response.body, None, partial(_ended, spans, response.status))
        return response


def _ended(spans: Spans, status: int, end: End, error: Exception | None) -> None:
    """An answer in pieces has come to its end: if it was given up, the client is gone."""
    if end is End.GIVEN_UP:
        spans.gone()
    else:
        spans.end(status, "" if error is None else answer_to(error).code)


def _is_installed() -> bool:
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:
        return False
