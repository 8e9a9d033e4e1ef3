"""Masks: a secret in any form that it travels in, and bodies that may be shown."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.masks import Masks, readable
from gateway.explain.explanation import MASK

FORMS = (
    str,
    quote,
    quote_plus,
    lambda text: quote(text, safe=""),
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    lambda text: text.encode().hex(),
    html.escape,
    lambda text: json.dumps(text).replace("/", "\\/"),
    lambda text: (
        json.dumps(text).replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    ),
    lambda text: re.sub("%..", lambda found: found.group().lower(), quote(text, safe="")),
)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(FORMS))
def test_secret_is_masked_in_every_form(secret: str, form: object) -> None:
    assert callable(form)
    sent = form(secret)

    shown = Masks([secret]).text(f"before {sent} after")
    assert MASK in shown
    assert Masks([secret]).text(sent).replace(MASK, "").strip('"=') == ""


def test_longer_secret_is_masked_as_a_whole() -> None:
    assert Masks(["abc", "abcdef"]).text("abcdef abc") == "*** ***"


def test_nothing_is_masked_without_secrets() -> None:
    assert Masks([""]).text("abc") == "abc"
    assert Masks([]).longest == 0


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (b"Authorization", b"Bearer other", "Bearer ***"),
        (b"authorization", b"token", "***"),
        (b"Cookie", b"a=1; b=2", "***"),
        (b"X-Key", b"key t0ken", "key ***"),
        (b"X-Plain", b"plain", "plain"),
        (b"X-Bytes", b"\xff", "\ufffd"),
    ],
)
def test_credential_in_a_field_is_masked_whatever_it_is(
    name: bytes, value: bytes, shown: str
) -> None:
    assert Masks(["t0ken"]).headers([(name, value)]) == [{"name": name.decode(), "value": shown}]


@pytest.mark.parametrize(
    ("content", "coding", "text"),
    [
        (b"abc", b"", "abc"),
        (b"", b"", ""),
        ("é".encode(), b"identity", "é"),
        ("aé".encode()[:-1], b"", "a"),
        (b"abc", b"gzip", None),
        (b"a\0b\0", b"", None),
        (b"\xff" * 10, b"", None),
    ],
)
def test_body_is_shown_when_it_is_plain_text(
    content: bytes, coding: bytes, text: str | None
) -> None:
    fields = [(b"Content-Encoding", coding)] if coding else []

    assert readable(content, fields) == text
