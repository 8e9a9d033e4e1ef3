"""Bodies in chunks: what is one is decoded however it is cut, and what is none is refused."""

from __future__ import annotations

import pytest

from gateway.http.chunks import Chunks, Malformed


def decoded(raw: bytes, size: int) -> tuple[bytes, bytes | None]:
    """The content, and what came behind; the bytes come in pieces of this size."""
    chunks, got = Chunks(), b""
    for at in range(0, len(raw), size):
        if chunks.rest is not None:
            return got, chunks.rest + raw[at:]
        got += chunks.feed(raw[at : at + size])
    return got, chunks.rest


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(
    ("raw", "content"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"1\r\na\r\n01\r\nb\r\n00\r\n\r\n", b"ab"),
        (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b'2;a=b;c="d"\r\nhi\r\n0;e\r\n\r\n', b"hi"),
        (b"2 \t;a\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"1\r\na\r\n0\r\nX-Late: b\r\nY:\r\n\r\n", b"a"),
    ],
)
def test_content_is_byte_for_byte_and_trailers_are_dropped(
    raw: bytes, content: bytes, size: int
) -> None:
    assert decoded(raw, size) == (content, b"")
    assert decoded(raw + b"HTTP/1.1 ", size)[0] == content
    assert decoded(raw[:-1], size) == (content, None)


def test_what_is_behind_the_end_is_told() -> None:
    assert decoded(b"1\r\na\r\n0\r\n\r\nHTTP/1.1 200", 100) == (b"a", b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [1, 3, 10_000])
@pytest.mark.parametrize(
    "raw",
    [
        b"zz\r\n", b"-1\r\na", b"+1\r\na", b"0x1\r\na", b" 1\r\na", b"\r\n", b"1\na\n", b"1\ra", b";a\r\n",
        b"1;\x00\r\na", b"1;a\nb\r\na", b"g\r\n", b"1_0\r\n", b"1\r\nab\r\n", b"1\r\na\n0", b"1\r\na0\r\n",
        b"fffffffffffffffff\r\n", b"1" + b";" + b"e" * 5000, b"0\r\nno field\r\n\r\n",
        b"0\r\n: b\r\n\r\n", b"0\r\nA: \x01\r\n\r\n", b"0\r\n" + b"A: b\r\n" * 20_000, b"0\r\nA: b\n\r\n",
        b"0\r\nA: " + b"b" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_chunk_is_refused(raw: bytes, size: int) -> None:
    with pytest.raises(Malformed):
        decoded(raw, size)
