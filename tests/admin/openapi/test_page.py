"""The page of the API's description: nothing from elsewhere, for everyone, and usable."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from playwright.async_api import Page, async_playwright

from admin.openapi.page import PAGES
from tests.admin.client import BASE, read

FILES = Path(__file__).parents[3] / "admin" / "ui"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """A browser's page that fails the test when something is wrong with ours."""
    program = shutil.which("chromium")
    assert program, "this test needs Debian's Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        made = await browser.new_page()
        wrong: list[str] = []
        made.on("pageerror", lambda error: wrong.append(str(error)))
        made.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        yield made
        await browser.close()
        assert wrong == []


@pytest.mark.parametrize("path", PAGES)
async def test_pages_are_for_everyone(path: str, http: TestClient[Any, Any]) -> None:
    response = await http.get(BASE + path)

    assert response.status == 200
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_page_may_load_and_ask_its_own_gateway_alone(http: TestClient[Any, Any]) -> None:
    response = await http.get(f"{BASE}/docs")
    policy = response.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_files_name_nothing_elsewhere() -> None:
    for path in FILES.glob("docs.*"):
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text("utf-8"))
        assert set(found) <= {"http://www.w3.org"}, path


async def test_other_files_of_the_folder_are_not_there(http: TestClient[Any, Any]) -> None:
    answer = await read(await http.get(f"{BASE}/docs/../access.py"))

    assert answer.status == 401


async def test_operation_is_found_and_unfolded(http: TestClient[Any, Any], page: Page) -> None:
    await page.goto(str(http.make_url(f"{BASE}/docs")))
    await page.get_by_label("Search operations").fill("rotate")
    await page.locator("nav a:visible").click()

    shown = page.locator("details.operation[open]")
    assert await shown.locator(".path").inner_text() == "/keys/{key}/rotate"
    assert "graceSeconds" in await shown.inner_text()
    assert "curl -X POST http://127.0.0.1" in await shown.inner_text()


async def test_phone_has_no_sideways_scrolling(http: TestClient[Any, Any], page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.goto(str(http.make_url(f"{BASE}/docs#connectors.create")))
    await page.locator("details.operation[open] .row").first.wait_for()

    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    await page.get_by_role("button", name="Menu").click()
    assert await page.get_by_label("Search operations").is_visible()
