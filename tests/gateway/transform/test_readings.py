"""Words are found however a body is written, and what can't be looked into is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problems import Rejected
from gateway.transform.readings import readings
from gateway.transform.rules import Rules, compile_pattern, compile_words

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
DROP = Rules(words=compile_words(["DROP", "two words"]))


def of(content_type: str | None, **more: str) -> Mapping[str, str]:
    return more if content_type is None else {"content-type": content_type, **more}


def code(rules: Rules, body: bytes, headers: Mapping[str, str]) -> str:
    """The code of the refusal; empty when there is none."""
    try:
        rules.check_body(body, headers)
    except Rejected as rejected:
        return rejected.code
    return ""


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, rb'{"q": "DR\u004fP TABLE"}'),
        (JSON, rb'{"q": "\u0064\u0072\u006F\u0070"}'),
        (JSON, rb'{"DR\u004fP": 1}'),
        (JSON, rb'{"a": [[{"b": ["x", "a\nDR\u004fP"]}]]}'),
        (JSON, rb'{"q": "\tdrop"}'),
        (JSON, rb'{"q": "DROP", "q": "ok"}'),
        (JSON, rb'{"q": "ok", "q": "DR\u004fP"}'),
        (JSON, rb'"two\u0020words"'),
        (JSON, b'\xef\xbb\xbf{"q": "drop"}'),
        ("Application/JSON ; charset=UTF-8", rb'["DR\u004fP"]'),
        ("application/vnd.api+json", rb'["DR\u004fP"]'),
        ("text/json", rb'["DR\u004fP"]'),
        ("application/x-ndjson", b'{"a": 1}\n{"a": "DR\\u004fP"}\n'),
        ("application/json-seq", b'\x1e{"a": "DR\\u004fP"}\n'),
        ("text/plain", rb'{"q": "DR\u004fP"}'),
        (None, rb'{"q": "DR\u004fP"}'),
        (FORM, rb'{"q": "DR\u004fP"}'),
        (FORM, b"q=DROP%20TABLE"),
        (FORM, b"q=DROP+TABLE"),
        (FORM, b"q=%44%52%4f%50"),
        (FORM, b"%44ROP=1"),
        (FORM, b"a=1&q=two+words"),
        (FORM, b"q=x%0aDROP"),
        (None, b"q=DR%4FP"),
        ("text/plain", b"q=DR%4FP"),
        ("text/plain", b"please drop it"),
    ],
)
def test_forbidden_word_is_found_however_it_is_written(
    content_type: str | None, body: bytes
) -> None:
    assert code(DROP, body, of(content_type)) == "validation_failed"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, b'{"q": "backdrop", "two": "words"}'),
        (JSON, rb'{"q": "caf\u00e9 \ud83d\ude00"}'),
        (JSON, b"[1, 2.50, 1e999, true, null]"),
        (JSON, b""),
        (FORM, b"q=backdrop&two=words"),
        (FORM, b"q=%ff"),
        ("text/plain; charset=us-ascii", b"100%"),
        ("text/plain", b"{not json"),
        ('text/plain; charset="utf-8"', "été".encode()),
    ],
)
def test_other_words_pass(content_type: str, body: bytes) -> None:
    assert code(DROP, body, of(content_type)) == ""


@pytest.mark.parametrize(
    ("headers", "body", "refused"),
    [
        (of(f"{JSON}; charset=utf-16"), '{"q": "DROP"}'.encode("utf-16"), "unsupported_media_type"),
        (of('text/plain; a=b; Charset="UTF-16LE"'), b"x", "unsupported_media_type"),
        (of("text/plain; charset=utf-7"), b"+AEQ-ROP", "unsupported_media_type"),
        (of("text/plain; charset=cp037"), b"x", "unsupported_media_type"),
        (of("text/plain; charset=iso-8859-1"), b"x", "unsupported_media_type"),
        (
            of(JSON, **{"content-encoding": "gzip"}),
            gzip.compress(b"{}", mtime=0),
            "unsupported_media_type",
        ),
        (of(JSON, **{"content-encoding": "br"}), b"{}", "unsupported_media_type"),
        (of(JSON), '{"q": "DROP"}'.encode("utf-16-le"), "bad_request"),
        (of("text/plain"), "DROP".encode("utf-16-be"), "bad_request"),
        (of("text/plain"), "DROP".encode("utf-16"), "bad_request"),
        (of("text/plain"), "DROP".encode("utf-32"), "bad_request"),
        (of(None), "DROP".encode("utf-16-le"), "bad_request"),
        (of(FORM), b"q=D%00R%00O%00P%00", "bad_request"),
        (of(JSON), rb'["D\u0000ROP"]', "bad_request"),
        (of(JSON), rb'["\ud800"]', "bad_request"),
        (of(JSON), b"{", "bad_request"),
        (of(JSON), b"[" * 100_000, "bad_request"),
        (of(JSON), b"a=DROP", "bad_request"),
        (of("text/plain"), b"\xff", "bad_request"),
    ],
)
def test_what_cannot_be_looked_into_is_refused(
    headers: Mapping[str, str], body: bytes, refused: str
) -> None:
    assert code(DROP, body, headers) == refused
    assert code(Rules(pattern=compile_pattern("")), body, headers) == refused


@pytest.mark.parametrize(
    ("pattern", "content_type", "body", "passes"),
    [
        ("^[^;]*$", JSON, rb'{"q": "a\u003b b"}', False),
        ("^[^;]*$", JSON, rb'{"a\u003b": "b"}', False),
        ("^[^;]*$", JSON, b'{"q": "a b"}', True),
        ("^[^;]*$", FORM, b"q=a%3bb", False),
        ("^[^;]*$", FORM, b"q=a%3Bb&r=c", False),
        ("^[^;]*$", FORM, b"q=ab", True),
        ("^[^;]*$", None, rb'{"q": "a\u003b b"}', False),
        ("SELECT", JSON, rb'{"q": "\u0053ELECT 1", "f": "x"}', True),
        ("SELECT", FORM, b"q=%53ELECT&f=x", True),
        ("^[a-z ]+$", JSON, rb'{"name": "ab\u0063 d"}', True),
        ("^[a-z ]+$", JSON, rb'{"name": "ab\u0043"}', False),
        (r'^\{"a": "b"', JSON, rb'{"a": "\u0062"}', True),
        (r'"a":"read"', JSON, rb'{"x":"\",\"a\":\"read"}', False),
        (r"&a=read", FORM, b"x=1%26a=read", False),
        ("(?i)\\Aselect", "text/plain", b"SELECT '%ab%'", True),
        ("(?i)\\Aselect", FORM, b"SELECT * FROM t", True),
        ("a", JSON, b"", False),
        ("a", FORM, b"", False),
    ],
)
def test_pattern_looks_at_what_is_meant(
    pattern: str, content_type: str | None, body: bytes, passes: bool
) -> None:
    found = code(Rules(pattern=compile_pattern(pattern)), body, of(content_type))
    assert found == ("" if passes else "validation_failed")


@given(
    st.recursive(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    )
)
def test_needless_escapes_change_nothing(value: object) -> None:
    escaped = "".join(
        f"\\u{ord(sign):04x}" if sign.isalpha() and not sign.isascii() else sign
        for sign in json.dumps(value, ensure_ascii=False)
        if ord(sign) < 0x10000
    )
    plain = json.dumps(json.loads(escaped), ensure_ascii=False)

    assert readings(escaped.encode(), of(JSON))[0].whole == plain
    assert readings(plain.encode(), of(JSON))[0] == readings(escaped.encode(), of(JSON))[0]
