"""A page in Chromium, of an origin of its own, that talks through the gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright

from tests.e2e.services import serving
from tests.e2e.sockets import Front, in_front_of
from tests.templates.mock import Stop

Eventually = Callable[..., Awaitable[None]]
PAGE = """<!doctype html>
<script>
async function talk(url, subprotocols, say) {
  const socket = new WebSocket(url, subprotocols), heard = [];
  socket.binaryType = "arraybuffer";
  return new Promise((resolve) => {
    socket.onopen = () => { for (const one of say) socket.send(one); };
    socket.onmessage = ({data}) => {
      heard.push(typeof data === "string" ? data : [...new Uint8Array(data)].join());
      if (heard.length === say.length) socket.close(4002, "done");
    };
    socket.onclose = ({code, reason}) =>
      resolve({heard, code, reason, protocol: socket.protocol, extensions: socket.extensions});
  });
}

async function listen(url, count) {
  const source = new EventSource(url), heard = [];
  return new Promise((resolve) => {
    const end = (state) => { source.close(); resolve({heard, state}); };
    source.addEventListener("tick", ({data, lastEventId}) => {
      heard.push(`${lastEventId}:${data}`);
      if (heard.length === count) end("heard");
    });
    source.onerror = () => end("refused");
  });
}
</script>"""
FAREWELL = 1000
"""What aiohttp's server answers to whatever code a Close has."""
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


async def talk(request: web.Request) -> web.WebSocketResponse:
    """Echo; the subprotocol is chat where that is offered."""
    socket = web.WebSocketResponse(protocols=("chat",), compress=True)
    await socket.prepare(request)
    async for message in socket:
        await (socket.send_str if isinstance(message.data, str) else socket.send_bytes)(
            message.data
        )
    request.app[ENDS].append((socket.close_code, request.url.raw_query_string))
    return socket


async def tick(request: web.Request) -> web.StreamResponse:
    """Events with their ids, from the one on that was heard last; then silence."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(3):
        await response.write(
            f"id: {number}\nevent: tick\ndata: {request.query_string}\n\n".encode()
        )
    await asyncio.Event().wait()
    return response


async def page(_request: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


ENDS = web.AppKey("ends", list[Any])


class Upstream:
    """Serves the page as well, of which the gateway knows nothing."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    async def start(self) -> tuple[str, Stop]:
        app = web.Application()
        app[ENDS] = self.ends
        app.router.add_get("/page", page)
        app.router.add_get("/talk", talk)
        app.router.add_get("/tick", tick)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}", runner.cleanup


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture(scope="module")
def origin(upstream: Upstream) -> Iterator[str]:
    with serving(upstream.start) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def front(origin: str, open_directory: Path) -> Iterator[Front]:
    with in_front_of(origin, open_directory) as made:
        yield made


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    assert program, "this test needs Debian's Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield made
        await made.close()


@pytest.fixture
async def open_page(browser: Browser, origin: str) -> Page:
    """The page, with nothing of any other."""
    made = await (await browser.new_context()).new_page()
    await made.goto(f"{origin}/page")
    return made


async def said(page: Page, function: str, *arguments: Any) -> dict[str, Any]:
    """What a function of the page comes to."""
    given = ", ".join(map(json.dumps, arguments))
    found: dict[str, Any] = await page.evaluate(f"{function}({given})")
    return found


async def test_page_talks_by_websocket_with_its_key_as_a_subprotocol(
    open_page: Page, front: Front, upstream: Upstream, eventually: Eventually
) -> None:
    credential = f"service-gateway.key.{front.key}"
    for offered, chosen in (
        ([credential], credential),
        (["service-gateway", credential], "service-gateway"),
        (["chat", credential], "chat"),
        (["service-gateway", credential, "chat"], "chat"),
    ):
        got = await said(open_page, "talk", front.url("/talk"), offered, ["hello", "ä€𝄞" * 1000])

        assert got["heard"] == ["hello", "ä€𝄞" * 1000], got
        assert (got["protocol"], got["code"]) == (chosen, FAREWELL)
        assert got["extensions"].startswith("permessage-deflate")
    await eventually(lambda: upstream.ends.count((4002, "")) == 4)


async def test_page_talks_by_websocket_with_its_key_in_the_query(
    open_page: Page, front: Front, upstream: Upstream, eventually: Eventually
) -> None:
    url = front.url(f"/talk?a=%2f&key={quote(front.key)}")
    got = await said(open_page, "talk", url, [], ["hello"])

    assert (got["heard"], got["protocol"], got["code"]) == (["hello"], "", FAREWELL)
    await eventually(lambda: (4002, "a=%2f") in upstream.ends)


async def test_page_hears_events_with_its_key_in_the_query(open_page: Page, front: Front) -> None:
    url = front.url(f"/tick?a=1&key={quote(front.key)}", "http")
    got = await said(open_page, "listen", url, 3)

    assert got == {"heard": ["0:a=1", "1:a=1", "2:a=1"], "state": "heard"}


async def test_page_without_a_good_key_is_refused(open_page: Page, front: Front) -> None:
    bad = front.key[:-1] + ("a" if front.key[-1] != "a" else "b")
    socket = await said(
        open_page, "talk", front.url("/talk"), [f"service-gateway.key.{bad}"], ["x"]
    )
    none = await said(open_page, "talk", front.url("/talk"), ["chat"], ["x"])
    events = await said(open_page, "listen", front.url(f"/tick?key={bad}", "http"), 1)

    assert (socket["heard"], socket["code"]) == ([], 1006)
    assert (none["heard"], none["code"]) == ([], 1006)
    assert events == {"heard": [], "state": "refused"}
