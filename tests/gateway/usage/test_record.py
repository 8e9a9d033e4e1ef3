"""A record says what became of its exchange; a column's order is the table's."""

from __future__ import annotations

import pytest

from gateway.usage.record import COLUMNS, UsageRecord
from tests.dataplane import Migrated, caller, connect, connector, exchange

URL = "http://127.0.0.1:9"


async def test_fields_are_the_tables_columns(database: Migrated) -> None:
    connection = await connect(database.dsn)
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'gateway_usage_record'::regclass"
        " AND attnum > 0 ORDER BY attnum"
    )
    await connection.close()

    assert [row["attname"] for row in rows] == [*COLUMNS]


def test_record_of_an_exchange_has_its_names_and_times() -> None:
    made = exchange("GET", "/up/x", at=connector(URL))
    made.outcome.upstream_s, made.outcome.first_byte_s = 0.25, 1.0
    record = UsageRecord.of(made, 2.0)

    assert (record.connector, record.endpoint, record.team_id) == (
        "up",
        "GET /:rest*",
        caller().team,
    )
    assert (record.upstream_ms, record.first_byte_ms, record.own_ms) == (250, 1000, 750)
    assert record.total_ms == 2000
    assert record.connector_id == made.connector.id


@pytest.mark.parametrize(
    ("path", "slug"),
    [("/maps/x", "maps"), ("/a%2fb/x", ""), ("/é", ""), ("/" + "a" * 99, "a" * 64)],
)
def test_record_of_an_exchange_that_found_nothing_tells_what_was_asked_for(
    path: str, slug: str
) -> None:
    record = UsageRecord.of(exchange("GET", path), 0.5)

    assert (record.connector, record.connector_id, record.endpoint) == (slug, None, "")
    assert (record.caller_type, record.caller_id, record.team_id) == ("none", "", "")
