"""Logs: one JSON object a line on standard output, written by a thread so that nobody waits for a reader.

What may be logged is decided where it is logged: fields are named one by one in `extra`, so no
header, body, credential or secret gets here by being part of something bigger.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from typing import Any, Final, TextIO

import orjson

from gateway.exchange import Exchange

_STANDARD: Final = frozenset(
    logging.LogRecord("", 0, "", 0, "", (), None).__dict__.keys()
    | {"message", "asctime", "taskName"}
)

_MOST_WAITING: Final = 10_000
"""How many lines may wait for an output whose reader is slow."""
_LEAVE_S: Final = 2.0
"""How long the end of the process waits for that reader."""
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


class Lines(QueueHandler):
    """A handler that makes a line of each record at once, and leaves the writing to a thread.

    Lines leave in their order and whole. When so many wait that another one has no room it is dropped
    and counted, and once there is room again a line says how many were.
    """

    def __init__(self, stream: TextIO, most_waiting: int = _MOST_WAITING) -> None:
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        super().__init__(self._waiting)
        self.setFormatter(JsonLines())
        self._stream, self._file = stream, _file_of(stream)
        self._most_waiting = most_waiting
        self._crowded_out = 0  # by whoever logs
        self._unwritten = 0  # by the thread
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were not written."""
        return self._crowded_out + self._unwritten

    def prepare(self, record: logging.LogRecord) -> str:
        """The line: what the record tells of may be another thing by the time it is written."""
        return self.format(record)

    def enqueue(self, line: Any) -> None:
        """Never waits."""
        if self._waiting.qsize() < self._most_waiting:
            self._waiting.put(line)
        else:
            self._crowded_out += 1

    def stop(self, patience_s: float) -> None:
        """Write what waits, for so many seconds at most."""
        self._waiting.put(None)
        self._thread.join(patience_s)

    def _run(self) -> None:
        told, is_last = 0, False
        while not is_last:
            lines = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(lines) < self._most_waiting:
                    lines.append(self._waiting.get_nowait())
            is_last = None in lines
            self._write([line for line in lines if line is not None])
            if self._crowded_out > told and self._waiting.empty():
                dropped, told = self._crowded_out - told, self._crowded_out
                self._write([self.format(_dropped(dropped))])

    def _write(self, lines: list[str]) -> None:
        if self._file is None:
            self._stream.write("".join(f"{line}\n" for line in lines))
            return
        for block in _blocks(lines):
            try:
                _write_all(self._file, block)
            except OSError:  # its reader is gone, the disk is full
                self._unwritten += block.count(b"\n")


def _file_of(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except OSError:  # it is none
        return None


def _blocks(lines: Iterable[str]) -> Iterator[bytes]:
    """Whole lines together, as much as a pipe that several processes write to keeps together."""
    block = b""
    for line in lines:
        more = b"%b\n" % line.encode()
        if block and len(block) + len(more) > select.PIPE_BUF:
            yield block
            block = b""
        block += more
    if block:
        yield block


def _write_all(file: int, block: bytes) -> None:
    while block:
        try:
            block = block[os.write(file, block) :]
        except BlockingIOError:
            select.select([], [file], [])


def _dropped(count: int) -> logging.LogRecord:
    message = "lines of this log were dropped: its reader is too slow"
    return logging.makeLogRecord(
        {"name": __name__, "levelname": "WARNING", "msg": message, "lines": count}
    )


@contextmanager
def written(level: str, *, access: bool, stream: TextIO | None = None) -> Iterator[Lines]:
    """Send the process's logs to a stream, standard output by default, until the block is left."""
    output = Lines(stream or sys.stdout)
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level)
    logging.getLogger("gateway.access").setLevel(logging.INFO if access else logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    try:
        yield output
    finally:
        root.removeHandler(output)
        output.stop(_LEAVE_S)


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
        "replayed": outcome.replayed,
    }
