"""Every form in which a secret travels is known, whatever stands around it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus
from xml.sax import saxutils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.secrets.forms import forms

CODERS: tuple[Callable[[str], str], ...] = (
    str,
    quote,
    quote_plus,
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: quote(quote_plus(text), safe=""),
    html.escape,
    lambda text: html.escape(text, quote=False),
    lambda text: html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
    lambda text: saxutils.escape(text, {"'": "&apos;", '"': "&quot;"}),
    lambda text: json.dumps(text)[1:-1],
    lambda text: re.sub(
        r"\\u....", lambda unit: f"\\u{unit[0][2:].upper()}", json.dumps(text)[1:-1]
    ),
    lambda text: text.encode().hex(),
    lambda text: text.encode().hex().upper(),
)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(CODERS))
def test_each_coding_is_among_the_forms(secret: str, code: Callable[[str], str]) -> None:
    plain = secret.replace("\\", "") or "a"
    assert code(plain) in forms(plain)


@pytest.mark.parametrize("code", [base64.b64encode, base64.urlsafe_b64encode])
@given(
    secret=st.text(st.characters(exclude_categories=["Cs"]), min_size=7),
    around=st.tuples(st.binary(max_size=5), st.binary(max_size=5)),
)
def test_base64_is_known_with_whatever_is_around(
    code: Callable[[bytes], bytes], secret: str, around: tuple[bytes, bytes]
) -> None:
    coded = code(around[0] + secret.encode() + around[1]).decode()
    assert any(form in coded for form in forms(secret))


def test_nothing_has_no_forms() -> None:
    assert forms("") == set()
