"""What stands in front of a gateway for https: it ends TLS and passes bytes on, both ways."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.certificates import self_signed
from tests.e2e.services import serving
from tests.templates.mock import Stop


@contextmanager
def https_to(port: int, folder: Path) -> Iterator[tuple[str, str]]:
    """End TLS in front of a port of loopback; gives the base URL and the file with its certificate."""
    certificate = self_signed(folder)
    with serving(partial(_start, port, certificate)) as base_url:
        yield base_url, certificate


async def _start(port: int, certificate: str) -> tuple[str, Stop]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    writers: set[asyncio.StreamWriter] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        writers.update((writer, outer))
        await asyncio.gather(_pass_on(reader, outer), _pass_on(inner, writer))
        for ended in (writer, outer):
            with suppress(ConnectionError):
                await ended.wait_closed()
            writers.discard(ended)

    server = await asyncio.start_server(converse, "127.0.0.1", 0, ssl=context)

    async def stop() -> None:
        server.close()
        for writer in writers:
            writer.transport.abort()
        while writers:  # noqa: ASYNC110 - nobody sets an event for it
            await asyncio.sleep(0.001)

    return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", stop


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()
