"""Replicate's HTTP API by its reference."""

from __future__ import annotations

from aiohttp import web

from tests.templates import mock
from tests.templates.mock import JSON, Call, Operation, Seen, Stop, get, reply, send, table

SECRETS = {"token": "r8_upstream"}
_RUN = {"input": {"prompt": "x"}}
_MODEL = "/v1/models/black-forest-labs/flux-schnell"
_WAIT = {**JSON, "Prefer": "wait=5"}

CALLS = [
    get("get-account", "/v1/account", b'"username"'),
    send("create-prediction", "/v1/predictions", {"version": "v", **_RUN}, b'"starting"', 201),
    send("create-prediction", "/v1/predictions", _RUN, b"version is missing", 422),
    get("list-predictions", "/v1/predictions?cursor=c", b'"results":['),
    get("get-prediction", "/v1/predictions/gm3qorzd", b'"output":["https://'),
    get("get-prediction", "/v1/predictions/none", b'"status":404', 404),
    Call("cancel-prediction", "POST", "/v1/predictions/gm3qorzd/cancel", holds=b'"canceled"'),
    Call("run-model", "POST", f"{_MODEL}/predictions", _WAIT, b'{"input":{}}', 201, b'"succeeded"'),
    get("get-model", _MODEL, b'"latest_version"'),
    get("list-model-versions", f"{_MODEL}/versions", b'"results":['),
    send("run-deployment", "/v1/deployments/acme/pictures/predictions", _RUN, b'"starting"', 201),
]


async def start() -> tuple[str, Stop]:
    """Start the service; return its base URL and what stops it."""
    return await mock.start(table(_OPERATIONS, _allows, _fault))


def _allows(seen: Seen) -> bool:
    return seen.all("Authorization") == [f"Bearer {SECRETS['token']}"]


def _run(seen: Seen) -> web.Response:
    waits = seen.all("Prefer") == ["wait=5"]
    return reply(_DONE if waits else {**_DONE, "status": "starting", "output": None}, 201)


def _fault(status: int, detail: str) -> web.Response:
    told = 422 if status == 400 else status
    return reply({"title": "Error", "detail": detail, "status": told}, told)


_KIND = "application/json"
_DONE = {"id": "gm3qorzd", "status": "succeeded", "output": ["https://replicate.delivery/x.webp"]}
_DESCRIBED = {"owner": "black-forest-labs", "name": "flux-schnell", "latest_version": {"id": "v"}}
_OPERATIONS = [
    Operation("GET", "/v1/account", {"type": "user", "username": "ada"}),
    Operation("POST", "/v1/predictions", _run, _KIND, ("version", "input")),
    Operation("GET", "/v1/predictions", {"results": [_DONE], "next": None, "previous": None}),
    Operation("GET", "/v1/predictions/gm3qorzd", _DONE),
    Operation("POST", "/v1/predictions/gm3qorzd/cancel", {**_DONE, "status": "canceled"}),
    Operation("POST", f"{_MODEL}/predictions", _run, _KIND, ("input",)),
    Operation("GET", _MODEL, _DESCRIBED),
    Operation("GET", f"{_MODEL}/versions", {"results": [{"id": "v"}], "next": None}),
    Operation("POST", "/v1/deployments/acme/pictures/predictions", _run, _KIND, ("input",)),
]
