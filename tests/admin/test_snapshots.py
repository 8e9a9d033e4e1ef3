"""Snapshots: frozen whole, thawed the same, and compared place by place."""

from __future__ import annotations

from typing import Any

from admin import connectors, endpoints
from admin.snapshots import Copy, copy_of, differences, freeze, summary, thawed
from gateway.ids import uuid7
from gateway.transform.compiling import compile_connector

FIND = {"name": "find", "method": "GET", "path": "/find/:place"}


def row(**settings: Any) -> dict[str, Any]:
    body = {"slug": "maps", "upstreamBaseUrl": "https://maps.example.com", **settings}
    return {"id": uuid7(), **connectors.SCHEMA.load(body)}


def entry(id_: Any = None, **settings: Any) -> dict[str, Any]:
    return {"id": id_ or uuid7(), **endpoints.SCHEMA.load({**FIND, **settings})}


def copied(*own: dict[str, Any], **settings: Any) -> Copy:
    return copy_of(row(**settings), own)


def told(before: Copy, after: Copy) -> list[tuple[str, str, Any, Any]]:
    found = [place.told() for place in differences(before, after)]
    return [(one["op"], one["pointer"], one["before"], one["after"]) for one in found]


def test_snapshot_holds_all_and_callers_get_what_is_enabled() -> None:
    connector = row(tags=["geo"], authType="header", authConfig={"headers": {"x": "y"}})
    own = [entry(), entry(name="off", path="/off", enabled=False, bodySchema={"const": True})]
    frozen = freeze(connector, own)

    compiled = compile_connector(frozen, team="red", secrets={})
    assert compiled.router.match("GET", "/find/rome").route.name == "find"
    assert [one["name"] for one in frozen["endpoints"]] == ["find"]
    assert thawed(frozen) == copy_of(connector, own)


def test_older_snapshot_is_thawed_without_what_it_does_not_hold() -> None:
    connector, own = row(), [entry()]
    frozen = freeze(connector, own)
    for name in ("display_name", "tags", "disabled"):
        del frozen[name]

    assert thawed(frozen) == copy_of(connector, own)


def test_same_copies_have_no_difference() -> None:
    one = entry()

    assert told(copied(one), copied(one)) == []


def test_mappings_differ_member_by_member_and_lists_as_a_whole() -> None:
    before = copied(errorMapping={"404": "a", "500": "b"}, tags=["x"])
    after = copied(errorMapping={"404": "c", "503": "d"}, tags=["x", "y"])

    assert told(before, after) == [
        ("replace", "/tags", ["x"], ["x", "y"]),
        ("replace", "/errorMapping/404", "a", "c"),
        ("remove", "/errorMapping/500", "b", None),
        ("add", "/errorMapping/503", None, "d"),
    ]


def test_pointer_of_a_strange_name_is_escaped() -> None:
    before, after = copied(entry(name="a/b~c")), copied()

    ((op, pointer, *_),) = told(before, after)
    assert (op, pointer) == ("remove", "/endpoints/a~1b~0c")


def test_endpoint_belongs_to_itself_by_its_id_then_by_its_name() -> None:
    kept, made_anew = uuid7(), uuid7()
    before = copied(entry(kept, name="one", path="/1"), entry(name="two", path="/2"))
    after = copied(entry(kept, name="two", path="/1"), entry(made_anew, name="one", path="/3"))

    assert {(op, pointer) for op, pointer, _, _ in told(before, after)} == {
        ("replace", "/endpoints/one/name"),
        ("remove", "/endpoints/two"),
        ("add", "/endpoints/one"),
    }
    again = copied(entry(made_anew, name="two", path="/4"))
    assert ("replace", "/endpoints/two/path", "/2", "/4") in told(
        copied(entry(name="two", path="/2")), again
    )


def test_summary_is_a_line() -> None:
    one, other = entry(), entry(name="list", path="/list")
    changed = {**one, "retries": 1}
    many = [entry(name=f"e{n}", path=f"/{n}") for n in range(6)]
    settings = {"description": "x", "errorMapping": {"404": "y"}}

    assert summary(None, freeze(row(), [])) == "The first version."
    assert summary(freeze(row(), [one]), freeze(row(), [one])) == "Nothing has changed."
    assert summary(freeze(row(), [one, other]), freeze(row(), [changed])) == (
        "Changed endpoint find; removed endpoint list."
    )
    assert summary(freeze(row(), []), freeze(row(**settings), many)) == (
        "Changed description, errorMapping; added endpoints e0, e1, e2, e3 and 2 more."
    )
    assert summary(freeze(row(), [one]), freeze(row(), [{**one, "enabled": False}])) == (
        "Changed endpoint find."
    )
