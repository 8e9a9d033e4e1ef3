"""`serve --demo`: a local upstream, and a connector, a plan and a key made as a user would make them.

Everything goes through the admin API on the gateway's own port, so that the demo shows nothing
that a user can't do.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from gateway.demo.upstream import DemoUpstream
from gateway.exchange import Body, Outgoing
from gateway.identity.jwts import Tokens
from gateway.planes import DATA_PLANE
from gateway.settings import ReferenceSettings, Settings
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.answer import Bounds
from gateway.upstream.connections import Upstreams
from gateway.upstream.dialling import Target

TEAM: Final = "demo"
PORT: Final = 8090
_SECRET: Final = "demo-upstream-secret"  # noqa: S105 - the demo's own upstream asks for it
_VARIABLES: Final = ("DAYDREAM_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY")
_KEY_FILE: Final = "demo.key"
_TOKEN_LIFE_S: Final = 60
_MOST_BYTES: Final = 1 << 20
_ENDPOINTS: Final = (
    ("json", "GET", "/json", "A small JSON document."),
    ("echo", "POST", "/echo", "What the upstream saw of the request."),
    ("slow", "GET", "/slow", "Answers after ?seconds=."),
    ("fail", "GET", "/fail", "Always 503."),
    ("events", "GET", "/events", "A server-sent event stream of ?count= events."),
    ("status", "GET", "/status/:code", "Answers with this status."),
    ("bytes", "GET", "/bytes/:count", "So many bytes, streamed."),
    ("chat", "POST", "/chat/completions", "A chat as OpenAI's API would answer it."),
    ("models", "GET", "/models", "The models that chat knows."),
)


class DemoFault(Exception):
    """The demo could not be prepared; the text says what the admin API answered."""


@asynccontextmanager
async def upstream() -> AsyncIterator[DemoUpstream]:
    """The local upstream, on its usual port when that is free."""
    demo = DemoUpstream(_SECRET)
    try:
        await demo.start(port=PORT)
    except OSError:
        await demo.start()
    try:
        yield demo
    finally:
        await demo.stop()


def settings_for(settings: Settings, demo: DemoUpstream) -> Settings:
    """The settings with the demo's own upstream allowed, and nothing else on loopback."""
    networks = (*settings.upstream.allow_networks, f"127.0.0.1:{demo.port}")
    references = [ReferenceSettings(name, ("127.0.0.1",)) for name in _VARIABLES]
    return dataclasses.replace(
        settings,
        upstream=dataclasses.replace(settings.upstream, allow_networks=networks),
        secrets=dataclasses.replace(
            settings.secrets, environment=(*settings.secrets.environment, *references)
        ),
    )


def environment_for(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with the demo upstream's secret where templates look for theirs."""
    return {**environ, **dict.fromkeys(_VARIABLES, _SECRET)}


async def prepare(demo: DemoUpstream, tokens: Tokens, authority: str, data: Path) -> str:
    """Have the connector, the plan and the key; answers the key's value."""
    upstreams = Upstreams(AddressPolicy([Allowed.parse(authority)]))
    try:
        api = _Api(upstreams, tokens, authority)
        await _have_connector(api, f"http://127.0.0.1:{demo.port}")
        plan = await _have_plan(api)
        return await _have_key(api, plan, data / _KEY_FILE)
    finally:
        await upstreams.close()


class _Api:
    """The gateway's own port, as a user sees it."""

    def __init__(self, upstreams: Upstreams, tokens: Tokens, authority: str) -> None:
        token = tokens.mint(team=TEAM, role="admin", user="demo", life_s=_TOKEN_LIFE_S)
        self._upstreams = upstreams
        self._target = Target(urlsplit(f"http://{authority}"), "demo", 5)
        self._token = token

    async def call(
        self, method: str, path: str, content: Any = None, *, token: str = ""
    ) -> tuple[int, Any]:
        """The status and the JSON document of an answer."""
        headers = [
            (b"Authorization", f"Bearer {token or self._token}".encode()),
            (b"Content-Type", b"application/json"),
        ]
        body = b"" if content is None else orjson.dumps(content)
        outgoing = Outgoing(method, f"{DATA_PLANE}/{path}", headers, body)
        bounds = Bounds(30, 10, _MOST_BYTES)
        answer = await self._upstreams.send(self._target, outgoing, Body(None), bounds)
        try:
            got = answer.body
            if got is None:
                got = b"".join([piece async for piece in answer.pieces()])
        finally:
            answer.release()
        return answer.status, orjson.loads(got) if got else None

    async def must(self, method: str, path: str, content: Any = None) -> Any:
        """The document of an answer that has to be good."""
        status, document = await self.call(method, path, content)
        if status >= 400:
            raise DemoFault(f"the demo can't be prepared: {method} {path} answered {document}")
        return document


async def _have_connector(api: _Api, base_url: str) -> None:
    status, connector = await api.call("GET", "admin/connectors/demo")
    if status == 404:
        connector = await api.must(
            "POST",
            "admin/connectors",
            {
                "slug": "demo",
                "displayName": "Demo upstream",
                "description": "The small local upstream of serve --demo.",
                "upstreamBaseUrl": base_url,
                "healthCheckPath": "/json",
                "authType": "bearer",
                "secrets": {"token": _SECRET},
                "endpoints": [
                    {"name": name, "method": method, "path": path, "description": text}
                    | ({"upstreamPath": f"/v1{path}"} if name in {"chat", "models"} else {})
                    for name, method, path, text in _ENDPOINTS
                ],
            },
        )
    elif connector["upstreamBaseUrl"] != base_url or not connector["healthCheckPath"]:
        wanted = {"upstreamBaseUrl": base_url, "healthCheckPath": "/json"}
        connector = await api.must("PATCH", "admin/connectors/demo", wanted)
    if connector["status"] == "draft" or connector["hasUnpublishedChanges"]:
        await api.must("POST", "admin/connectors/demo/publish")


async def _have_plan(api: _Api) -> str:
    plans = (await api.must("GET", "admin/plans?limit=100"))["items"]
    for plan in plans:
        if plan["name"] == "demo":
            return str(plan["id"])
    wanted = {"name": "demo", "displayName": "Demo", "rateLimit": 600, "dailyQuota": 100_000}
    return str((await api.must("POST", "admin/plans", wanted))["id"])


async def _have_key(api: _Api, plan: str, file: Path) -> str:
    """The key that was made before, as long as it works; else a new value."""
    if value := _kept(file):
        status, _ = await api.call("GET", "demo/json", token=value)
        if status == 200:
            return value
    keys = (await api.must("GET", "admin/keys?q=demo&limit=100"))["items"]
    live = [key for key in keys if key["name"] == "demo" and key["status"] == "active"]
    if live:
        made = await api.must("POST", f"admin/keys/{live[0]['id']}/rotate", {"graceSeconds": 0})
    else:
        made = await api.must("POST", "admin/keys", {"name": "demo", "planId": plan})
    value = str(made["key"])
    _keep(file, value)
    return value


def _kept(file: Path) -> str:
    return file.read_text("ascii").strip() if file.exists() else ""


def _keep(file: Path, value: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as kept:
        kept.write(value + "\n")
