"""Pages of what happened, the newest first: by time, then by id, so that none comes twice.

A page goes on below the last row's time and id, whatever was added above meanwhile.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiohttp import web
from marshmallow import ValidationError

from admin.calls import Call, answer
from admin.fields import Instant, Wire, count, text

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


class TimelineQuery(Wire):
    """What every list of what happened takes: from when (in) to when (not in)."""

    since = Instant(data_key="from", load_default=None)
    until = Instant(data_key="to", load_default=None)
    limit = count(1, 100, strict=False, load_default=20)
    cursor = text(1000)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The page that is asked for: what is before (`before_at`, `before`), in a time."""

    since: datetime
    until: datetime
    before_at: datetime
    before: str
    limit: int
    filters: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        call: Call,
        query: TimelineQuery,
        span: Callable[[Mapping[str, Any]], tuple[datetime, datetime]],
        is_key: Callable[[str], bool],
    ) -> Timeline:
        """The page of a request; `is_key` knows a row's id. Raises ValidationError, Rejected."""
        given = query.load(call.parameters())
        limit, cursor = given.pop("limit"), given.pop("cursor", None)
        before_at, before = (LATEST, "") if cursor is None else _before(cursor, is_key)
        since, until = span({name: given.pop(name) for name in ("since", "until")})
        return cls(since, until, before_at, before, limit, given)

    @property
    def values(self) -> tuple[Any, ...]:
        """The parameters of a list's query; one row more than asked for."""
        values = (self.since, self.until, self.filters, self.before_at, self.before)
        return (*values, self.limit + 1)

    def answer(
        self, rows: Sequence[dict[str, Any]], id_: str, show: Callable[[dict[str, Any]], Any]
    ) -> web.Response:
        """The rows of this page and the cursor of the next; `id_` is the column after `at`."""
        shown = rows[: self.limit]
        cursor = None
        if len(rows) > self.limit:
            key = [shown[-1]["at"].isoformat(), str(shown[-1][id_])]
            cursor = base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")
        return answer({"items": [show(row) for row in shown], "nextCursor": cursor})


def whenever(given: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """The time that is asked for, by default all of it. Raises ValidationError."""
    since, until = given["since"] or EARLIEST, given["until"] or LATEST
    if not since < until:
        raise ValidationError({"from": ["Not before the end."]})
    return since, until


def _before(cursor: str, is_key: Callable[[str], bool]) -> tuple[datetime, str]:
    try:
        decoded = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        match decoded:
            case [str(at), str(key)] if is_key(key):
                return datetime.fromisoformat(at).astimezone(UTC), key
    except (binascii.Error, ValueError, OverflowError):
        pass
    raise ValidationError({"cursor": ["Not a cursor of this list."]})
