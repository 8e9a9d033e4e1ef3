"""Records that could not be written before the process had to end: a file of the data directory each time.

One record a line, as a JSON list. The next process of this data directory takes them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from gateway.ids import uuid7
from gateway.usage.record import UsageRecord

log = logging.getLogger(__name__)

_PREFIX: Final = "usage-left-"


def keep(directory: Path, records: Sequence[UsageRecord]) -> None:
    """Write records to a file of their own, for this user alone; files sort by age. Raises OSError."""
    oldest_us = int(min(record.at for record in records) * 1e6)
    path = directory / f"{_PREFIX}{oldest_us:017d}-{uuid7()}.jsonl"
    made = path.with_suffix(".new")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"".join(orjson.dumps(list(record)) + b"\n" for record in records))
        file.flush()
        os.fsync(file.fileno())
    made.rename(path)


def take(directory: Path) -> list[UsageRecord]:
    """What was left, which is no longer there then. A file that can't be read stays, and is told in the log."""
    found: list[UsageRecord] = []
    for path in sorted(directory.glob(f"{_PREFIX}*.jsonl")):
        try:
            lines = path.read_bytes().splitlines()
            found += [UsageRecord(*orjson.loads(line)) for line in lines]
            path.unlink()
        except FileNotFoundError:  # another process has taken it
            continue
        except (OSError, TypeError, ValueError) as error:
            log.error(  # noqa: TRY400 - the trace says nothing
                "usage records that were left can't be read",
                extra={"file": path.name, "reason": str(error)},
            )
    return found
