"""Secrets that wait for a publish: kept for the draft, in force with the rest of it, told by name alone."""

from __future__ import annotations

from typing import Any

import pytest

from admin.control import Control
from gateway.secrets.rotation import rotate
from gateway.secrets.vault import MasterKey, Sealed, Vault
from tests.admin.client import Fetch, Make, User

PATH = "/connectors/maps/secrets"
STAGE = f"{PATH}?stage=true"


@pytest.fixture
async def published(admin: User, make_connector: Make) -> dict[str, Any]:
    """A published connector with one secret in force."""
    made = await make_connector(authType="bearer", secrets={"token": "old"})
    answer = await admin.post("/connectors/maps/publish")
    assert answer.status == 200, answer.text
    return made


async def values(control: Control, fetch: Fetch, table: str = "connector_secret") -> dict[str, str]:
    """What is kept, opened."""
    rows = await fetch(f"SELECT * FROM {table}")  # noqa: S608 - names of ours
    return {
        row["name"]: control.vault.open(
            Sealed(row["key_id"], row["sealed"]),
            team=row["team_id"],
            connector=str(row["connector_id"]),
            name=row["name"],
        )
        for row in rows
    }


@pytest.mark.usefixtures("published")
async def test_staged_value_is_in_force_with_the_publish(
    admin: User, editor: User, control: Control, fetch: Fetch
) -> None:
    answer = await admin.put(STAGE, {"token": "new"})
    (item,) = answer.json["items"]
    assert (item["set"], item["staged"], item["stagedBy"]) == (True, True, "ana")
    assert "new" not in answer.text
    assert (await values(control, fetch)) == {"token": "old"}
    assert (await editor.get("/connectors/maps")).json["hasUnpublishedChanges"] is True

    assert (await editor.post("/connectors/maps/publish")).status == 200
    (item,) = (await editor.get(PATH)).json["items"]
    assert (item["set"], item.get("staged"), item["updatedBy"]) == (True, None, "ana")
    assert (await values(control, fetch)) == {"token": "new"}
    assert await fetch("SELECT * FROM staged_secret") == []
    latest = (await editor.get("/connectors/maps/versions")).json["items"][0]
    assert latest["summary"] == "New values for token."


@pytest.mark.usefixtures("published")
async def test_value_that_is_not_staged_is_in_force_at_once(
    admin: User, control: Control, fetch: Fetch
) -> None:
    await admin.put(STAGE, {"token": "new"})
    await admin.put(PATH, {"token": "now"})

    assert (await values(control, fetch)) == {"token": "now"}
    assert (await values(control, fetch, "staged_secret")) == {"token": "new"}


async def test_staged_value_is_enough_for_a_publish(admin: User, make_connector: Make) -> None:
    await make_connector(authType="bearer")
    assert (await admin.post("/connectors/maps/publish")).status == 409
    assert (await admin.put(STAGE, {"token": "new"})).json["items"][0]["set"] is False
    assert (await admin.post("/connectors/maps/publish")).status == 200


@pytest.mark.parametrize(
    ("body", "pointer"), [({"other": "x"}, "/other"), ({"token": " x"}, "/token")]
)
@pytest.mark.usefixtures("published")
async def test_what_cannot_be_set_cannot_be_staged(
    body: dict[str, str], pointer: str, admin: User
) -> None:
    answer = await admin.put(STAGE, body)
    assert (answer.status, answer.pointers) == (422, [pointer])


@pytest.mark.usefixtures("published")
async def test_staging_is_for_admins_and_a_dry_run_keeps_nothing(
    admin: User, editor: User, fetch: Fetch
) -> None:
    assert (await editor.put(STAGE, {"token": "new"})).status == 403
    assert (await editor.delete(f"{PATH}/token?stage=true")).status == 403
    assert (await admin.put(f"{STAGE}&dryRun=true", {"token": "new"})).status == 200
    assert await fetch("SELECT * FROM staged_secret") == []


async def test_staged_value_is_sent_nowhere_else_by_an_editor(
    admin: User, editor: User, make_connector: Make
) -> None:
    await make_connector(authType="bearer")
    await admin.put(STAGE, {"token": "new"})
    moved = {"upstreamBaseUrl": "https://elsewhere.example.com"}

    assert (await editor.patch("/connectors/maps", moved)).status == 403
    assert (await admin.patch("/connectors/maps", moved)).status == 200


@pytest.mark.usefixtures("published")
async def test_staged_value_is_forgotten_alone_or_with_the_one_in_force(
    admin: User, fetch: Fetch, control: Control
) -> None:
    await admin.put(STAGE, {"token": "new"})
    assert (await admin.delete(f"{PATH}/token?stage=true")).status == 204
    assert (await admin.delete(f"{PATH}/token?stage=true")).status == 404
    assert (await values(control, fetch)) == {"token": "old"}

    await admin.put(STAGE, {"token": "new"})
    assert (await admin.delete(f"{PATH}/token")).status == 204
    for table in ("connector_secret", "staged_secret"):
        assert (await values(control, fetch, table)) == {}


@pytest.mark.usefixtures("published")
async def test_rollback_leaves_the_secrets_in_force_and_no_staged_ones(
    admin: User, editor: User, control: Control, fetch: Fetch
) -> None:
    first = (await admin.get("/connectors/maps")).json["publishedVersion"]
    await admin.put(STAGE, {"token": "new"})
    await admin.patch("/connectors/maps", {"upstreamBaseUrl": "https://maps.example.com/v3"})
    answer = await editor.post("/connectors/maps/rollback", {"version": first})

    assert answer.status == 200, answer.text
    assert (await values(control, fetch)) == {"token": "old"}
    assert await fetch("SELECT * FROM staged_secret") == []
    actions = [row["action"] for row in await fetch("SELECT action FROM audit_log ORDER BY id")]
    assert actions[-3:] == ["secret.unstage", "connector.update", "connector.rollback"]


@pytest.mark.usefixtures("published")
async def test_archive_keeps_what_is_staged_and_purge_does_not(admin: User, fetch: Fetch) -> None:
    await admin.put(STAGE, {"token": "new"})
    await admin.delete("/connectors/maps")
    assert (await admin.get(PATH)).json["items"][0]["staged"] is True
    await admin.post("/connectors/maps/restore")
    assert (await admin.get(PATH)).json["items"][0]["staged"] is True
    await admin.delete("/connectors/maps")
    await admin.delete("/connectors/maps?purge=true")

    assert await fetch("SELECT * FROM staged_secret") == []


async def test_exports_tell_the_drafts_reference_and_no_value(
    admin: User, make_connector: Make
) -> None:
    await make_connector(
        authType="bearer", upstreamBaseUrl="https://api.daydream.live", secrets={"token": "hush"}
    )
    await admin.put(STAGE, {"token": "env:DAYDREAM_API_KEY"})
    exported = await admin.get("/config/export")
    template = await admin.get("/connectors/maps/template")
    assert "env:DAYDREAM_API_KEY" in exported.text
    assert template.json["secrets"][0]["env"] == "DAYDREAM_API_KEY"

    await admin.put(STAGE, {"token": "a-staged-value"})
    for answer in (await admin.get("/config/export"), await admin.get("/connectors/maps/template")):
        assert answer.status == 200
        assert "a-staged-value" not in answer.text
        assert "hush" not in answer.text


@pytest.mark.usefixtures("published")
async def test_staged_values_are_sealed_anew_with_the_others(
    admin: User, control: Control, fetch: Fetch
) -> None:
    await admin.put(STAGE, {"token": "new"})
    old = MasterKey("first", bytes(range(32)))
    newer = MasterKey("second", bytes(32))
    outcome = await rotate(control.database, Vault([newer, old]), lambda _done, _total: None)

    assert (outcome.resealed, outcome.held, outcome.faults) == (2, 0, ())
    for table in ("connector_secret", "staged_secret"):
        assert [row["key_id"] for row in await fetch(f"SELECT * FROM {table}")] == ["second"]  # noqa: S608 - names of ours


@pytest.mark.usefixtures("published")
async def test_staged_value_is_another_rows_alone(
    admin: User, stranger: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector(by=stranger, slug="maps", authType="bearer", secrets={"token": "theirs"})
    await admin.put(STAGE, {"token": "new"})

    assert "staged" not in (await stranger.get(PATH)).json["items"][0]
    await stranger.post("/connectors/maps/publish")
    assert [row["team_id"] for row in await fetch("SELECT * FROM staged_secret")] == ["red"]
