"""Pages: every row once while the list changes."""

from __future__ import annotations

import asyncio

import pytest

from tests.admin.client import User


async def plans(admin: User, count: int) -> list[str]:
    made = await asyncio.gather(
        *(admin.post("/plans", {"name": f"plan-{number:03}"}) for number in range(count))
    )
    return [answer.json["id"] for answer in made]


@pytest.mark.parametrize("sort", ["newest", "name"])
async def test_pages_hold_every_row_once(sort: str, admin: User) -> None:
    made = await plans(admin, 24)
    first = (await admin.get(f"/plans?sort={sort}&limit=10")).json
    assert len(first["items"]) == 10
    items = await admin.all(f"/plans?sort={sort}&limit=10")
    ids = [item["id"] for item in items if item["name"] != "default"]

    assert sorted(ids) == sorted(made)
    key = "name" if sort == "name" else "id"
    values = [item[key] for item in items]
    assert values == sorted(values, reverse=sort == "newest")


@pytest.mark.parametrize("sort", ["newest", "name"])
async def test_change_between_pages_repeats_nothing_and_loses_nothing(
    sort: str, admin: User
) -> None:
    made = await plans(admin, 12)
    seen: list[str] = []
    cursor = ""
    for number in range(6):
        answer = await admin.get(f"/plans?sort={sort}&limit=3{cursor}")
        seen += [item["id"] for item in answer.json["items"]]
        if answer.json["nextCursor"] is None:
            break
        cursor = f"&cursor={answer.json['nextCursor']}"
        await admin.post("/plans", {"name": f"aaa-{number}"})
        await admin.delete(f"/plans/{seen[-1]}")

    assert len(seen) == len(set(seen))
    assert set(made) <= set(seen)


async def test_exactly_full_last_page_has_no_next(admin: User) -> None:
    await plans(admin, 3)

    assert (await admin.get("/plans?limit=4")).json["nextCursor"] is None
    assert (await admin.get("/plans?limit=3")).json["nextCursor"] is not None


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "/limit"),
        ("limit=101", "/limit"),
        ("limit=ten", "/limit"),
        ("sort=oldest", "/sort"),
        ("page=2", "/page"),
        ("status=live", "/status"),
        ("cursor=x", "/cursor"),
        ("cursor=WyJuYW1lIiwiYSJd", "/cursor"),
        ("cursor=WyJuZXdlc3QiLDFd", "/cursor"),
        ("cursor=%C3%BC", "/cursor"),
    ],
)
async def test_odd_parameters_are_refused_by_name(query: str, pointer: str, cut_off: User) -> None:
    answer = await cut_off.get(f"/connectors?{query}")

    assert (answer.status, answer.pointers) == (422, [pointer])


async def test_cursor_is_for_its_own_order(admin: User) -> None:
    await plans(admin, 3)
    cursor = (await admin.get("/plans?limit=1")).json["nextCursor"]

    answer = await admin.get(f"/plans?limit=1&sort=name&cursor={cursor}")
    assert (answer.status, answer.pointers) == (422, ["/cursor"])
