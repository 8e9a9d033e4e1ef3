"""The proxy that aiohttp makes easy: `web.Server` and `ClientSession` under uvloop, no policy.

What it costs is the price of the convenient half of aiohttp, which our gateway does without.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

HOP_BY_HOP = frozenset({"connection", "host", "keep-alive", "te", "transfer-encoding", "upgrade"})


async def main(port: int, upstream_port: int) -> None:
    """Serve until the process is ended."""
    connector = TCPConnector(limit=0)
    async with ClientSession(
        f"http://127.0.0.1:{upstream_port}",
        connector=connector,
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
    ) as session:

        async def proxy(request: web.BaseRequest) -> web.StreamResponse:
            headers = [(k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP]
            body = await request.read()
            async with session.request(
                request.method, request.rel_url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                kept = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP]
                payload = await answer.read()
            response = web.Response(status=answer.status, body=payload)
            response.headers.clear()
            response.headers.extend(kept)
            return response

        runner = web.ServerRunner(web.Server(proxy, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
