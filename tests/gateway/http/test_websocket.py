"""WebSocket's handshake and frames, by the examples of RFC 6455 and one byte at a time."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.http.messages import Outgoing
from gateway.http.websocket import (
    GOING_AWAY,
    Frames,
    accept_for,
    ask,
    check_switch,
    is_all_asked,
    is_asked,
)
from gateway.problems import Rejected

KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ASKED = [("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13")]
SWITCH = [(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")]
ACCEPTED = [
    ("Upgrade", "WebSocket"),
    ("Connection", "x, upgrade"),
    ("Sec-WebSocket-Accept", ACCEPT),
]


def asked(
    fields: list[tuple[str, str]], method: str = "GET", body: bytes | None = None
) -> Outgoing:
    sent = [(name.encode("ascii"), value.encode("ascii")) for name, value in fields]
    outgoing = Outgoing("GET", "/x", sent, body)
    ask(method, outgoing)
    return outgoing


@pytest.mark.parametrize(
    ("offered", "asks", "asks_nothing_else"),
    [
        (["WebSocket"], True, True),
        (["websocket", "h2c"], True, True),
        (["h2c", "websocket"], True, False),
        (["foo , websocket"], True, False),
        (["websocket/13", "web socket", "websoc\u212aet"], False, False),
        ([], False, False),
    ],
)
def test_websocket_may_be_one_of_several_protocols(
    offered: list[str], asks: bool, asks_nothing_else: bool
) -> None:
    headers = CIMultiDict(("Upgrade", name) for name in offered)

    assert (is_asked(headers), is_all_asked(headers)) == (asks, asks_nothing_else)


def test_handshake_is_sent_on_as_one() -> None:
    outgoing = asked(ASKED)

    assert outgoing.headers[2:] == SWITCH
    assert outgoing.websocket_key == KEY.encode()


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        (ASKED[:1], {}),
        (ASKED[1:], {}),
        ([*ASKED, ASKED[0]], {}),
        ([*ASKED, ASKED[1]], {}),
        ([ASKED[0], ("Sec-WebSocket-Version", "8")], {}),
        ([("Sec-WebSocket-Key", "c2hvcnQ="), ASKED[1]], {}),
        ([("Sec-WebSocket-Key", KEY[:-1] + "*"), ASKED[1]], {}),
        (ASKED, {"method": "POST"}),
        (ASKED, {"body": b"static"}),
    ],
)
def test_what_is_not_quite_one_is_a_plain_request(
    fields: list[tuple[str, str]], more: dict[str, Any]
) -> None:
    outgoing = asked(fields, **more)

    assert outgoing.websocket_key is None
    assert len(outgoing.headers) == len(fields)


def test_key_is_answered_as_the_standard_says() -> None:
    assert accept_for(KEY.encode()).decode() == ACCEPT


def message(fields: list[tuple[str, str]]) -> Any:
    raw = tuple((name.encode(), value.encode("latin-1")) for name, value in fields)
    return SimpleNamespace(headers=CIMultiDict(fields), raw_headers=raw)


def test_switch_that_accepts_the_key_is_taken() -> None:
    check_switch(message(ACCEPTED), KEY.encode())


@pytest.mark.parametrize(
    "fields",
    [
        *([entry for entry in ACCEPTED if entry is not left_out] for left_out in ACCEPTED),
        [*ACCEPTED[:2], ("Sec-WebSocket-Accept", "x" + ACCEPT[1:])],
        [*ACCEPTED, ACCEPTED[2]],
        [("Upgrade", "h2c"), *ACCEPTED[1:]],
        [("Connection", "close"), ACCEPTED[0], ACCEPTED[2]],
        [*ACCEPTED, ("Content-Length", "0")],
        [*ACCEPTED, ("Transfer-Encoding", "chunked")],
        [*ACCEPTED, ("X-Bad", "a\x00b")],
    ],
)
def test_switch_that_is_not_one_is_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(Rejected, match="upstream_invalid"):
        check_switch(message(fields), KEY.encode())


def frame(opcode: int, payload: bytes, *, masked: bool, final: bool = True) -> bytes:
    """One frame (RFC 6455 5.2)."""
    size, mask = len(payload), b"mask" if masked else b""
    short, form = (size, "") if size < 126 else (126, "!H") if size < 1 << 16 else (127, "!Q")
    head = bytes([opcode | final << 7, short | masked << 7])
    return head + (struct.pack(form, size) if form else b"") + mask + payload


@given(
    st.lists(
        st.tuples(
            st.integers(0, 15), st.sampled_from([0, 1, 125, 126, 300, 70_000]), st.booleans()
        ),
        max_size=4,
    ),
    st.integers(1, 20_000),
)
def test_frames_end_where_they_end_however_they_are_cut(
    parts: list[tuple[int, int, bool]], size: int
) -> None:
    wire = [frame(opcode, b"\x88" * length, masked=masked) for opcode, length, masked in parts]
    frames, raw = Frames(), b"".join(wire)
    for start in range(0, len(raw), size):
        piece = raw[start : start + size]
        assert frames.skip(piece) == len(piece)
        ends = {sum(map(len, wire[:count])) for count in range(len(wire) + 1)}
        assert frames.is_between == (start + len(piece) in ends)

    assert frames.is_between
    assert frames.is_closing == any(opcode == 8 for opcode, _, _ in parts)


@pytest.mark.parametrize("cut", range(1, 12))
def test_first_end_is_found(cut: int) -> None:
    first, second = frame(1, b"hello", masked=True), frame(2, b"", masked=False)
    frames, raw = Frames(), first + second
    begun = frames.skip(raw[:cut], most=1)

    assert begun + frames.skip(raw[begun:], most=1 if cut < len(first) else 0) == len(first)
    assert frames.is_between
    assert frames.skip(second, most=1) == len(second)


def test_farewell_is_one_close_frame_with_1001() -> None:
    frames = Frames()

    assert frames.skip(GOING_AWAY, most=1) == len(GOING_AWAY)
    assert frames.is_closing
    assert struct.unpack("!H", GOING_AWAY[2:]) == (1001,)
