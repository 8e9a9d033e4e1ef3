"""Logs: one JSON object a line on standard output.

What may be logged is decided where it is logged: fields are named one by one in `extra`, so no
header, body, credential or secret gets here by being part of something bigger.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson

from gateway.exchange import Exchange

_STANDARD: Final = frozenset(
    logging.LogRecord("", 0, "", 0, "", (), None).__dict__.keys()
    | {"message", "asctime", "taskName"}
)

_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS
"""A dataclass is logged by its repr, which leaves out what is secret, not field by field."""


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, then the `extra` fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=_OPTIONS).decode("utf-8")
        except TypeError:  # half a surrogate pair, an integer past 64 bits
            texts = {
                name: str(value).encode("utf-8", "backslashreplace").decode("utf-8")
                for name, value in line.items()
            }
            return orjson.dumps(texts).decode("utf-8")


def configure(level: str, *, access: bool, stream: TextIO | None = None) -> None:
    """Send the process's logs to a stream, standard output by default."""
    output = logging.StreamHandler(stream or sys.stdout)
    output.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level)
    logging.getLogger("gateway.access").setLevel(logging.INFO if access else logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def access_fields(exchange: Exchange, total_s: float) -> dict[str, Any]:
    """What the access log says of an exchange: no path, no header, no credential."""
    caller, connector = exchange.known_caller, exchange.known_connector
    endpoint, outcome = exchange.known_endpoint, exchange.outcome
    return {
        "request_id": exchange.request_id,
        "team": caller.team if caller is not None else "",
        "caller": caller.name if caller is not None else "",
        "connector": connector.slug if connector is not None else "",
        "endpoint": endpoint.name if endpoint is not None else "",
        "method": exchange.method,
        "status": outcome.status,
        "source": outcome.source,
        "error_code": outcome.error_code,
        "total_ms": round(total_s * 1000, 3),
        "upstream_ms": round(outcome.upstream_s * 1000, 3),
        "bytes_in": exchange.body.read_bytes,
        "bytes_out": outcome.bytes_out,
        "client_address": exchange.client_address,
        "client_gone": outcome.client_gone,
    }
