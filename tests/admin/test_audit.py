"""Every write leaves its rows in the audit log, with what changed and without a secret."""

from __future__ import annotations

import csv
from datetime import timedelta
from typing import Any

import orjson
import pytest

from admin.audit import Entry
from gateway.ids import uuid7
from tests.admin.client import START, Fetch, Make, User

SECRETS = {"username": "gate", "password": "hunter2-hunter2"}


def test_object_type_is_the_beginning_of_the_action() -> None:
    assert Entry("connector.create", "x", {}).object_type == "connector"


async def test_row_tells_who_what_and_through_which_request(
    editor: User, make_connector: Make, fetch: Fetch
) -> None:
    made = await make_connector()
    await fetch("DELETE FROM audit_log")
    await editor.patch(
        f"/connectors/{made['id']}", {"category": "geo", "tags": ["a"]}, X_Request_Id="r-7"
    )

    (row,) = await fetch("SELECT * FROM audit_log")
    assert row["id"].version == 7
    assert row["at"].tzinfo is not None
    del row["id"], row["at"]
    assert row == {
        "team_id": "red",
        "actor": "ed",
        "action": "connector.update",
        "object_type": "connector",
        "object_id": made["id"],
        "request_id": "r-7",
        "client_address": "127.0.0.1",
        "difference": {"category": ["", "geo"], "tags": [[], ["a"]]},
    }


async def every_write(admin: User) -> list[str]:
    """Do everything that can be done; answers what was answered."""
    body = {
        "slug": "db",
        "upstreamBaseUrl": "https://db.example.com",
        "authType": "basic",
        "endpoints": [{"name": "a", "method": "GET", "path": "/a"}],
        "secrets": SECRETS,
    }
    texts = []

    async def call(method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = await admin.call(method, path, body)
        assert answer.status < 300, answer.text
        texts.append(answer.text)
        found: dict[str, Any] = answer.json or {}
        return found

    connector = f"/connectors/{(await call('POST', '/connectors', body))['id']}"
    await call("PUT", f"{connector}/secrets", {"password": SECRETS["password"] + "!"})
    await call("DELETE", f"{connector}/secrets/password")
    await call("PUT", f"{connector}/secrets", SECRETS)
    more = await call(
        "POST", f"{connector}/endpoints", {"name": "b", "method": "GET", "path": "/b"}
    )
    endpoint = f"{connector}/endpoints/{more['id']}"
    await call("PUT", endpoint, {"name": "b", "method": "POST", "path": "/b"})
    await call("DELETE", endpoint)
    await call("PATCH", connector, {"displayName": "Database"})
    for verb in ("publish", "unpublish"):
        await call("POST", f"{connector}/{verb}")
    for path in ("", "/secrets", "/endpoints"):
        await call("GET", connector + path)
    key = f"/keys/{(await call('POST', '/keys', {'name': 'app'}))['id']}"
    await call("PATCH", key, {"name": "app2"})
    await call("POST", f"{key}/rotate")
    await call("POST", f"{key}/revoke")
    plan = f"/plans/{(await call('POST', '/plans', {'name': 'gold'}))['id']}"
    await call("PATCH", plan, {"rateLimit": 5})
    await call("DELETE", plan)
    await call("POST", "/templates", {"templateId": "daydream", "publish": False})
    await call("DELETE", connector)
    await call("POST", f"{connector}/restore")
    await call("DELETE", connector)
    await call("DELETE", f"{connector}?purge=true")
    return texts


async def test_every_kind_of_write_is_logged(admin: User, fetch: Fetch) -> None:
    await every_write(admin)

    rows = await fetch("SELECT action FROM audit_log ORDER BY id")
    assert {row["action"] for row in rows} == {
        "connector.archive", "connector.create", "connector.publish", "connector.purge",
        "connector.restore", "connector.unpublish", "connector.update", "endpoint.create",
        "endpoint.delete", "endpoint.update", "key.create", "key.revoke", "key.rotate",
        "key.update", "plan.create", "plan.delete", "plan.update", "secret.delete", "secret.set",
    }  # fmt: skip


async def test_secrets_are_in_no_answer_and_in_no_row(admin: User, fetch: Fetch) -> None:
    """Not in the log of changes, and in the table of secrets only sealed."""
    texts = await every_write(admin)
    tables = ("audit_log", "connector_version", "service_connector", "connector_secret")
    for table in tables:
        texts += [str(row) for row in await fetch(f"TABLE {table}")]

    assert [text for text in texts if "hunter2" in text] == []
    rows = await fetch("SELECT difference FROM audit_log WHERE action = 'secret.set'")
    assert {"password": "changed"} in [row["difference"] for row in rows]


async def test_values_of_keys_are_in_no_row_and_in_two_answers(admin: User, fetch: Fetch) -> None:
    made = (await admin.post("/keys", {"name": "app"})).json
    path = f"/keys/{made['id']}"
    again = (await admin.post(f"{path}/rotate", {"graceSeconds": 60})).json
    later = [(await admin.get(p)).text for p in (path, "/keys")]
    later += [(await admin.patch(path, {"name": "b"})).text]
    later += [(await admin.post(f"{path}/revoke")).text]
    rows = await fetch("SELECT t::text FROM audit_log AS t")

    for secret in (made["key"][12:-6], again["key"][12:-6]):
        assert [text for text in (*later, *map(str, rows)) if secret in text] == []


async def test_write_that_changes_nothing_leaves_no_row(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    made = await make_connector(category="geo")
    await fetch("DELETE FROM audit_log")
    answer = await admin.patch(f"/connectors/{made['id']}", {"category": "geo"})

    assert (answer.status, answer.json["version"]) == (200, made["version"])
    assert await fetch("SELECT id FROM audit_log") == []


async def test_refused_write_leaves_no_row(admin: User, fetch: Fetch) -> None:
    await admin.post("/plans", {"name": "gold"})
    await fetch("DELETE FROM audit_log")

    assert (await admin.post("/plans", {"name": "gold"})).status == 409
    assert (await admin.delete(f"/plans/{uuid7()}")).status == 404
    assert await fetch("SELECT id FROM audit_log") == []


@pytest.fixture
def act(fetch: Fetch) -> Any:
    """Put a row into the log, so many seconds after the start; answers its id."""

    async def put(seconds: float, action: str = "plan.update", **fields: Any) -> str:
        row = {
            "id": uuid7(),
            "team_id": "red",
            "at": START + timedelta(seconds=seconds),
            "actor": "ana",
            "action": action,
            "object_type": action.partition(".")[0],
            "object_id": "o",
            "request_id": "r",
            "client_address": "192.0.2.1",
            "difference": {"name": ["a", "b"]},
            **fields,
        }
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await fetch(
            f"INSERT INTO audit_log ({', '.join(row)}) VALUES ({places})",  # noqa: S608 - names of ours
            *row.values(),
        )
        return str(row["id"])

    return put


async def test_log_is_read_newest_first_with_all_that_is_kept(viewer: User, act: Any) -> None:
    first, second = await act(1), await act(2, "key.revoke", actor="ed")
    await act(3, team_id="blue")
    items = await viewer.all("/audit")

    assert [item["id"] for item in items] == [second, first]
    assert items[1] == {
        "id": first,
        "at": "2026-11-01T00:00:01Z",
        "actor": "ana",
        "action": "plan.update",
        "objectType": "plan",
        "objectId": "o",
        "requestId": "r",
        "clientAddress": "192.0.2.1",
        "difference": {"name": ["a", "b"]},
    }


async def test_log_is_narrowed(viewer: User, act: Any) -> None:
    a = await act(1, actor="eve", object_id="x")
    b = await act(2, "key.revoke", request_id="r-1")
    c = await act(3, "key.rotate", object_id="x")

    for query, expected in {
        "actor=eve": [a],
        "action=key.revoke": [b],
        "objectType=key": [c, b],
        "objectId=x": [c, a],
        "objectId=x&actor=ana": [c],
        "from=2026-11-01T00:00:02Z": [c, b],
        "to=2026-11-01T00:00:02Z": [a],
        "from=2026-11-01T00:00:02Z&to=2026-11-01T00:00:03Z": [b],
        "q=eve": [a],
        "q=r-1": [b],
        "q=x": [c, a],
        "q=key.rotate": [c],
        "q=nothing": [],
    }.items():
        assert [item["id"] for item in await viewer.all(f"/audit?{query}")] == expected, query


async def test_pages_of_the_log_hold_each_act_once_while_others_come(
    viewer: User, act: Any
) -> None:
    made = [await act(number // 5) for number in range(20)]
    seen: list[str] = []
    cursor = ""
    while True:
        answer = await viewer.get(f"/audit?limit=3{cursor}")
        seen += [item["id"] for item in answer.json["items"]]
        if answer.json["nextCursor"] is None:
            break
        cursor = f"&cursor={answer.json['nextCursor']}"
        await act(60)

    assert len(seen) == len(set(seen))
    assert set(made) <= set(seen)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("actor=", "/actor"),
        ("from=2026-11-01", "/from"),
        ("from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "/from"),
        ("cursor=x", "/cursor"),
        ("limit=1000", "/limit"),
        ("team=blue", "/team"),
    ],
)
async def test_odd_parameter_of_the_log_is_refused(query: str, pointer: str, cut_off: User) -> None:
    answer = await cut_off.get(f"/audit?{query}")

    assert (answer.status, answer.pointers) == (422, [pointer])


async def test_whole_log_of_a_time_is_exported_as_lines(admin: User, act: Any) -> None:
    made = [await act(number) for number in range(3)]
    await act(2, team_id="blue")
    answer = await admin.get("/audit/export?from=2026-11-01T00:00:01Z")
    lines = [orjson.loads(line) for line in answer.text.splitlines()]

    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit.ndjson"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert lines == [(await admin.all("/audit"))[0], (await admin.all("/audit"))[1]]
    assert [line["id"] for line in lines] == [made[2], made[1]]


async def test_export_goes_past_one_page(admin: User, act: Any, fetch: Fetch) -> None:
    await act(0)
    await fetch(
        """
        INSERT INTO audit_log
        SELECT uuidv7(), team_id, at + n / 100 * interval '1 second', actor, action, object_type,
            object_id, request_id, client_address, difference
        FROM audit_log, generate_series(1, 2099) AS s (n)
        """
    )
    answer = await admin.get("/audit/export?objectType=plan&format=csv")
    header, *rows = csv.reader(answer.text.splitlines())

    assert header[:3] == ["id", "at", "actor"]
    assert len({row[0] for row in rows}) == len(rows) == 2100


async def test_cells_that_are_formulas_are_exported_as_text(admin: User, act: Any) -> None:
    await act(1, actor='=HYPERLINK("http://example.com")', object_id="@SUM(A1)")
    answer = await admin.get("/audit/export?format=csv")
    (row,) = csv.DictReader(answer.text.splitlines())

    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert row["actor"] == '\'=HYPERLINK("http://example.com")'
    assert row["objectId"] == "'@SUM(A1)"
    assert orjson.loads(row["difference"]) == {"name": ["a", "b"]}


async def test_export_is_for_admins_and_refuses_what_it_does_not_know(
    admin: User, editor: User
) -> None:
    assert (await editor.get("/audit/export")).status == 403
    assert (await admin.get("/audit/export?format=xls")).pointers == ["/format"]
    assert (await admin.get("/audit/export?limit=5")).pointers == ["/limit"]
