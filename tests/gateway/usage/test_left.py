"""Records that could not be written before the process had to end are there for the next one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.usage import left
from gateway.usage.record import UsageRecord
from tests.dataplane import connector, exchange


def record(number: int) -> UsageRecord:
    made = exchange(at=connector("http://127.0.0.1:9"))
    return UsageRecord.of(made, 0.1)._replace(request_id=f"request-{number}")


def test_what_was_kept_is_taken_once_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    records = [record(number) for number in range(5)]
    left.keep(tmp_path, records[:3])
    left.keep(tmp_path, records[3:])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    assert modes == {0o600}
    assert left.take(tmp_path) == records
    assert left.take(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_file_that_cannot_be_read_stays_and_others_are_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "usage-left-0.jsonl"
    broken.write_text('[1, "too", "few"]\n')
    whole = record(1)
    left.keep(tmp_path, [whole])

    assert left.take(tmp_path) == [whole]
    assert broken.exists()
    assert "can't be read" in caplog.text
