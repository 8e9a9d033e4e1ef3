"""Our own upstream, for machines without nginx: one prebuilt answer to whatever is a request.

Like the nginx one it answers 403 when the call does not carry the upstream's secret, so every
call that is counted has proved that the proxy put the secret in.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

from call import ANSWER, SECRET

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
GOOD = HEAD.format(len(ANSWER)).encode() + ANSWER
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
PROOF = f": Bearer {SECRET}\r\n".encode()


class Upstream(asyncio.Protocol):
    """One connection; a message may come in pieces, and several in one piece."""

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (head := self.received.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(self.received, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self.received) < end:
                return
            good = PROOF in self.received[: head + 2]
            self.received = self.received[end:]
            self.transport.write(GOOD if good else REFUSED)


async def main(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
