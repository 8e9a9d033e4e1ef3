"""Differences between what is and what is declared: exactly those there are."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from admin.state.changes import compare
from admin.state.document import Connector, Declared, Entry, load
from gateway.problems import Rejected
from tests.admin.client import User, Users
from tests.admin.documents import documents

TEAMS = itertools.count()
CHANGED: dict[str, dict[str, Any]] = {
    "connectors": {
        "description": "another",
        "defaultTimeout": 4321,
        "passCookies": True,
        "tags": ["another"],
        "allowedHosts": ["api.daydream.live", "b.example.com"],
        "errorMapping": {"404": "another"},
    },
    "plans": {"rateLimit": 4321, "dailyQuota": 4321, "timeZone": "Europe/Vienna"},
    "keys": {"allowedIPs": ["198.51.100.0/24"], "expiresAt": "2098-01-01T00:00:00Z"},
}


async def export(user: User) -> dict[str, Any]:
    document: dict[str, Any] = (await user.get("/config/export")).json
    return document


async def apply(user: User, document: Any, flags: str = "") -> Any:
    answer = await user.post(f"/config/apply?{flags}", document)
    assert answer.status == 200, answer.text
    return answer.json


@settings(
    max_examples=12,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example is many requests
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(document=documents(), data=st.data())
async def test_export_says_the_same_wherever_it_is_applied(
    document: dict[str, Any], data: st.DataObject, user: Users
) -> None:
    one, other = (user("admin", team=f"team-{next(TEAMS)}") for _ in range(2))

    await apply(one, document)
    assert json.dumps((await apply(one, document))["changes"]) == "[]"
    exported = await export(one)
    assert (await apply(one, exported, "prune=true"))["changes"] == []
    await apply(other, exported)
    assert await export(other) == {**await export(one), "revision": 2}
    assert (await export(other))["digest"] == exported["digest"]

    kinds = [kind for kind in CHANGED if exported[kind]]
    if kinds:
        kind = data.draw(st.sampled_from(kinds))
        at = data.draw(st.integers(0, len(exported[kind]) - 1))
        field, value = data.draw(st.sampled_from(list(CHANGED[kind].items())))
        changed = copy.deepcopy({**exported, "revision": None})
        changed[kind][at][field] = value
        changes = (await apply(other, changed, "dryRun=true"))["changes"]
        if exported[kind][at].get(field) == value:
            assert changes == []
        else:
            assert [change["action"] for change in changes] == ["update"]
            fields = changes[0]["fields"]
            assert {place["pointer"].split("/")[1] for place in fields} == {field}


@given(document=documents())
def test_document_without_what_are_defaults_declares_the_same(document: dict[str, Any]) -> None:
    wanted = load(document, {})
    again = load(wanted.told(), {})

    assert again.told() == wanted.told()
    assert again.digest() == wanted.digest()
    assert compare(wanted, again).changes == []
    assert compare(wanted, again).left == []


def key(name: str, prefix: str | None, place: str = "") -> Entry:
    return Entry({"name": name}, prefix, place)


def test_keys_of_one_name_are_told_apart_or_refused() -> None:
    now = Declared(keys=[key("app", "gw_1"), key("app", "gw_2")])

    assert compare(now, Declared(keys=[key("app", "gw_2"), key("app", None)])).changes == []
    with pytest.raises(Rejected) as caught:
        compare(now, Declared(keys=[key("app", None, "/keys/0"), key("x", "gw_3", "/keys/1")]))
    assert [fault.pointer for fault in caught.value.errors] == ["/keys/0/name", "/keys/1/keyPrefix"]


def test_default_plan_is_never_left_over() -> None:
    now = Declared(plans={"default": Entry({"name": "default"}), "gold": Entry({"name": "gold"})})

    assert [end.name for end in compare(now, Declared()).left] == ["gold"]


def test_what_a_document_leaves_open_is_no_change() -> None:
    settings = {"slug": "maps", "upstreamBaseUrl": "https://a.example.com"}
    now = Connector(settings, {}, {"token": "env:A"}, True)
    wanted = Connector(settings, {}, {"token": None}, None)

    assert compare(Declared(connectors={"maps": now}), Declared(connectors={"maps": wanted})) == (
        [],
        [],
    )
