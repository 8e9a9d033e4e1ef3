"""Publishing: refused with every reason, frozen for callers, taken back, and seen by the data plane."""

from __future__ import annotations

from typing import Any

import pytest

import sql
from gateway.transform.compiling import compile_connector
from tests.admin.client import Fetch, Make, User

FOR_CALLERS = sql.query("directory.connector")
ENDPOINT = {"name": "find", "method": "GET", "path": "/find/:place"}


async def snapshot(fetch: Fetch, slug: str = "maps") -> Any:
    (row,) = await fetch(FOR_CALLERS, "red", slug)
    return row["snapshot"]


async def test_callers_get_what_was_published(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    made = await make_connector()
    await admin.post(
        "/connectors/maps/endpoints", {**ENDPOINT, "name": "off", "path": "/off", "enabled": False}
    )
    assert await snapshot(fetch) is None
    answer = await admin.post("/connectors/maps/publish")
    published = answer.json
    assert (answer.status, published["status"]) == (200, "published")
    assert answer.version == published["version"]
    assert published["publishedVersion"] == published["version"]
    assert published["publishedAt"] is not None
    assert published["hasUnpublishedChanges"] is False
    frozen = await snapshot(fetch)
    compiled = compile_connector(frozen, team="red", secrets={})
    assert (compiled.id, compiled.slug) == (made["id"], "maps")
    assert [entry["name"] for entry in frozen["endpoints"]] == ["find"]
    assert compiled.router.match("GET", "/find/rome").params == {"place": "rome"}


async def test_edits_wait_for_the_next_publish(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    first = (await admin.post("/connectors/maps/publish")).json
    before = await snapshot(fetch)
    await admin.patch("/connectors/maps", {"defaultTimeout": 1})
    await admin.post("/connectors/maps/endpoints", {**ENDPOINT, "name": "b", "path": "/b"})
    edited = (await admin.get("/connectors/maps")).json
    assert (edited["status"], edited["hasUnpublishedChanges"]) == ("published", True)
    assert edited["publishedVersion"] == first["publishedVersion"]
    assert edited["version"] == first["version"] + 2
    assert await snapshot(fetch) == before
    again = (await admin.post("/connectors/maps/publish")).json
    assert again["hasUnpublishedChanges"] is False
    after = await snapshot(fetch)
    assert after["definition"]["default_timeout"] == 1
    assert len(after["endpoints"]) == 2
    versions = await fetch("SELECT version, published_by FROM connector_version ORDER BY version")
    assert [row["version"] for row in versions] == [first["version"], again["version"]]
    assert {row["published_by"] for row in versions} == {"ana"}


async def test_publishing_without_changes_is_nothing_new(admin: User, make_connector: Make) -> None:
    await make_connector()
    first = (await admin.post("/connectors/maps/publish")).json

    assert (await admin.post("/connectors/maps/publish")).json == first


async def test_every_fault_is_told_at_once(admin: User, make_connector: Make) -> None:
    await make_connector(
        upstreamBaseUrl="https://YOUR_ACCOUNT.example.com",
        authType="basic",
        endpoints=[{**ENDPOINT, "enabled": False}],
    )
    answer = await admin.post("/connectors/maps/publish")

    assert (answer.status, answer.json["code"]) == (409, "conflict")
    assert sorted(set(answer.pointers)) == [
        "/endpoints", "/secrets/password", "/secrets/username", "/upstreamBaseUrl",
    ]  # fmt: skip
    assert "username" in answer.text
    assert (await admin.get("/connectors/maps")).json["status"] == "draft"


@pytest.mark.parametrize(
    ("overrides", "pointers"),
    [
        ({"endpoints": []}, ["/endpoints"]),
        ({"upstreamBaseUrl": "http://127.0.0.1:9000"}, ["/upstreamBaseUrl"]),
        ({"upstreamBaseUrl": "http://0x7f000001"}, ["/upstreamBaseUrl"]),
        ({"upstreamBaseUrl": "http://localhost"}, ["/upstreamBaseUrl"]),
        ({"upstreamBaseUrl": "http://169.254.169.254"}, ["/upstreamBaseUrl"]),
        ({"upstreamBaseUrl": "http://[::ffff:10.0.0.1]"}, ["/upstreamBaseUrl"]),
        (
            {"upstreamBaseUrl": "https://<region>.example.com", "allowedHosts": ["*.example.com"]},
            ["/upstreamBaseUrl"],
        ),
        (
            {"endpoints": [{**ENDPOINT, "upstreamPath": "/YOUR_ACCOUNT/{place}"}]},
            ["/endpoints/find/upstreamPath"],
        ),
        ({"authType": "bearer"}, ["/secrets/token"]),
        (
            {"endpoints": [{**ENDPOINT, "setHeaders": {"x-key": "{{secrets.key}}"}}]},
            ["/secrets/key"],
        ),
    ],
)
async def test_fault_is_told_at_its_place(
    overrides: dict[str, Any], pointers: list[str], admin: User, make_connector: Make
) -> None:
    await make_connector(**overrides)
    answer = await admin.post("/connectors/maps/publish")

    assert (answer.status, answer.pointers) == (409, pointers)


async def test_secrets_of_disabled_endpoints_are_not_needed(
    admin: User, make_connector: Make
) -> None:
    off = {**ENDPOINT, "name": "off", "path": "/off", "enabled": False}
    await make_connector(endpoints=[ENDPOINT, {**off, "setHeaders": {"x": "{{secrets.key}}"}}])

    assert (await admin.post("/connectors/maps/publish")).status == 200


async def test_secret_that_does_not_open_is_a_fault(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector(authType="bearer", secrets={"token": "t"})
    await fetch("UPDATE connector_secret SET key_id = 'lost'")
    answer = await admin.post("/connectors/maps/publish")

    assert (answer.status, answer.pointers) == (409, ["/secrets/token"])
    assert "not configured" in answer.json["errors"][0]["detail"]


async def test_what_no_longer_compiles_is_a_fault(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    """As after an update of the gateway that knows a rule better."""
    await make_connector()
    await fetch(
        'UPDATE connector_endpoint SET definition = definition || \'{"body_pattern": "("}\''
    )
    answer = await admin.post("/connectors/maps/publish")

    assert (answer.status, answer.pointers) == (409, ["/endpoints/find"])


async def test_unpublished_connector_is_a_draft_again(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector()
    await admin.post("/connectors/maps/publish")
    taken = (await admin.post("/connectors/maps/unpublish")).json
    assert (taken["status"], taken["publishedVersion"]) == ("draft", None)
    assert (taken["publishedAt"], taken["hasUnpublishedChanges"]) == (None, False)
    assert await snapshot(fetch) is None
    assert (await admin.post("/connectors/maps/unpublish")).json == taken
    assert (await admin.post("/connectors/maps/publish")).json["status"] == "published"


async def test_archive_takes_a_connector_from_callers_and_restore_does_not_give_it_back(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    made = await make_connector()
    path = f"/connectors/{made['id']}"
    await admin.post(f"{path}/publish")
    await admin.delete(path)
    assert await fetch(FOR_CALLERS, "red", "maps") == []
    assert (await admin.post(f"{path}/unpublish")).status == 409
    restored = (await admin.post(f"{path}/restore")).json
    assert (restored["status"], restored["publishedVersion"]) == ("draft", None)
    assert await snapshot(fetch) is None


async def test_audit_tells_which_version_was_taken_from_callers(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    path = f"/connectors/{(await make_connector())['id']}"
    for _ in range(2):
        published = (await admin.post(f"{path}/publish")).json["publishedVersion"]
        await admin.post(f"{path}/unpublish")
    again = (await admin.post(f"{path}/publish")).json["publishedVersion"]
    await admin.delete(path)
    await admin.post(f"{path}/restore")

    rows = await fetch(
        "SELECT action, difference FROM audit_log WHERE action ~ 'unpublish|archive|restore' ORDER BY id"
    )
    told = [(row["action"], row["difference"]) for row in rows][1:]
    assert told == [
        ("connector.unpublish", {"status": ["published", "draft"], "publishedVersion": [published, None]}),
        ("connector.archive", {"status": ["published", "archived"], "publishedVersion": [again, None]}),
        ("connector.restore", {"status": ["archived", "draft"]}),
    ]  # fmt: skip


async def test_published_connector_keeps_its_slug(admin: User, make_connector: Make) -> None:
    await make_connector()
    await admin.post("/connectors/maps/publish")
    assert (await admin.patch("/connectors/maps", {"slug": "atlas"})).status == 409
    await admin.post("/connectors/maps/unpublish")
    assert (await admin.patch("/connectors/maps", {"slug": "atlas"})).status == 200


async def test_restore_of_a_published_connector_is_refused(
    admin: User, make_connector: Make
) -> None:
    await make_connector()
    await admin.post("/connectors/maps/publish")

    assert (await admin.post("/connectors/maps/restore")).status == 409
