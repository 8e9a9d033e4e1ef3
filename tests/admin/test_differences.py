"""Equality as JSON has it, and differences place by place; writes go by nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from admin.differences import changed, is_same, places
from tests.admin.client import Make, User


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (1, 1.0, True),
        (1e16, 10**16, True),
        (-5.63215250515691e16, -56321525051569100, True),  # as PostgreSQL gives it back
        ((1 << 53) + 1, (1 << 53) + 2, False),
        (-0.0, 0.0, True),
        (1, True, False),
        (0, False, False),
        ([{"a": False}], [{"a": 0}], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {"b": None}, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 2], False),
        ((), [], True),
        ("True", True, False),
        ("1", 1, False),
        (None, False, False),
        (None, {}, False),
    ],
)
def test_same_is_what_json_takes_for_equal(one: Any, other: Any, same: bool) -> None:
    assert is_same(one, other) is same
    assert is_same(other, one) is same
    assert is_same({"in": [one]}, {"in": [other]}) is same


def test_changed_fields_have_their_values_before_and_after() -> None:
    before = {"same": [1], "changed": 1, "gone": "x", "null": None, "switch": 1}
    after = {"same": [1.0], "changed": 2, "new": "y", "switch": True}

    assert changed(before, after) == {
        "changed": [1, 2],
        "gone": ["x", None],
        "switch": [1, True],
        "new": [None, "y"],
    }


def test_objects_differ_member_by_member_and_lists_as_a_whole() -> None:
    before = {"a": {"b": 1, "c/d": 2}, "e": [1, 2]}
    after = {"a": {"b": True, "f": None}, "e": [1]}

    assert [place.told() for place in places(before, after)] == [
        {"op": "replace", "pointer": "/a/b", "before": 1, "after": True},
        {"op": "remove", "pointer": "/a/c~1d", "before": 2, "after": None},
        {"op": "add", "pointer": "/a/f", "before": None, "after": None},
        {"op": "replace", "pointer": "/e", "before": [1, 2], "after": [1]},
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [({"const": 1}, {"const": True}), ({"const": [0]}, {"const": [False]})],
)
async def test_what_only_python_takes_for_equal_is_a_change(
    admin: User, make_connector: Make, first: Any, second: Any
) -> None:
    connector = await make_connector()
    path = f"/connectors/{connector['id']}/endpoints"
    body = {"name": "put", "method": "PUT", "path": "/put", "bodySchema": first}
    made = await admin.post(path, body)

    answer = await admin.patch(f"{path}/{made.json['id']}", {"bodySchema": second})

    assert (answer.status, answer.version) == (200, 2)
    assert is_same((await admin.get(f"{path}/{made.json['id']}")).json["bodySchema"], second)
    assert (await admin.get("/audit")).json["items"][0]["difference"] == {
        "bodySchema": [first, second]
    }
