"""A user of the admin API: real HTTP on loopback, with a token and a team of one's own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient
from marshmallow import ValidationError

from admin.problems import faults
from gateway.ids import uuid7

BASE = "/api/v1/gw/admin"
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


Tokened = Callable[..., str]
Users = Callable[..., "User"]
Make = Callable[..., Awaitable[dict[str, Any]]]
Fetch = Callable[..., Awaitable[list[dict[str, Any]]]]
Record = Callable[..., Awaitable[str]]

START = datetime(2026, 11, 1, tzinfo=UTC)
"""When the records begin that tests make."""
MAPS = uuid7()
"""The connector that they are of."""


@dataclass(frozen=True)
class Answer:
    """What came back, read whole."""

    status: int
    headers: Any
    text: str
    json: Any

    @property
    def etag(self) -> str:
        return str(self.headers["ETag"])

    @property
    def version(self) -> int:
        """The version in the ETag."""
        return int(self.etag.strip('"').partition("-")[0])

    @property
    def pointers(self) -> list[str]:
        """Where the faults of a problem are."""
        return [error["pointer"] for error in self.json["errors"]]


@dataclass(frozen=True)
class User:
    """Someone with a token for some teams, who acts for one of them."""

    http: TestClient[Any, Any]
    token: str
    team: str

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; header names may be written with underscores."""
        sent = {"Authorization": f"Bearer {self.token}", "x-team-id": self.team}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.http.request(method, BASE + path, json=body, headers=sent)
        return await read(response)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.call("GET", path, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return await self.call("POST", path, body, **headers)

    async def put(self, path: str, body: Any, **headers: str) -> Answer:
        return await self.call("PUT", path, body, **headers)

    async def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return await self.call("PATCH", path, body, **headers)

    async def delete(self, path: str, **headers: str) -> Answer:
        return await self.call("DELETE", path, **headers)

    async def all(self, path: str) -> list[dict[str, Any]]:
        """The items of every page of a list."""
        items: list[dict[str, Any]] = []
        cursor = ""
        while True:
            joint = "&" if "?" in path else "?"
            answer = await self.get(f"{path}{joint}cursor={cursor}" if cursor else path)
            assert answer.status == 200, answer.text
            items += answer.json["items"]
            if (cursor := answer.json["nextCursor"]) is None:
                return items


def refused_at(schema: Any, body: Any) -> list[str]:
    """The pointers of the faults that a schema finds in a body."""
    with pytest.raises(ValidationError) as caught:
        schema.load(body)
    return [fault.pointer for fault in faults(caught.value.messages)]


async def read(response: ClientResponse) -> Answer:
    """An answer with its body, parsed when it is JSON."""
    text = await response.text()
    is_json = response.content_type.endswith("json") and "ndjson" not in response.content_type
    document = await response.json(content_type=None) if text and is_json else None
    return Answer(response.status, response.headers, text, document)
