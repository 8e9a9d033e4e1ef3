"""A TLS server on loopback that ends its connections with close_notify, or as an attacker would."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import pytest
import uvloop

PATIENCE_S = 30.0
NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(uvloop.new_event_loop, id="uvloop"),
]
"""They differ in what a protocol is told of the end of TLS."""


class TlsServer:
    """Gives each connection one answer, says goodbye if it is to, and ends it.

    The loop `holding`, if any, sees nothing of an answer before all of it and its end are there, so
    that it is to fit into the socket's buffer.
    """

    def __init__(
        self,
        certificate: str,
        answer: bytes,
        says_goodbye: bool = False,
        holding: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.certificate = certificate
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.certificate)
        self.requests: list[bytes] = []
        self._open: list[socket.socket] = []
        self._answer = answer
        self._says_goodbye = says_goodbye
        self._holding = holding
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with suppress(OSError):  # it is over already
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                accepted, _ = self._listener.accept()
                accepted.settimeout(PATIENCE_S)
                sock = self.context.wrap_socket(
                    accepted, server_side=True, do_handshake_on_connect=False
                )
                self._open.append(sock)
                with sock, suppress(OSError):
                    self._converse(sock)

    def _converse(self, sock: ssl.SSLSocket) -> None:
        try:
            sock.do_handshake()
        except ssl.SSLError:
            while socket.socket.recv(sock, 65_536):  # a close with something unread is a reset
                pass
            return
        self.requests.append(sock.recv(65_536))
        over = threading.Event()
        if self._holding is not None:
            held = threading.Event()
            self._holding.call_soon_threadsafe(held.set)
            self._holding.call_soon_threadsafe(over.wait, PATIENCE_S)
            held.wait(PATIENCE_S)
        try:
            sock.sendall(self._answer)
            if self._says_goodbye:
                sock.setblocking(False)  # the other side's is not waited for
                with suppress(ssl.SSLWantReadError):
                    sock.unwrap()
            sock.close()
        finally:
            over.set()
