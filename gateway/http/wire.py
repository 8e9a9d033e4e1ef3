"""Messages as bytes: heads, and the framing of bodies (RFC 9112 6), both ways."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Protocol

from gateway.http.header_fields import HOP_BY_HOP, TCHARS, nominated, without
from gateway.http.messages import Outgoing, RawHeaders, Response
from gateway.problems import Rejected

_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode("ascii")
    for status in [entry.value for entry in HTTPStatus]
}
_NAMES: Final = re.compile(rf"{TCHARS}(?:\n{TCHARS})*".encode("ascii")).fullmatch
_BAD_VALUE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
_BODYLESS: Final = frozenset({204, 304})
_RESET: Final = 205
_UPGRADE_REQUIRED: Final = 426
_UPGRADE: Final = b"Connection: Upgrade\r\n"
_OURS: Final = HOP_BY_HOP | {b"content-length"}
_HAS_OURS: Final = re.compile(rb"\n(?:%b):" % b"|".join(sorted(_OURS))).search
_CLOSE: Final = b"Connection: close\r\n"
_KEEP: Final = b"Connection: keep-alive\r\n"
_FIELD: Final = b": ".join
_LINES: Final = b"\r\n".join


class AnswerBroken(ConnectionError):
    """The answer could not be completed; what was sent of it must look cut off."""


class Outlet(Protocol):
    """Where bytes go: written at once, `drain` waits until there is room again."""

    def write(self, block: bytes) -> None: ...
    async def drain(self) -> None: ...


class DateClock:
    """The Date field (RFC 9110 6.6.1), made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._field = b""

    def field(self) -> bytes:
        """`Date: …` with its line end."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._field = f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        return self._field


def status_line(status: int) -> bytes:
    """The status line with our own reason phrase; an upstream's is never passed on."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def has_no_body(method: str, status: int) -> bool:
    """True when the message ends with its head (RFC 9112 6.3)."""
    return method == "HEAD" or status in _BODYLESS or status < 200


def head(
    response: Response, date: bytes, framing: bytes, *, close: bool, says_kept: bool = False
) -> bytes:
    """The head of an answer; Date is added when the answer has none.

    `says_kept` is for HTTP/1.0, where a connection is kept only if that is said (RFC 9112 9.3).

    How it is framed, and what ends at a connection, is for who owns the connection: what filters
    say of it is left out (RFC 9110 7.6.1). A 426 says what to upgrade to (RFC 9110 15.5.22).
    """
    fields = _LINES([*map(_FIELD, response.headers), b""])
    lower = b"\n" + fields.lower()
    if _HAS_OURS(lower):
        fields = _LINES([*map(_FIELD, _end_to_end(response)), b""])
        lower = b"\n" + fields.lower()
        if b"\nupgrade:" in lower:
            framing += _UPGRADE
    dated = b"\ndate:" in lower
    return b"".join(
        (
            status_line(response.status),
            fields,
            b"" if dated else date,
            framing,
            _CLOSE if close else _KEEP if says_kept else b"",
            b"\r\n",
        )
    )


def _end_to_end(response: Response) -> RawHeaders:
    """The fields without those that are the connection's; a 426 keeps its Upgrade."""
    headers, kept_too = response.headers, frozenset[bytes]()
    if response.status == _UPGRADE_REQUIRED:
        kept_too = frozenset({b"upgrade"})
    return without(headers, (_OURS | nominated(headers)) - kept_too)


def whole(
    response: Response, *, method: str, date: bytes, close: bool, says_kept: bool = False
) -> bytes | None:
    """The whole message as one block; None when its body comes in pieces."""
    body, status = response.body, response.status
    if method == "HEAD" or status in _BODYLESS or status < 200:
        length = len(body) if isinstance(body, bytes) and body else response.length
        framing, body = b"", b""
        if length is not None and status != 204 and status >= 200:
            framing = b"Content-Length: %d\r\n" % length
    elif status == _RESET:  # no content, and framed so that the client knows it (RFC 9110 15.3.6)
        framing, body = b"Content-Length: 0\r\n", b""
    elif isinstance(body, bytes):
        framing = b"Content-Length: %d\r\n" % len(body)
    else:
        return None
    return head(response, date, framing, close=close, says_kept=says_kept) + body


async def write(
    outlet: Outlet, response: Response, *, method: str, date: bytes, close: bool, chunks: bool
) -> None:
    """Write an answer: one block when its body is bytes, else the head and each piece as it comes.

    `chunks` is False for HTTP/1.0, which knows no chunks: the end of the connection is the end of
    the body, so `close` must be set. Raises AnswerBroken when a body ends before its length.
    """
    says_kept = not chunks and not close
    block = whole(response, method=method, date=date, close=close, says_kept=says_kept)
    body = response.body
    if block is not None or isinstance(body, bytes):
        outlet.write(block or b"")
        await outlet.drain()
    elif response.length is not None:
        framing = b"Content-Length: %d\r\n" % response.length
        outlet.write(head(response, date, framing, close=close, says_kept=says_kept))
        await _write_counted(outlet, body, response.length)
    else:
        framing = b"Transfer-Encoding: chunked\r\n" if chunks else b""
        outlet.write(head(response, date, framing, close=close))
        async for piece in body:
            if not piece:
                continue  # a chunk without bytes is the end of the message
            outlet.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunks else piece)
            await outlet.drain()
        if chunks:
            outlet.write(b"0\r\n\r\n")


async def _write_counted(outlet: Outlet, body: AsyncIterator[bytes], length: int) -> None:
    left = length
    async for piece in body:
        left -= len(piece)
        if left < 0:
            raise AnswerBroken("the body is longer than its length says")
        outlet.write(piece)
        await outlet.drain()
    if left:
        raise AnswerBroken("the body is shorter than its length says")


def request_head(
    host_field: bytes, outgoing: Outgoing, declared_bytes: int | None, content: bytes | None
) -> bytes:
    """The request's head, and its body when that is here, as one block (RFC 9112 2.1)."""
    parts = [f"{outgoing.method} {outgoing.target} HTTP/1.1\r\n".encode("ascii"), host_field]
    parts.append(_LINES([*map(_FIELD, outgoing.headers), b""]))
    if content is None:
        if declared_bytes is None:
            parts.append(b"Transfer-Encoding: chunked\r\n\r\n")
        else:
            parts.append(b"Content-Length: %d\r\n\r\n" % declared_bytes)
    elif content or outgoing.method in {"POST", "PUT", "PATCH"}:
        parts.append(b"Content-Length: %d\r\n\r\n" % len(content))
        parts.append(content)
    else:
        parts.append(b"\r\n")
    return b"".join(parts)


def check_answer_head(message: Any) -> None:
    """Refuse an answer that could break the framing of ours (RFC 9112 6.3, 11.1)."""
    if not 200 <= message.code <= 599:
        raise Rejected("upstream_invalid", f"The upstream answered with status {message.code}.")
    check_fields(message.raw_headers)
    codings = message.headers.getall("transfer-encoding", None)
    if codings is not None and (
        [coding.lower() for coding in codings] != ["chunked"] or "content-length" in message.headers
    ):
        raise Rejected("upstream_invalid", "The upstream's answer is framed in an unknown way.")


def check_fields(fields: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse header fields that could be read as other ones."""
    if fields and (
        not _are_names(b"\n".join([name for name, _ in fields]))
        or _BAD_VALUE(b"".join([value for _, value in fields]))
    ):
        raise Rejected("upstream_invalid", "The upstream's answer has a malformed header field.")


@lru_cache(maxsize=1024)
def _are_names(joined: bytes) -> bool:
    """True when each line is a field's name; an upstream sends the same ones each time."""
    return _NAMES(joined) is not None


def declared_length(message: Any) -> int | None:
    """The Content-Length of an answer, None when it has none."""
    declared = message.headers.get("content-length")
    return int(declared) if declared is not None and declared.isdigit() else None
