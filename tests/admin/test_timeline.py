"""Pages of what happened: their query, their cursor, and the time that is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from marshmallow import ValidationError

from admin.fields import is_id
from admin.timeline import EARLIEST, LATEST, Timeline, TimelineQuery, whenever
from gateway.ids import uuid7
from tests.admin.client import refused_at

QUERY = TimelineQuery()
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Asked:
    """A request with these parameters."""

    def __init__(self, **given: str) -> None:
        self.given = given

    def parameters(self) -> dict[str, str]:
        return self.given


def page(**given: str) -> Timeline:
    asked: Any = Asked(**given)
    return Timeline.of(asked, QUERY, whenever, is_id)


def cursor_after(rows: list[dict[str, Any]], limit: int) -> str:
    answer = page(limit=str(limit)).answer(rows, "id", lambda row: str(row["id"]))
    assert isinstance(answer.body, bytes)
    return str(orjson.loads(answer.body)["nextCursor"])


def test_without_a_cursor_everything_is_before() -> None:
    first = page()

    assert (first.since, first.until, first.before_at) == (EARLIEST, LATEST, LATEST)
    assert first.values[-1] == 21


def test_cursor_holds_the_place_to_the_microsecond() -> None:
    at, id_ = AT.replace(microsecond=123_456), uuid7()
    cursor = cursor_after([{"at": at, "id": id_}, {"at": AT, "id": uuid7()}], 1)

    assert (page(cursor=cursor).before_at, page(cursor=cursor).before) == (at, str(id_))


def test_last_page_has_no_cursor() -> None:
    assert cursor_after([{"at": AT, "id": uuid7()}], 1) == "None"


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "e30",  # {}
        "WyIyMDI2LTExLTAxIiwieCJd",  # ["2026-11-01", "x"]
        "WzEsMl0",  # [1,2]
    ],
)
def test_what_is_no_cursor_of_the_list_is_refused(cursor: str) -> None:
    with pytest.raises(ValidationError) as caught:
        page(cursor=cursor)

    assert caught.value.messages == {"cursor": ["Not a cursor of this list."]}


def test_time_has_its_ends_in_order() -> None:
    with pytest.raises(ValidationError, match="Not before the end"):
        whenever({"since": AT, "until": AT})


@pytest.mark.parametrize(
    ("field", "value"),
    [("from", "2026-11-01"), ("to", "now"), ("limit", "0"), ("limit", "101"), ("page", "2")],
)
def test_odd_parameter_is_refused_at_its_place(field: str, value: str) -> None:
    assert refused_at(QUERY, {field: value}) == [f"/{field}"]
