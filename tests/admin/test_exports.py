"""Exports: streamed in pieces, whole or broken off, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from admin import exports
from admin.problems import REQUEST_ID, framed
from gateway.problems import Rejected
from tests.admin.client import Answer, read

COLUMNS = ("name", "number", "pair", "nothing")
ROW = {"name": "a", "number": -1, "pair": {"x": [1]}, "nothing": None}


class Asked:
    """As much of a call as an export reads."""

    def __init__(self, request: web.Request) -> None:
        self.request = request
        self.request_id = request[REQUEST_ID]


async def exported(aiohttp_client: Any, kind: str, pages: Any, method: str = "GET") -> Answer:
    """What a client gets of these pages."""

    async def serve(request: web.Request) -> web.StreamResponse:
        asked: Any = Asked(request)
        return await exports.export(asked, kind, "things", COLUMNS, pages)

    app = web.Application(middlewares=[framed])
    app.router.add_route("*", "/", serve)
    client = await aiohttp_client(app)
    return await read(await client.request(method, "/", headers={"X-Request-Id": "r-1"}))


async def pages_of(*pages: Any) -> AsyncGenerator[Sequence[Any], None]:
    for page in pages:
        if isinstance(page, Exception):
            raise page
        yield page


async def test_pages_become_one_file_in_pieces(aiohttp_client: Any) -> None:
    answer = await exported(aiohttp_client, "ndjson", pages_of([ROW], [ROW, ROW]))

    assert answer.text.count("\n") == 3
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.headers["X-Request-Id"] == "r-1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_is_an_empty_file(aiohttp_client: Any) -> None:
    assert (await exported(aiohttp_client, "ndjson", pages_of())).text == ""
    assert (
        await exported(aiohttp_client, "csv", pages_of())
    ).text == "name,number,pair,nothing\r\n"


async def test_head_has_no_body(aiohttp_client: Any) -> None:
    answer = await exported(aiohttp_client, "csv", pages_of([ROW]), "HEAD")

    assert (answer.status, answer.text) == (200, "")


async def test_numbers_stay_numbers_and_what_has_parts_is_json(aiohttp_client: Any) -> None:
    answer = await exported(aiohttp_client, "csv", pages_of([ROW]))
    _, row = csv.reader(answer.text.splitlines())

    assert row == ["a", "-1", '{"x":[1]}', ""]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", "=cmd|'/c'!A1"]
)
async def test_formula_is_text_in_csv_and_itself_in_lines(text: str, aiohttp_client: Any) -> None:
    row = {**ROW, "name": text}
    as_csv = await exported(aiohttp_client, "csv", pages_of([row]))
    _, cells = csv.reader(as_csv.text.splitlines(keepends=True))
    as_lines = await exported(aiohttp_client, "ndjson", pages_of([row]))

    assert cells[0] == f"'{text}"
    assert orjson.loads(as_lines.text)["name"] == text


@pytest.mark.parametrize("text", ['a "quoted" one', "a,b", "two\nlines", "ü€", "a=b"])
async def test_every_other_text_comes_back(text: str, aiohttp_client: Any) -> None:
    answer = await exported(aiohttp_client, "csv", pages_of([{**ROW, "name": text}]))
    _, cells = csv.reader(answer.text.splitlines(keepends=True))

    assert cells[0] == text


async def test_fault_before_the_first_piece_is_a_problem(aiohttp_client: Any) -> None:
    fault = Rejected("forbidden", "No.")
    answer = await exported(aiohttp_client, "csv", pages_of(fault))

    assert (answer.status, answer.json["code"]) == (403, "forbidden")


async def test_fault_later_breaks_off_so_that_no_part_is_taken_for_the_whole(
    aiohttp_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with pytest.raises(aiohttp.ClientError):
        await exported(aiohttp_client, "csv", pages_of([ROW], ValueError("away")))

    assert [record.getMessage() for record in caplog.records] == ["an export broke off"]
