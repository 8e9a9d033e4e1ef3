"""Secrets: sealed where they belong, listed without a value, in force for what callers get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin.control import Control
from gateway.secrets.vault import Sealed
from tests.admin.client import Fetch, Make, User, Users

PATH = "/connectors/maps/secrets"


async def test_list_tells_which_since_when_and_by_whom(
    user: Users, admin: User, viewer: User, make_connector: Make
) -> None:
    await make_connector(authType="basic")
    unset = (await viewer.get(PATH)).json
    assert unset == {
        "items": [
            {"name": "username", "set": False, "used": True},
            {"name": "password", "set": False, "used": True},
        ],
        "nextCursor": None,
    }
    put = await user("admin", name="amy").put(PATH, {"password": "p4ssw0rd"})
    assert put.status == 200
    listed = (await viewer.get(PATH)).json
    assert put.json == listed
    assert "p4ssw0rd" not in put.text
    (_, password) = listed["items"]
    assert (password["set"], password["updatedBy"]) == (True, "amy")
    assert password["updatedAt"].endswith("Z")
    assert "reference" not in password


async def test_value_is_sealed_for_its_place(
    admin: User, make_connector: Make, control: Control, fetch: Fetch
) -> None:
    made = await make_connector(authType="bearer", secrets={"token": "first"})
    await admin.put(PATH, {"token": "sécond"})
    (row,) = await fetch("SELECT key_id, sealed, reference FROM connector_secret")
    sealed = Sealed(row["key_id"], row["sealed"])

    opened = control.vault.open(sealed, team="red", connector=made["id"], name="token")
    assert (opened, row["reference"]) == ("sécond", None)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"other": "x"}, "/other"),
        ({"username": ""}, "/username"),
        ({"username": None}, "/username"),
        ({"username": 1}, "/username"),
        ({"username": "a\r\nb"}, "/username"),
        ({"username": "a\tb"}, "/username"),
        ({"username": " a"}, "/username"),
        ({"password": "a "}, "/password"),
        ({"password": " "}, "/password"),
        ({"password": "a\u00a0"}, "/password"),
        ({"username": " env:DAYDREAM_API_KEY"}, "/username"),
        ({"username": "with:colon"}, "/username"),
        ({"username": "x" * 16_385}, "/username"),
        ({"": "x"}, "/"),
    ],
)
async def test_value_that_cannot_be_used_is_refused(
    body: dict[str, Any], pointer: str, admin: User, make_connector: Make
) -> None:
    await make_connector(authType="basic")
    answer = await admin.put(PATH, body)

    assert (answer.status, answer.pointers) == (422, [pointer])


async def test_one_wrong_name_sets_none(admin: User, make_connector: Make) -> None:
    await make_connector(authType="basic")
    await admin.put(PATH, {"username": "u", "other": "x"})

    assert [item["set"] for item in (await admin.get(PATH)).json["items"]] == [False, False]


async def test_allowed_reference_is_kept_as_one(
    admin: User, make_connector: Make, fetch: Fetch
) -> None:
    await make_connector(authType="bearer", upstreamBaseUrl="https://api.daydream.live")
    answer = await admin.put(PATH, {"token": "env:DAYDREAM_API_KEY"})

    assert answer.json["items"][0]["reference"] == "env:DAYDREAM_API_KEY"
    (row,) = await fetch("SELECT sealed, reference FROM connector_secret")
    assert row == {"sealed": None, "reference": "env:DAYDREAM_API_KEY"}
    await admin.put(PATH, {"token": "a value again"})
    (row,) = await fetch("SELECT reference FROM connector_secret")
    assert row == {"reference": None}


@pytest.mark.parametrize("url", ["http://api.daydream.live", "https://api.daydream.live:8443"])
async def test_reference_is_for_one_scheme_and_port(
    url: str, admin: User, make_connector: Make
) -> None:
    await make_connector(authType="bearer", upstreamBaseUrl=url)
    answer = await admin.put(PATH, {"token": "env:DAYDREAM_API_KEY"})

    assert (answer.status, answer.pointers) == (422, ["/token"])
    assert "operator has to allow" in answer.json["detail"]


@pytest.mark.parametrize("name", ["OTHER_KEY", "PATH", "UNSET"])
async def test_other_references_need_the_operator(
    name: str, admin: User, make_connector: Make
) -> None:
    await make_connector(authType="bearer", upstreamBaseUrl="https://api.daydream.live")
    answer = await admin.put(PATH, {"token": f"env:{name}"})

    assert (answer.status, answer.pointers) == (422, ["/token"])
    assert "operator has to allow" in answer.json["detail"]


async def test_file_is_kept_as_a_reference_and_published_while_it_is_there(
    admin: User, make_connector: Make, fetch: Fetch, tmp_path: Path
) -> None:
    await make_connector(authType="bearer", upstreamBaseUrl="https://api.daydream.live")
    reference, text = f"file:{tmp_path}/key", "from-a-file\n"
    unset = await admin.put(PATH, {"token": reference})
    assert (unset.status, unset.pointers) == (422, ["/token"])
    (tmp_path / "key").write_text(text)
    answer = await admin.put(PATH, {"token": reference})

    assert answer.json["items"][0]["reference"] == reference
    (row,) = await fetch("SELECT sealed, reference FROM connector_secret")
    assert row == {"sealed": None, "reference": reference}
    assert (await admin.post("/connectors/maps/publish?dryRun=true")).status == 200
    (tmp_path / "key").write_text("")
    refused = await admin.post("/connectors/maps/publish")
    assert refused.pointers == ["/secrets/token"]
    assert text.strip() not in refused.text


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "{here}/../x", "{here}", "{here}x", "/", "//{here}/key"]
)
async def test_other_files_need_the_operator(
    path: str, admin: User, make_connector: Make, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("from-a-file")
    await make_connector(authType="bearer", upstreamBaseUrl="https://api.daydream.live")
    answer = await admin.put(PATH, {"token": f"file:{path.format(here=tmp_path)}"})

    assert (answer.status, answer.pointers) == (422, ["/token"])
    assert "operator has to allow" in answer.json["detail"]


async def test_file_is_for_its_hosts(admin: User, make_connector: Make, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-a-file")
    await make_connector(authType="bearer", upstreamBaseUrl="https://evil.example.net")
    answer = await admin.put(PATH, {"token": f"file:{tmp_path}/key"})

    assert (answer.status, answer.pointers) == (422, ["/token"])


async def test_reference_of_a_moved_connector_stops_its_publish(
    admin: User, make_connector: Make
) -> None:
    await make_connector(
        authType="bearer",
        upstreamBaseUrl="https://api.daydream.live",
        secrets={"token": "env:DAYDREAM_API_KEY"},
    )
    assert (await admin.post("/connectors/maps/publish?dryRun=true")).status == 200
    await admin.patch("/connectors/maps", {"upstreamBaseUrl": "https://evil.example.net"})

    assert (await admin.post("/connectors/maps/publish")).pointers == ["/secrets/token"]


async def test_deleted_secret_is_not_set(admin: User, make_connector: Make) -> None:
    await make_connector(authType="bearer", secrets={"token": "t"})

    assert (await admin.delete(f"{PATH}/token")).status == 204
    assert (await admin.delete(f"{PATH}/token")).status == 404
    assert (await admin.get(PATH)).json["items"] == [{"name": "token", "set": False, "used": True}]


async def test_secret_that_callers_still_need_can_be_changed(
    admin: User, make_connector: Make
) -> None:
    """The working copy names another one already; what is published goes on with the old name."""
    await make_connector(authType="bearer", secrets={"token": "t"})
    await admin.post("/connectors/maps/publish")
    await admin.patch("/connectors/maps", {"authConfig": {"tokenRef": "new"}})

    names = [item["name"] for item in (await admin.get(PATH)).json["items"]]
    assert names == ["new", "token"]
    assert (await admin.put(PATH, {"token": "t2", "new": "n"})).status == 200


async def test_secret_that_nothing_names_is_listed_until_it_is_deleted(
    admin: User, make_connector: Make
) -> None:
    await make_connector(authType="bearer", secrets={"token": "t"})
    await admin.patch("/connectors/maps", {"authType": "none"})
    (left,) = (await admin.get(PATH)).json["items"]

    assert (left["name"], left["set"], left["used"]) == ("token", True, False)
    assert (await admin.put(PATH, {"token": "t2"})).status == 422
    assert (await admin.delete(f"{PATH}/token")).status == 204
    assert (await admin.get(PATH)).json["items"] == []


async def test_setting_a_secret_is_no_change_of_the_working_copy(
    admin: User, make_connector: Make
) -> None:
    await make_connector(authType="bearer", secrets={"token": "t"})
    published = (await admin.post("/connectors/maps/publish")).json
    await admin.put(PATH, {"token": "t2"})

    assert (await admin.get("/connectors/maps")).json == published
