"""Bodies, parameters and preconditions of a call."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from tests.admin.client import BASE, Answer, Make, User, read


async def send(user: User, content: bytes, kind: str = "application/json") -> Answer:
    headers = {
        "Authorization": f"Bearer {user.token}",
        "x-team-id": user.team,
        "Content-Type": kind,
    }
    return await read(await user.http.post(BASE + "/plans", data=content, headers=headers))


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b'{"name": NaN}', 400, "bad_request"),
        (b"\xff\xfe", 400, "bad_request"),
        (b'{"name": "a\\u0000b"}', 400, "bad_request"),
        (b'{"a\\u0000": 1}', 400, "bad_request"),
        (b'{"name": ' + b"[" * 100 + b"]" * 100 + b"}", 400, "bad_request"),
        (b"[]", 422, "validation_failed"),
        (b'"text"', 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
    ],
)
async def test_body_that_is_no_json_object_is_refused(
    content: bytes, status: int, code: str, cut_off: User
) -> None:
    answer = await send(cut_off, content)

    assert (answer.status, answer.json["code"]) == (status, code)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
async def test_body_that_is_not_called_json_is_refused(kind: str, cut_off: User) -> None:
    assert (await send(cut_off, b'{"name": "gold"}', kind)).status == 415


async def test_json_by_any_name_is_taken(admin: User) -> None:
    for number, kind in enumerate(("application/json; charset=utf-8", "application/x.y+json")):
        assert (await send(admin, b'{"name": "p%d"}' % number, kind)).status == 201


async def test_odd_characters_are_no_fault_of_ours(admin: User) -> None:
    for path, status in (
        ("/connectors?q=a%00b", 400),
        ("/connectors?q=a&q=b", 400),
        ("/connectors/%00", 404),
        ("/connectors/%ff", 404),
        ("/keys/%00", 404),
        ("/templates/%00", 404),
    ):
        assert (await admin.get(path)).status == status, path


async def test_secret_of_an_odd_name_is_unknown(admin: User, make_connector: Make) -> None:
    await make_connector()

    assert (await admin.delete("/connectors/maps/secrets/%00")).status == 404


async def test_if_match_is_compared_strongly(admin: User) -> None:
    made = await admin.post("/plans", {"name": "gold"})
    assert made.version == 1
    path = f"/plans/{made.json['id']}"
    for header in ('"2"', 'W/"1"', "1", '""', '"2", W/"1"'):
        answer = await admin.patch(path, {"rateLimit": 1}, If_Match=header)
        assert (answer.status, answer.json["code"]) == (412, "precondition_failed"), header
    for number, header in enumerate(('"1"', "*", '"7", "3"'), 1):
        answer = await admin.patch(path, {"rateLimit": number}, If_Match=header)
        assert (answer.status, answer.json["version"]) == (200, number + 1), header


async def test_tag_of_an_answer_guards_whatever_else_it_showed(admin: User) -> None:
    made = await admin.post("/plans", {"name": "gold"})
    path = f"/plans/{made.json['id']}"
    await admin.post("/keys", {"name": "app", "planId": made.json["id"]})

    shown = await admin.get(path)
    assert (shown.json["version"], shown.json["keyCount"]) == (1, 1)
    assert shown.etag != made.etag
    assert (await admin.patch(path, {"rateLimit": 1}, If_Match=made.etag)).status == 200
    assert (await admin.patch(path, {"rateLimit": 2}, If_Match=shown.etag)).status == 412


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_read_of_what_is_known_is_304(method: str, admin: User, make_connector: Make) -> None:
    connector = await make_connector()
    key = (await admin.post("/keys", {"name": "app"})).json
    paths = [
        "/connectors/maps",
        f"/connectors/maps/endpoints/{(await admin.all('/connectors/maps/endpoints'))[0]['id']}",
        f"/connectors/{connector['id']}",
        f"/keys/{key['id']}",
        f"/plans/{(await admin.all('/plans'))[0]['id']}",
        "/config/export",
    ]
    for path in paths:
        tag = (await admin.get(path)).etag
        for header in (tag, f"W/{tag}", "*", f'"a,b" , W/"x",{tag}'):
            answer = await admin.call(method, path, If_None_Match=header)
            assert (answer.status, answer.text, answer.etag) == (304, "", tag), (path, header)
            assert "Content-Type" not in answer.headers
            assert answer.headers["Cache-Control"] == "no-store"
        for header in ('"x"', tag.strip('"'), '"*"', ""):
            answer = await admin.call(method, path, If_None_Match=header)
            assert (answer.status, answer.etag) == (200, tag), (path, header)


async def test_read_of_what_has_changed_is_whole(admin: User) -> None:
    made = (await admin.post("/plans", {"name": "gold"})).json
    path = f"/plans/{made['id']}"
    tag = (await admin.get(path)).etag
    await admin.post("/keys", {"name": "app", "planId": made["id"]})

    counted = await admin.get(path, If_None_Match=tag)
    assert (counted.status, counted.json["keyCount"]) == (200, 1)
    await admin.patch(path, {"rateLimit": 1})
    changed = await admin.get(path, If_None_Match=f"{tag}, {counted.etag}")
    assert (changed.status, changed.json["rateLimit"]) == (200, 1)


async def test_condition_of_reads_is_none_of_writes_and_lists(admin: User) -> None:
    made = await admin.post("/plans", {"name": "gold"}, If_None_Match="*")
    assert made.status == 201
    assert (await admin.get("/plans", If_None_Match="*")).status == 200
    unknown = f"/plans/{made.json['id'][:-4]}0000"
    assert (await admin.get(unknown, If_None_Match="*")).status == 404


async def test_location_leads_to_the_object(admin: User, make_connector: Make) -> None:
    """It is relative, so that it is right below any path prefix."""
    await make_connector()
    for path, body in [
        ("/connectors", {"slug": "second", "upstreamBaseUrl": "https://a.example.com"}),
        ("/connectors/maps/endpoints", {"name": "b", "method": "GET", "path": "/b"}),
        ("/plans", {"name": "gold"}),
        ("/keys", {"name": "app"}),
        ("/templates", {"templateId": "daydream"}),
    ]:
        made = await admin.post(path, body)
        place = urljoin(BASE + path, made.headers["Location"])
        found = await admin.get(place.removeprefix(BASE))
        assert (made.status, found.status) == (201, 200), path
        assert found.json["id"] == made.json["id"]


async def test_large_body_is_checked_like_a_small_one(admin: User) -> None:
    filling = "x" * 100_000

    answer = await admin.post("/plans", {"name": "gold", "displayName": filling})
    assert answer.pointers == ["/displayName"]
    assert (await admin.post("/plans", {"name": "a\0", "displayName": filling})).status == 400
    assert (await admin.post("/plans", [filling])).pointers == [""]
