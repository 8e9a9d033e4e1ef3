"""The page that shows the API's description: a few files of ours, nothing from elsewhere.

They are the same for everyone, so no token is needed; the policy that goes with them lets the page
load and ask nothing but its own gateway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web

from admin.openapi import document

_FILES: Final = Path(__file__).parents[1] / "ui"
_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)

Page = Callable[[web.Request], Awaitable[web.Response]]


def _file(name: str, media_type: str) -> Page:
    content = (_FILES / name).read_bytes()

    async def page(request: web.Request) -> web.Response:
        return web.Response(
            body=content,
            content_type=media_type,
            charset="utf-8",
            headers={"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"},
        )

    return page


PAGES: Final[Mapping[str, Page]] = {
    "/openapi.json": document.show,
    "/docs": _file("docs.html", "text/html"),
    "/docs/docs.js": _file("docs.js", "text/javascript"),
    "/docs/docs.css": _file("docs.css", "text/css"),
}
