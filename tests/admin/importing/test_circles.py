"""A document whose schemas all refer to each other: quick, small, and nobody else has to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from admin.importing.drafts import ALLOWED, imported
from admin.importing.source import Abandoned
from gateway.tasks import Tasks
from tests.admin.client import Answer, User
from tests.costly_schemas import CIRCLE, OPERATIONS, SCHEMAS
from tests.loopwatch import watching


@asynccontextmanager
async def others_served(user: User) -> AsyncIterator[None]:
    """Another team's call is answered all along, and no callback holds the loop."""
    tasks = Tasks()

    async def neighbour() -> None:
        while True:
            async with asyncio.timeout(2):
                assert (await user.get("/me")).status == 200
            await asyncio.sleep(0.01)

    asking = tasks.start(neighbour(), "neighbour")
    try:
        async with watching():
            yield
        assert not asking.done()
    finally:
        await tasks.stop()


def test_import_of_a_circle_keeps_each_schema_once_and_loses_no_check() -> None:
    item, warnings = imported(
        {"document": CIRCLE, "category": "", "tags": [], "only_tags": [], "only_paths": []}
    )
    own = [entry["body_schema"] for entry in item["endpoints"]]
    bound = len(orjson.dumps(CIRCLE["components"]))

    assert warnings == []
    assert own == [{"$ref": f"#/$defs/S{at % SCHEMAS}"} for at in range(OPERATIONS)]
    assert item["schemas"].keys() == CIRCLE["components"]["schemas"].keys()
    assert len(orjson.dumps([own, item["schemas"]])) < bound


def test_import_ends_when_nobody_waits_for_it() -> None:
    class Gone:
        """As if the client had left after some operations."""

        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 3

    gone: Any = Gone()
    given = {"document": CIRCLE, "category": "", "tags": [], "only_tags": [], "only_paths": []}

    with pytest.raises(Abandoned):
        imported(given, gone)
    assert gone.asked == 4


async def test_import_publish_and_explain_of_a_circle_hold_nobody_up(
    admin: User, viewer: User, stranger: User
) -> None:
    async with others_served(stranger):
        made = await admin.post("/import/openapi", {"document": CIRCLE, "slug": "circle"})
    assert made.status == 201, made.text

    path = f"/connectors/{made.json['id']}"
    async with others_served(stranger):
        published = await admin.post(f"{path}/publish")
    assert published.status == 200, published.text

    described = {
        "connector": "circle",
        "method": "POST",
        "path": "/a1",
        "body": {"x1": {"x2": {}}},
        "caller": {"user": "vic"},
    }
    async with others_served(stranger):
        explained = await viewer.post("/explain", described)
    assert explained.status == 200, explained.text
    assert explained.json["outcome"] == "forwarded"


async def test_endpoints_with_many_patterns_hold_nobody_up(admin: User, stranger: User) -> None:
    fields = {f"f{at}": {"type": "string", "pattern": f"^[a-z]{{1,{at + 1}}}$"} for at in range(40)}
    entries = [
        {
            "name": f"n{at}",
            "method": "POST",
            "path": f"/n{at}",
            "bodySchema": {"properties": fields, "$comment": str(at)},
            "bodyBlacklist": [f"w{word}" for word in range(40)],
        }
        for at in range(400)
    ]
    body = {"slug": "many", "upstreamBaseUrl": "https://many.example.com", "endpoints": entries}

    async with others_served(stranger):
        made = await admin.post("/connectors", body)
    assert made.status == 201, made.text
    async with others_served(stranger):
        published = await admin.post(f"/connectors/{made.json['id']}/publish")
    assert published.status == 200, published.text


async def test_connector_with_more_schemas_than_it_may_have_is_refused(editor: User) -> None:
    body = {"slug": "large", "upstreamBaseUrl": "https://large.example.com"}
    made = (await editor.post("/connectors", body)).json
    path = f"/connectors/{made['id']}/endpoints"

    async def add(number: int) -> Answer:
        schema = {"description": f"{number}" + "x" * 250_000}
        route = {"method": "POST", "path": f"/n{number}"}
        return await editor.post(path, {"name": f"n{number}", **route, "bodySchema": schema})

    statuses = [(await add(number)).status for number in range(8)]
    refused = await add(8)

    assert statuses == [201] * 8
    assert refused.status == 422
    assert refused.pointers == ["/bodySchema"]
    assert "2 MiB" in refused.json["detail"]


async def test_team_has_so_many_imports_at_the_same_time(editor: User) -> None:
    many = range(ALLOWED.at_once + 2)
    bodies = [{"document": CIRCLE, "slug": f"circle-{number}"} for number in many]
    answers = await asyncio.gather(*(editor.post("/import/openapi", body) for body in bodies))

    refused = [answer for answer in answers if answer.status != 201]
    assert [answer.json["code"] for answer in refused] == ["too_many_concurrent"] * 2
