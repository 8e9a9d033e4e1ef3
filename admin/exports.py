"""Lists as a whole: streamed page by page as CSV or JSON lines, so that none is ever in memory.

A cell of CSV that a spreadsheet would run as a formula gets an apostrophe in front (CWE-1236).
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import orjson
from aiohttp import web

from admin.calls import Call
from admin.problems import frame

log = logging.getLogger(__name__)

FORMATS: Final = ("ndjson", "csv")
_MEDIA_TYPES: Final = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


async def export(
    call: Call,
    kind: str,
    name: str,
    columns: Sequence[str],
    pages: AsyncGenerator[Sequence[Mapping[str, Any]], None],
) -> web.StreamResponse:
    """Stream the documents of pages; the file is called `name`.

    The first page is read before the answer begins: what fails there is answered as a problem.
    What fails later breaks the connection off, so that nobody takes a part for the whole.
    """
    render = _as_csv if kind == "csv" else _as_lines
    async with aclosing(pages):
        first = await anext(pages, None) or ()
        response = web.StreamResponse(headers={"Content-Type": _MEDIA_TYPES[kind]})
        response.headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
        frame(response, call.request_id)
        await response.prepare(call.request)
        if call.request.method == "HEAD":
            return response
        try:
            if kind == "csv":
                await response.write(_line(columns))
            await response.write(render(columns, first))
            async for page in pages:
                await response.write(render(columns, page))
        except ConnectionError:
            return response  # whoever wanted it is gone
        except Exception:
            log.exception("an export broke off", extra={"request_id": call.request_id})
            if call.request.transport is not None:
                call.request.transport.abort()
            return response
    await response.write_eof()
    return response


def _as_lines(_: Sequence[str], page: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE) for document in page)


def _as_csv(columns: Sequence[str], page: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(_line([_cell(document[name]) for name in columns]) for document in page)


def _line(cells: Sequence[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().encode("utf-8")


def _cell(value: Any) -> str:
    """A value as a cell: text as it is, but for formulas; anything else as JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode("utf-8")
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
