"""Every write leaves its rows in the audit log, with what changed and without a secret."""

from __future__ import annotations

from typing import Any

from admin.audit import Entry, difference
from gateway.ids import uuid7
from tests.admin.client import Fetch, Make, User

SECRETS = {"username": "gate", "password": "hunter2-hunter2"}


def test_difference_is_what_changed() -> None:
    before = {"same": [1], "changed": 1, "gone": "x", "null": None}
    after = {"same": [1], "changed": 2, "new": "y"}

    assert difference(before, after) == {"changed": [1, 2], "gone": ["x", None], "new": [None, "y"]}


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
