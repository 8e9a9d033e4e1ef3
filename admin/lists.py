"""Lists: search, filters, order, and pages by keyset, so that no row comes twice and none is missed.

A cursor is opaque to clients: base64url of the order and the last row's values in it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import web
from marshmallow import ValidationError

from admin.calls import Call, answer
from admin.fields import Wire, choice, count, is_id, text

_FIRST: Final = UUID(int=0)
_LAST: Final = UUID(int=(1 << 128) - 1)


class PageQuery(Wire):
    """What every list takes."""

    q = text(200)
    sort = choice(("newest", "name"), load_default="newest")
    limit = count(1, 100, strict=False, load_default=20)
    cursor = text(1000)


@dataclass(frozen=True, slots=True)
class Page:
    """The page that is asked for: `after` are the values of the row before it in its order.

    For `newest` that is the id (descending), for `name` the column `sort_name` and the id.
    """

    sort: str
    limit: int
    after: tuple[Any, ...]
    filters: Mapping[str, Any]

    @classmethod
    def of(cls, call: Call, query: PageQuery) -> Page:
        """The page of a request. Raises ValidationError, Rejected."""
        given = query.load(call.parameters())
        sort, limit, cursor = given.pop("sort"), given.pop("limit"), given.pop("cursor", None)
        start = (_LAST,) if sort == "newest" else ("", _FIRST)
        return cls(sort, limit, start if cursor is None else _after(cursor, sort), given)

    @property
    def values(self) -> tuple[Any, ...]:
        """The last parameters of a list's query: where to begin, and one row more than asked for."""
        return (*self.after, self.limit + 1)

    def answer(
        self,
        rows: Sequence[dict[str, Any]],
        show: Callable[[dict[str, Any]], Any],
    ) -> web.Response:
        """The rows of this page and the cursor of the next."""
        shown = rows[: self.limit]
        cursor = None
        if len(rows) > self.limit:
            last = shown[-1]
            keys = [] if self.sort == "newest" else [last["sort_name"]]
            keys.append(str(last["id"]))
            cursor = base64.urlsafe_b64encode(orjson.dumps([self.sort, *keys])).decode().rstrip("=")
        return answer({"items": [show(row) for row in shown], "nextCursor": cursor})


def _after(cursor: str, sort: str) -> tuple[Any, ...]:
    try:
        decoded = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        decoded = None
    match decoded:
        case ["newest", str(last)] if sort == "newest" and is_id(last):
            return (UUID(last),)
        case ["name", str(name), str(last)] if sort == "name" and is_id(last) and "\0" not in name:
            return (name, UUID(last))
        case _:
            raise ValidationError({"cursor": ["Not a cursor of this list in this order."]})
