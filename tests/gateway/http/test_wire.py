"""Messages as bytes, read back by h11, a second and strict parser; and upstream heads that lie."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import h11
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.messages import Outgoing, RawHeaders, Response
from gateway.http.wire import (
    AnswerBroken,
    DateClock,
    check_answer_head,
    declared_length,
    has_no_body,
    request_head,
    status_line,
    whole,
    write,
)
from gateway.problems import Rejected

DATE = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"


class Wire:
    """Keeps what is written to it."""

    def __init__(self) -> None:
        self.sent = b""
        self.drained = 0

    def write(self, block: bytes) -> None:
        self.sent += block

    async def drain(self) -> None:
        self.drained += 1


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece


def written(
    response: Response, method: str = "GET", *, close: bool = False, chunks: bool = True
) -> bytes:
    wire = Wire()
    sending = write(wire, response, method=method, date=DATE, close=close, chunks=chunks)
    asyncio.run(sending)
    return wire.sent


def read_by_client(
    octets: bytes, method: str = "GET", *, ended: bool = False
) -> tuple[h11.Response, bytes, Any]:
    """The answer, its body, and how h11 sees the connection after it: one message and no more."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(octets)
    if ended:
        client.receive_data(b"")
    answer, body = client.next_event(), b""
    assert isinstance(answer, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage), event
    assert event.headers == h11.EndOfMessage().headers
    assert client.trailing_data[0] == b""
    return answer, body, client.their_state


TOKENS = st.text("abcXYZ09-_!#$%&'*+.^`|~", min_size=1, max_size=8).map(lambda t: f"x-{t}".encode())
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=8).map(lambda t: t.encode("latin-1"))  # fmt: skip
FIELDS = st.lists(st.tuples(TOKENS, VALUES), max_size=5)
BODIES = st.lists(st.binary(max_size=5), max_size=5)
STATUSES = st.integers(200, 599).filter(lambda status: status != 205)
"""Without the one that drops its content, which has a test of its own."""
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])


@given(
    METHODS,
    STATUSES,
    FIELDS,
    BODIES,
    st.sampled_from(["bytes", "counted", "stream"]),
    st.booleans(),
)
def test_answer_is_one_message_that_a_strict_parser_reads_back(
    method: str, status: int, headers: RawHeaders, parts: list[bytes], form: str, close: bool
) -> None:
    body = b"".join(parts)
    response = Response(status, headers, body if form == "bytes" else pieces(*parts))
    response.length = len(body) if form == "counted" else None
    answer, read, state = read_by_client(written(response, method, close=close), method)

    assert answer.status_code == status
    assert read == (b"" if has_no_body(method, status) else body)
    told = [(name, value) for name, value in answer.headers if name.startswith(b"x-")]
    assert told == [(name.lower(), value) for name, value in headers]
    assert [name for name, _ in answer.headers].count(b"date") == 1
    assert state is (h11.MUST_CLOSE if close else h11.DONE)


@given(STATUSES, BODIES, st.booleans())
def test_answer_to_http_1_0_has_no_chunks_and_ends_with_the_connection(
    status: int, parts: list[bytes], counted: bool
) -> None:
    body = b"".join(parts)
    response = Response(status, [], pieces(*parts), len(body) if counted else None)
    octets = written(response, close=True, chunks=False)

    assert b"chunked" not in octets
    assert read_by_client(octets, ended=True)[1] == (b"" if has_no_body("GET", status) else body)


@given(st.lists(st.tuples(METHODS, STATUSES, BODIES), min_size=2, max_size=5))
def test_answers_on_one_connection_keep_their_bounds(
    answers: list[tuple[str, int, list[bytes]]],
) -> None:
    client = h11.Connection(h11.CLIENT)
    for method, status, parts in answers:
        client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
        client.send(h11.EndOfMessage())
        client.receive_data(written(Response(status, [], pieces(*parts)), method))
        events = [client.next_event()]
        while not isinstance(events[-1], h11.EndOfMessage):
            events.append(client.next_event())
        read = b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data))
        assert read == (b"" if has_no_body(method, status) else b"".join(parts))
        client.start_next_cycle()


@pytest.mark.parametrize(
    ("method", "response", "length"),
    [
        ("HEAD", Response(200, [], b"12345"), b"5"), ("HEAD", Response(200, [], b"", 7), b"7"),
        ("HEAD", Response(200, [], pieces(b"x"), 7), b"7"), ("HEAD", Response(200), None),
        ("HEAD", Response(200, [], pieces(b"x")), None), ("GET", Response(304, [], b"", 9), b"9"),
        ("GET", Response(304), None), ("GET", Response(204, [], b"ignored"), None),
        ("GET", Response(204, [], b"", 5), None), ("HEAD", Response(204, [], b"", 5), None),
        ("GET", Response(200), b"0"), ("GET", Response(205), b"0"), ("POST", Response(404), b"0"),
    ],
)  # fmt: skip
def test_answer_without_a_body_tells_the_length_that_it_would_have(
    method: str, response: Response, length: bytes | None
) -> None:
    answer, body, _ = read_by_client(written(response, method), method)

    assert dict(answer.headers).get(b"content-length") == length
    assert b"transfer-encoding" not in dict(answer.headers)
    assert body == b""


@pytest.mark.parametrize(
    ("parts", "length"), [([b"123"], 5), ([], 1), ([b"12", b"3"], 2), ([b"123456"], 5), ([b"x"], 0)]
)
def test_body_that_breaks_its_length_is_broken_off_where_the_client_can_tell(
    parts: Sequence[bytes], length: int
) -> None:
    wire = Wire()
    response = Response(200, [], pieces(*parts), length)
    with pytest.raises(AnswerBroken):
        asyncio.run(write(wire, response, method="GET", date=DATE, close=False, chunks=True))

    sent = wire.sent.partition(b"\r\n\r\n")[2]
    assert b"".join(parts).startswith(sent)
    assert len(sent) <= length


def test_stream_that_fails_leaves_a_message_without_an_end() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        raise Rejected("upstream_invalid", "It broke off.")

    wire = Wire()
    with pytest.raises(Rejected):
        asyncio.run(
            write(
                wire,
                Response(200, [], failing()),
                method="GET",
                date=DATE,
                close=False,
                chunks=True,
            )
        )
    with pytest.raises(h11.RemoteProtocolError, match=r"incomplete|closed"):
        read_by_client(wire.sent, ended=True)


def test_small_answer_is_one_block_and_a_stream_waits_for_its_reader() -> None:
    wire = Wire()
    asyncio.run(
        write(
            wire,
            Response(200, [], pieces(b"a", b"", b"b")),
            method="GET",
            date=DATE,
            close=False,
            chunks=True,
        )
    )

    assert wire.drained >= 2
    block = whole(Response(200, [], b"ab"), method="GET", date=DATE, close=False)
    assert block is not None
    assert block.endswith(b"\r\n\r\nab")
    assert whole(Response(200, [], pieces(b"ab")), method="GET", date=DATE, close=False) is None


def test_date_of_the_answer_is_kept_where_it_has_one() -> None:
    theirs = (b"date", b"Fri, 02 Jan 2026 00:00:00 GMT")

    assert written(Response(200, [theirs])).lower().count(b"date:") == 1
    assert DATE in written(Response(200))


def test_date_field_is_the_moment_in_the_form_of_the_standard() -> None:
    field = DateClock().field()
    told = parsedate_to_datetime(field.decode().removeprefix("Date: ").strip())

    assert field.endswith(b" GMT\r\n")
    assert abs(told.timestamp() - time.time()) < 5


@pytest.mark.parametrize(
    ("status", "line"),
    [(200, b"HTTP/1.1 200 OK\r\n"), (404, b"HTTP/1.1 404 Not Found\r\n"), (299, b"HTTP/1.1 299 \r\n"), (599, b"HTTP/1.1 599 \r\n")],
)  # fmt: skip
def test_reason_phrase_is_ours(status: int, line: bytes) -> None:
    assert status_line(status) == line


def read_by_server(octets: bytes) -> tuple[h11.Request, bytes]:
    server = h11.Connection(h11.SERVER)
    server.receive_data(octets)
    request, body = server.next_event(), b""
    assert isinstance(request, h11.Request)
    while isinstance(event := server.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert server.trailing_data[0] == b""
    return request, body


@given(METHODS, FIELDS, st.binary(max_size=9), st.sampled_from(["here", "counted", "chunked"]))
def test_request_is_one_message_that_a_strict_parser_reads_back(
    method: str, headers: RawHeaders, content: bytes, form: str
) -> None:
    outgoing = Outgoing(method, "/a%20b?c=d", headers)
    declared = len(content) if form == "counted" else None
    octets = request_head(b"Host: h:1\r\n", outgoing, declared, content if form == "here" else None)
    if form == "counted":
        octets += content
    elif form == "chunked":
        octets += (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
    request, body = read_by_server(octets)

    assert (request.method, request.target, body) == (method.encode(), b"/a%20b?c=d", content)
    told = [(name, value) for name, value in request.headers if name.startswith(b"x-")]
    assert told == [(name.lower(), value) for name, value in headers]
    framing = {b"content-length", b"transfer-encoding"} & dict(request.headers).keys()
    assert len(framing) == (form != "here" or bool(content) or method in {"POST", "PUT", "PATCH"})


def answer_head(octets: bytes) -> Any:
    """The head as the upstream connection gets it. Raises Rejected or the parser's error."""
    loop = asyncio.new_event_loop()
    try:
        parser = HttpResponseParser(
            BaseProtocol(loop), loop, 65536, max_line_size=16384, max_field_size=16384,
            response_with_body=True, read_until_eof=True, auto_decompress=False,
        )  # fmt: skip
        [(message, _)] = parser.feed_data(octets)[0]
    finally:
        loop.close()
    check_answer_head(message)
    return message


OK = b"HTTP/1.1 200 OK\r\n"
HOSTILE = {
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunked": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "signed length": OK + b"Content-Length: +3\r\n\r\nabc",
    "negative length": OK + b"Content-Length: -3\r\n\r\nabc",
    "list of lengths": OK + b"Content-Length: 3, 3\r\n\r\nabc",
    "hexadecimal length": OK + b"Content-Length: 0x3\r\n\r\nabc",
    "coding before chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding after chunked": OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "coding alone": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked twice": OK
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked misspelt": OK + b"Transfer-Encoding: xchunked\r\n\r\n",
    "bare CR in a value": OK + b"X: a\rSet-Cookie: b\r\n\r\n",
    "NUL in a value": OK + b"X: a\x00b\r\n\r\n",
    "DEL in a value": OK + b"X: a\x7fb\r\n\r\n",
    "control character in a value": OK + b"X: a\x01b\r\n\r\n",
    "space in a name": OK + b"X y: b\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 3\r\n\r\nabc",
    "no name": OK + b": b\r\n\r\n",
    "no colon": OK + b"X\r\n\r\n",
    "name beyond ASCII": OK + b"X\xc3\xa9: b\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 a\rX: y\r\n\r\n",
    "status of two digits": b"HTTP/1.1 99 Low\r\n\r\n",
    "status beyond 599": b"HTTP/1.1 600 High\r\n\r\n",
    "switching of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "interim as the last": b"HTTP/1.1 103 Early\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9\r\n\r\n",
}


@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE)
def test_head_that_could_break_our_framing_is_refused(octets: bytes) -> None:
    with pytest.raises((HttpProcessingError, Rejected)):
        answer_head(octets)


@pytest.mark.parametrize(
    ("octets", "length"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", 3), (OK + b"Content-Length: 0\r\n\r\n", 0),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
        (OK + b"transfer-encoding: Chunked\r\n\r\n0\r\n\r\n", None), (OK + b"X: \xff\xe9\t~\r\n\r\n", None),
        (b"HTTP/1.0 200 OK\r\n\r\n", None), (b"HTTP/1.1 299 \r\nX:\r\n\r\n", None),
    ],
)  # fmt: skip
def test_head_that_is_in_order_passes(octets: bytes, length: int | None) -> None:
    assert declared_length(answer_head(octets)) == length


@pytest.mark.parametrize(
    ("method", "status", "bodyless"),
    [("HEAD", 200, True), ("GET", 204, True), ("GET", 304, True), ("GET", 103, True), ("GET", 200, False), ("POST", 205, False), ("OPTIONS", 500, False)],
)  # fmt: skip
def test_messages_that_end_with_their_head_are_known(
    method: str, status: int, bodyless: bool
) -> None:
    assert has_no_body(method, status) is bodyless


@pytest.mark.parametrize("body", [b"body", b""])
def test_framing_and_what_is_the_connections_is_the_servers_alone(body: bytes) -> None:
    said = [
        (b"Content-Length", b"99"), (b"connection", b"x-own, Content-Type"), (b"Keep-Alive", b"1"),
        (b"X-Own", b"1"), (b"Transfer-Encoding", b"chunked"), (b"UPGRADE", b"h2c"), (b"Trailer", b"x"),
        (b"TE", b"x"), (b"Proxy-Connection", b"x"), (b"Content-Type", b"text/plain"),
    ]  # fmt: skip
    block = whole(Response(200, said, body), method="GET", date=DATE, close=False)

    assert block == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + DATE
        + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )  # fmt: skip


def test_426_says_what_to_upgrade_to() -> None:
    said = [(b"Upgrade", b"websocket"), (b"Connection", b"upgrade, close")]
    head, _, _ = written(Response(426, said, b"")).partition(b"\r\n\r\n")

    assert b"\r\nUpgrade: websocket\r\n" in head
    assert head.endswith(b"Content-Length: 0\r\nConnection: Upgrade")


def test_205_has_no_body_whatever_it_is_given() -> None:
    for body in (b"body", pieces(b"body")):
        assert written(Response(205, [], body, 4)).endswith(b"Content-Length: 0\r\n\r\n")
