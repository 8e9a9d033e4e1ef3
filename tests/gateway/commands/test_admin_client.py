"""The command line's client of the admin API: what it sends, and lines that say what to do."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.commands.admin_client import AdminClient, CallFault, local_url

TOKEN = "a-token-that-nobody-shall-see"
Serve = Callable[..., Any]


@pytest.fixture
async def seen() -> list[web.Request]:
    """The requests that came."""
    return []


@pytest.fixture
async def serve(seen: list[web.Request]) -> AsyncIterator[Serve]:
    """Serve one answer to everything; gives the URL, of a Unix socket for a path."""
    runners: list[web.AppRunner] = []

    async def start(status: int, body: Any, path: Path | None = None) -> str:
        async def answer(request: web.Request) -> web.Response:
            await request.read()
            seen.append(request)
            headers = {"ETag": '"7"'}
            if isinstance(body, str):
                return web.Response(status=status, text=body, headers=headers)
            return web.json_response(body, status=status, headers=headers)

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", answer)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        site = web.UnixSite(runner, str(path)) if path else web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"unix:{path}" if path else f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def lines(work: Callable[[], Any]) -> tuple[str, ...]:
    with pytest.raises(CallFault) as caught:
        await asyncio.to_thread(work)
    assert TOKEN not in str(caught.value)
    return caught.value.lines


async def test_sends_token_team_and_document(serve: Serve, seen: list[web.Request]) -> None:
    client = AdminClient(await serve(200, {"a": 1}) + "/tools/", TOKEN, "red")

    got = await asyncio.to_thread(client.get, "/config/export", {"tag": "a b"})
    query = {"dryRun": "true"}
    await asyncio.to_thread(lambda: client.post("/config/apply", query, {"b": 2}, if_match='"6"'))

    assert (got.document, got.etag) == ({"a": 1}, '"7"')
    first, second = seen
    assert first.path_qs == "/tools/api/v1/gw/admin/config/export?tag=a+b"
    assert (first.headers["Authorization"], first.headers["x-team-id"]) == (
        f"Bearer {TOKEN}",
        "red",
    )
    assert (second.method, second.headers["If-Match"]) == ("POST", '"6"')
    assert await second.json() == {"b": 2}


async def test_unix_socket_is_called(serve: Serve, seen: list[web.Request]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        client = AdminClient(await serve(200, {}, Path(folder, "admin.sock")), TOKEN)
        await asyncio.to_thread(client.get, "/config/export", {})

    assert seen[0].path_qs == "/api/v1/gw/admin/config/export"
    assert "x-team-id" not in seen[0].headers


async def test_faults_of_a_document_are_told_at_their_places(serve: Serve) -> None:
    errors = [{"pointer": "/a", "detail": "Wrong."}, {"pointer": "/b", "detail": "Too long."}]
    url = await serve(422, {"detail": "There are 2 faults.", "errors": errors})
    client = AdminClient(url, TOKEN, place=lambda pointer: f"x.yaml: {pointer}")

    told = await lines(lambda: client.post("/config/apply", {}, {}))

    assert told == ("x.yaml: /a: Wrong.", "x.yaml: /b: Too long.")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, {"detail": "This needs the role editor."}, "This needs the role editor."),
        (401, {"detail": "No."}, "the token is refused"),
        (412, {"detail": "No."}, "the state has changed meanwhile: run the command again"),
        (404, "nothing here", "answers 404: is it the gateway's admin API?"),
        (302, {"x": 1}, "answers 302: is it"),
    ],
)
async def test_refusal_is_one_line(status: int, body: Any, told: str, serve: Serve) -> None:
    client = AdminClient(await serve(status, body), TOKEN)

    (line,) = await lines(lambda: client.get("/config/export", {}))

    assert told in line


async def test_answer_that_is_not_json_is_told(serve: Serve) -> None:
    client = AdminClient(await serve(200, "<html>"), TOKEN)

    (line,) = await lines(lambda: client.get("/config/export", {}).document)

    assert "not JSON" in line


async def test_gateway_that_is_not_there_is_told(unused_tcp_port: int, tmp_path: Path) -> None:
    for url in (f"http://127.0.0.1:{unused_tcp_port}", f"unix:{tmp_path}/none"):
        client = AdminClient(url, TOKEN)
        (line,) = await lines(lambda: client.get("/config/export", {}))  # noqa: B023 - at once
        assert line.startswith(f"{url} does not answer (")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://a", "http://", "http://u:p@a", "http://[x"]
)
def test_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(CallFault, match="is no URL such as"):
        AdminClient(url, TOKEN).get("/config/export", {})


def test_token_that_can_not_be_sent_is_told_without_it() -> None:
    with pytest.raises(CallFault) as caught:
        AdminClient("http://127.0.0.1", "a\r\nb")

    assert "printable ASCII" in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080/tools"),
        ("0.0.0.0:80", "http://127.0.0.1:80/tools"),
        ("[::]:80", "http://[::1]:80/tools"),
        ("unix:/run/gw.sock", "unix:/run/gw.sock"),
    ],
)
def test_own_listener_is_reached_by_loopback(listen: str, url: str) -> None:
    assert local_url(listen, "/tools") == url
