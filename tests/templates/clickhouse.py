"""ClickHouse's HTTP interface, as far as a read-only user sees it."""

from __future__ import annotations

import re

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import Call, Seen, Stop, basic, reply

SECRETS = {"username": "reader", "password": "pass:word"}
_TEXT = {"Content-Type": "text/plain"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}  # what `curl --data` sends

CALLS = [
    Call("query", "POST", "/query", _TEXT, b"SELECT 1 AS one", 200, b'"data":[{"one":1}]'),
    Call("query", "POST", "/query", _FORM, b"select 1 as one", 200, b'"rows":1'),
    Call("query", "POST", "/query?default_format=TSV", _TEXT, b"SELECT 1 AS one", 200, b"1\n"),
    Call("query", "POST", "/query", _TEXT, b"-- one\nSELECT 1 AS one FORMAT TSV", 200, b"1\n"),
    Call("query", "POST", "/query?param_n=1", _TEXT, b"SELECT {n:UInt8} AS one", 200, b'"one":1'),
    Call("query", "POST", "/query", _TEXT, b"SELECT * FROM nowhere", 404, b"UNKNOWN_TABLE"),
    Call("list-tables", "GET", "/tables", holds=b'"data":[{"name":"events"}]'),
    Call("describe-table", "GET", "/tables/events/schema", holds=b'"name":"at","type":"DateTime"'),
    Call("describe-table", "GET", "/tables/nowhere/schema", status=404, holds=b"UNKNOWN_TABLE"),
]


async def start() -> tuple[str, Stop]:
    """Start the server; return its base URL and what stops it."""
    return await mock.start(_answer)


def statement(seen: Seen) -> str:
    """What ClickHouse executes: the first `query` parameter, a line break, and the body."""
    first = next(iter(seen.params("query")), "")
    return (f"{first}\n" if first else "") + seen.body.decode()


def _answer(seen: Seen) -> web.Response:
    if seen.all("Authorization") != [basic(**SECRETS)]:
        return _fault(403, 516, "AUTHENTICATION_FAILED")
    if seen.path != "/":
        return web.Response(text="There is no handle here\n", status=404)
    if seen.params("readonly") != ["2"]:
        return _fault(500, 164, "READONLY")
    if seen.headers.get("Content-Type", "").startswith("multipart/"):
        return _fault(400, 62, "SYNTAX_ERROR")
    return _result(seen)


def _result(seen: Seen) -> web.Response:
    sql, _, wanted = statement(seen).partition(" FORMAT ")
    kind = wanted.strip() or next(iter(seen.params("default_format")), "TSV")
    if re.search(r"(?i)^select (1|\{n:UInt8\}) as one$", sql, re.MULTILINE):
        return _table({"one": "UInt8"}, {"one": 1}, kind)
    if sql == "SHOW TABLES":
        return _table({"name": "String"}, {"name": "events"}, kind)
    if sql == "DESCRIBE TABLE {table:Identifier}" and seen.params("param_table")[0] == "events":
        return _table(
            {"name": "String", "type": "String"}, {"name": "at", "type": "DateTime"}, kind
        )
    return _fault(404, 60, "UNKNOWN_TABLE")


def _table(columns: dict[str, str], row: dict[str, object], kind: str) -> web.Response:
    if kind != "JSON":
        text = "\t".join(str(value) for value in row.values()) + "\n"
        return web.Response(text=text, content_type="text/tab-separated-values", charset="UTF-8")
    meta = [{"name": name, "type": type_} for name, type_ in columns.items()]
    return reply({"meta": meta, "data": [row], "rows": 1})


def _fault(status: int, code: int, name: str) -> web.Response:
    headers = {"X-ClickHouse-Exception-Code": str(code)}
    return web.Response(
        text=f"Code: {code}. DB::Exception: ({name})\n", status=status, headers=headers
    )
