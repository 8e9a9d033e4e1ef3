"""WebSocket as far as one who passes it on has to know it: its handshake, and where frames end.

What the frames carry, extensions and subprotocols are between the two ends (RFC 6455 1.8, 9).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha1
from typing import Any, Final, cast

from gateway.http import wire
from gateway.http.messages import Outgoing, RawHeaders
from gateway.problems import Rejected

GOING_AWAY: Final = b"\x88\x02\x03\xe9"
"""A Close frame from a server, with 1001 (RFC 6455 5.5.1, 7.4.1)."""
POLICY_VIOLATION: Final = b"\x88\x02\x03\xf0"
"""The same with 1008: what a caller whose credential has ended is told."""
SWITCHING: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
"""What makes an answer with 101 one that switches (RFC 9110 7.8)."""
_ASKING: Final = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
_FIXED: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_IS_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==").fullmatch
_CLOSE: Final = 0x8
_LENGTH_BYTES: Final = {126: 2, 127: 8}


def is_asked(headers: Mapping[str, str]) -> bool:
    """True when WebSocket is among the protocols that a request could go on with (RFC 9110 7.8)."""
    offered = ",".join(cast("Any", headers).getall("upgrade", [])).split(",")
    return any(_is_name(name.strip(" \t")) for name in offered)


def is_all_asked(headers: Mapping[str, str]) -> bool:
    """True when the first field says nothing else: aiohttp's parser takes that alone for a switch."""
    return _is_name(headers.get("upgrade", ""))


def _is_name(text: str) -> bool:
    return text.isascii() and text.lower() == "websocket"


def ask(method: str, outgoing: Outgoing) -> None:
    """Ask the upstream to switch, if this is a handshake for both sides (RFC 6455 4.1).

    `method` is the caller's. What is not quite a handshake stays a plain request, which the upstream
    answers as it likes.
    """
    if method == outgoing.method == "GET":
        key = _key(outgoing.headers)
        if key is not None and outgoing.body is None:
            outgoing.headers += _ASKING
            outgoing.websocket_key = key


def _key(fields: RawHeaders) -> bytes | None:
    keys = [value for name, value in fields if name.lower() == b"sec-websocket-key"]
    versions = [value for name, value in fields if name.lower() == b"sec-websocket-version"]
    return keys[0] if len(keys) == 1 and _IS_KEY(keys[0]) and versions == [b"13"] else None


def accept_for(key: bytes) -> bytes:
    """The answer to a key that shows it was understood (RFC 6455 4.2.2)."""
    return b64encode(sha1(key + _FIXED, usedforsecurity=False).digest())


def check_switch(message: Any, key: bytes) -> None:
    """Refuse a 101 that does not accept this very handshake. Raises Rejected `upstream_invalid`."""
    headers = message.headers
    options = ",".join(headers.getall("connection", [])).lower().split(",")
    if (
        [name.lower() for name in headers.getall("upgrade", [])] != ["websocket"]
        or "upgrade" not in [option.strip() for option in options]
        or headers.getall("sec-websocket-accept", []) != [accept_for(key).decode("ascii")]
        or "content-length" in headers
        or "transfer-encoding" in headers
    ):
        raise Rejected("upstream_invalid", "The upstream's 101 does not accept the handshake.")
    wire.check_fields(message.raw_headers)


class Frames:
    """Where the frames of one direction end (RFC 6455 5.2); what they carry is skipped, not read."""

    __slots__ = ("_head", "_left_bytes", "is_closing")

    def __init__(self) -> None:
        self._head = b""
        self._left_bytes = 0
        self.is_closing = False
        """True once there was a Close frame."""

    @property
    def is_between(self) -> bool:
        """True when a frame may begin here."""
        return not self._head and not self._left_bytes

    def skip(self, piece: bytes, *, most: int | None = None) -> int:
        """Go through a piece, to the end of `most` frames at most; answers how many bytes that is."""
        at, ended = 0, 0
        while at < len(piece) and ended != most:
            if self._left_bytes:
                step = min(self._left_bytes, len(piece) - at)
                self._left_bytes -= step
                at += step
            else:
                wanted = _head_bytes(self._head)
                step = wanted - len(self._head)
                self._head += piece[at : at + step]
                at = min(at + step, len(piece))
                if len(self._head) < wanted or wanted < _head_bytes(self._head):
                    continue
                self._left_bytes = _payload_bytes(self._head)
                self.is_closing |= self._head[0] & 0xF == _CLOSE
                self._head = b""
            ended += not self._left_bytes
        return at


def _head_bytes(head: bytes) -> int:
    """How long a frame's head is, as far as its first bytes tell."""
    if len(head) < 2:
        return 2
    masked, length = head[1] >> 7, head[1] & 0x7F
    return 2 + _LENGTH_BYTES.get(length, 0) + 4 * masked


def _payload_bytes(head: bytes) -> int:
    length = head[1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(head[2 : 4 if length == 126 else 10])
