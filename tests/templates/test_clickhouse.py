"""The ClickHouse template: a caller reads, and nothing else, whatever the path, query or body holds."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import pytest

from gateway.problems import Rejected
from tests.templates.clickhouse import SECRETS
from tests.templates.instance import connector, outgoing
from tests.templates.mock import Call

MADE = connector("clickhouse", SECRETS)
TEXT = {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  \n\tselect 1",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "SHOW DATABASES",
        "DESCRIBE TABLE t",
        "EXPLAIN SELECT 1",
        "WITH 1 AS x SELECT x",
        "-- why\nSELECT 1",
        "/* why */ SELECT 1",
        "-- DROP TABLE t\n/* INSERT */\n  (\n-- more\nSELECT 1)",
        "SELECT 'DROP TABLE t'",
    ],
)
def test_reading_statements_pass(sql: str) -> None:
    outgoing(MADE, Call("query", "POST", "/query", TEXT, sql.encode()))


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "INSERT INTO t VALUES (1)",
        "DROP TABLE t",
        "ALTER TABLE t DELETE WHERE 1",
        "SELECTED",
        "SET readonly = 0",
        "SYSTEM SHUTDOWN",
        "x SELECT 1",
        "; SELECT 1",
        "-- SELECT 1",
        "-- why\nDROP TABLE t\nSELECT 1",
        "-- why\rSELECT 1",
        "# SELECT 1\nDROP TABLE t",
        "/* SELECT 1 */ DROP TABLE t",
        "/* why */ DROP TABLE t /* */ SELECT 1",
        "/* /* */ SELECT 1 -- */ DROP TABLE t",  # comments nest in ClickHouse
        "/* SELECT 1",
        "DROP TABLE t -- \nSELECT 1",
        '{"query": "SELECT 1"}',
    ],
)
def test_other_statements_are_refused(sql: str) -> None:
    with pytest.raises(Rejected) as caught:
        outgoing(MADE, Call("query", "POST", "/query", TEXT, sql.encode()))

    assert caught.value.code == "validation_failed"


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json"])
def test_forms_with_parts_are_no_statements(kind: str) -> None:
    """ClickHouse would take its SQL from a part, not from where the rule looks."""
    call = Call("query", "POST", "/query", {"Content-Type": kind}, b"SELECT 1")

    with pytest.raises(Rejected) as caught:
        outgoing(MADE, call)

    assert caught.value.code == "unsupported_media_type"


def test_caller_cannot_bring_a_second_statement_or_lift_the_read_only_mode() -> None:
    query = "?query=DROP+TABLE+t&%71uery=DROP&readonly=0&r%65adonly=0&decompress=1&database=d"
    fields = {**TEXT, "Content-Encoding": "br", "X-ClickHouse-User": "root"}

    _, request = outgoing(MADE, Call("query", "POST", f"/query{query}", fields, b"SELECT 1"))

    params = parse_qsl(request.target.partition("?")[2], keep_blank_values=True)
    assert [value for name, value in params if name == "query"] == [""]
    assert [value for name, value in params if name == "readonly"] == ["2"]
    assert [value for name, value in params if name == "decompress"] == ["0"]
    assert ("database", "d") in params
    names = {name.lower() for name, _ in request.headers}
    assert not names & {b"content-encoding", b"x-clickhouse-user", b"x-api-key"}
    assert dict(request.headers)[b"Content-Type"] == b"text/plain; charset=UTF-8"


@pytest.mark.parametrize("path", ["/tables", "/tables/events/schema"])
def test_tables_take_no_statement_from_the_caller(path: str) -> None:
    fields = {"Content-Type": "multipart/form-data; boundary=x"}

    _, request = outgoing(
        MADE,
        Call("", "GET", f"{path}?query=DROP+TABLE+t&readonly=0", fields, b"; DROP TABLE t"),
    )

    params = parse_qsl(request.target.partition("?")[2], keep_blank_values=True)
    assert request.body == b""
    assert b"content-type" not in {name.lower() for name, _ in request.headers}
    assert [value for name, value in params if name == "readonly"] == ["2"]
    (statement,) = [value for name, value in params if name == "query"]
    assert statement.startswith(("SHOW TABLES", "DESCRIBE TABLE {table:Identifier}"))


@pytest.mark.parametrize(
    ("segment", "name"),
    [
        ("events", "events"),
        ("my%20table", "my table"),
        ("t%27%3B%20DROP%20TABLE%20t--", "t'; DROP TABLE t--"),
        ("t%60%20FORMAT%20Null%20--", "t` FORMAT Null --"),
        ("t&query=DROP%20TABLE%20t", "t&query=DROP TABLE t"),
        ("t%26query%3DDROP", "t&query=DROP"),
        ("t+x", "t+x"),
        ("t%23x", "t#x"),
        ("%7Btable%7D", "{table}"),
        ("t%25%32%36x", "t%26x"),
        ("%C3%A9t%C3%A9", "été"),
    ],
)
def test_table_is_one_parameter_whatever_its_name(segment: str, name: str) -> None:
    _, request = outgoing(MADE, Call("", "GET", f"/tables/{segment}/schema"))

    path, _, query = request.target.partition("?")
    assert path == "/"
    assert parse_qsl(query, strict_parsing=True) == [
        ("param_table", name),
        ("query", "DESCRIBE TABLE {table:Identifier} FORMAT JSON"),
        ("readonly", "2"),
    ]
    assert re.fullmatch(r"[A-Za-z0-9._~%=&-]+", query)
    assert "%7Btable%3AIdentifier%7D" in query


@pytest.mark.parametrize("segment", ["a%2Fb", "a%00", "a%0Ab"])
def test_table_with_a_slash_or_control_character_is_refused(segment: str) -> None:
    with pytest.raises(Rejected):
        outgoing(MADE, Call("", "GET", f"/tables/{segment}/schema"))
