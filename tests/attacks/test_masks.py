"""Masks are no oracle: what is shown of an answer does not tell which of many guesses is the secret."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from admin.masks import Masks
from admin.trials.typed import typed
from gateway.exchange import Outgoing

GUESSES = [
    "pass-w0rd/+",
    "hunter2&<3>",
    'qu"ote\\d 11',
    "correct-hor",
    "abcdefghijk",
    "\u00e9t\u00e9 en mer",
]
CODERS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "quote": quote,
    "quote_plus": quote_plus,
    "quote_all": lambda text: quote(text, safe=""),
    "html": html.escape,
    "json": lambda text: json.dumps(text)[1:-1],
    "json_utf8": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "base64": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "hex": lambda text: text.encode().hex(),
}


def as_json() -> Outgoing:
    return Outgoing("POST", "/", [], json.dumps(GUESSES).encode())


def as_names() -> Outgoing:
    return Outgoing("POST", "/", [], json.dumps(dict.fromkeys(GUESSES, 1)).encode())


def as_text() -> Outgoing:
    return Outgoing("POST", "/", [], "\n".join(GUESSES).encode())


def as_query() -> Outgoing:
    return Outgoing("GET", "/?" + "&".join(f"q={quote_plus(guess)}" for guess in GUESSES), [], b"")


def as_path() -> Outgoing:
    return Outgoing("GET", "/" + "/".join(quote(guess, safe="") for guess in GUESSES), [], b"")


def as_fields() -> Outgoing:
    return Outgoing("GET", "/", [(b"X-A", guess.encode()) for guess in GUESSES], b"")


@pytest.mark.parametrize("made", [as_json, as_names, as_text, as_query, as_path, as_fields])
@pytest.mark.parametrize("code", CODERS.values(), ids=CODERS)
def test_answer_that_repeats_guesses_does_not_tell_the_right_one(
    made: Callable[[], Outgoing], code: Callable[[str], str]
) -> None:
    request = made()
    words = typed(request, request.body or b"")
    assert words is not None
    echoes = {
        "apart": "\n---\n".join(map(code, GUESSES)),
        "reversed": " | ".join(map(code, reversed(GUESSES))),
    }
    if made is as_text and code(" ") not in {" ", "+", "%20"}:
        echoes = {
            "whole": code("\n".join(GUESSES))
        }  # which guess is which, the upstream can't know
    for echo in echoes.values():
        shown = {Masks([secret], words).text(echo) for secret in [*GUESSES, "none of them"]}
        assert len(shown) == 1


@pytest.mark.parametrize("code", CODERS.values(), ids=CODERS)
def test_secret_that_nobody_typed_is_masked(code: Callable[[str], str]) -> None:
    words = typed(as_json(), as_json().body or b"")
    for secret in GUESSES:
        assert Masks([secret], words or ()).text(f"a {code(secret)} b") == "a *** b"
        assert Masks([secret]).text(f"a {code(secret)} b") == "a *** b"
