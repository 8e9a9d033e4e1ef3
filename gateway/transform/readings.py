"""What the texts in a body say, however they are written: for rules that look at words.

JSON is read with its escapes undone, names and all, and so are forms; whoever gets the body may take it
for either, whatever its Content-Type says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from gateway.problems import Rejected

_CHARSETS: Final = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
_charset: Final = re.compile(r';[ \t]*charset[ \t]*=[ \t]*"?([^";, \t]*)', re.IGNORECASE).findall
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_LINES: Final = frozenset(
    [
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/json-seq",
        "application/x-json-stream",
    ]
)
_FORM: Final = "application/x-www-form-urlencoded"
_BETWEEN: Final = " \t\r\n\x1e"
_decode: Final = json.JSONDecoder(
    object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str
).raw_decode


class Reading(NamedTuple):
    """A body in one reading: all of it with nothing escaped without need, and each text in it."""

    whole: str
    texts: list[str]


def readings(body: bytes, headers: Mapping[str, str]) -> list[Reading]:
    """A body in each way in which it is to be read.

    Raises Rejected `unsupported_media_type` for another charset than UTF-8 and for a content coding,
    `bad_request` for what is no text, or isn't the JSON that it says it is.
    """
    content_type = headers.get("content-type", "")
    _check_readable(content_type, headers.get("content-encoding", ""))
    try:
        text = body.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        raise Rejected("bad_request", "The body is not UTF-8 text.") from None
    media_type = content_type.partition(";")[0].strip().lower()
    is_json = media_type in {"application/json", "text/json"} or media_type.endswith("+json")
    is_json |= media_type in _LINES
    as_json = _as_json(text, must=is_json and bool(text))
    if is_json and as_json is not None:
        found = [as_json]
    elif media_type == _FORM:
        found = [_as_form(text)]
    else:
        found = [Reading(text, [text, unquote_plus(text)])]
    if as_json is not None and not is_json:
        found.append(as_json)
    for reading in found:
        _check_texts(reading.texts)
    return found


def _check_readable(content_type: str, coding: str) -> None:
    if any(charset.lower() not in _CHARSETS for charset in _charset(content_type)):
        raise Rejected("unsupported_media_type", "The body must be UTF-8.")
    if coding.strip().lower() not in {"", "identity"}:
        raise Rejected("unsupported_media_type", "The body must have no Content-Encoding.")


def _check_texts(texts: list[str]) -> None:
    if any("\0" in text for text in texts):
        raise Rejected("bad_request", "The body has a NUL, which is no text.")
    try:
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        raise Rejected("bad_request", "A string has half of a surrogate pair.") from None


def _as_json(text: str, *, must: bool) -> Reading | None:
    """JSON, or several documents of it one after the other; None for what is none."""
    end, texts, begin = 0, list[str](), text.lstrip(_BETWEEN)[:1]
    if not must and begin not in {"{", "[", '"'}:
        return None
    try:
        while rest := len(text[end:].lstrip(_BETWEEN)):
            document, end = _decode(text, len(text) - rest)
            texts += _strings(document)
    except (ValueError, RecursionError):
        if must:
            raise Rejected("bad_request", "The body is not JSON.") from None
        return None
    return Reading(_STRING.sub(_plain, text) if "\\" in text else text, texts)


def _plain(match: re.Match[str]) -> str:
    """A string of JSON with no escapes but those that it needs."""
    return json.dumps(json.loads(match.group(), strict=False), ensure_ascii=False)


def _strings(document: Any) -> Iterator[str]:
    """Every string of a document, in its order, numbers among them; an object is a list of pairs."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            waiting += reversed(value)


def _as_form(text: str) -> Reading:
    """A form's names and values; the whole of it says `&` in a value as it came."""
    pairs = parse_qsl(text, keep_blank_values=True, errors="replace")
    whole = "&".join("=".join(part.replace("&", "%26") for part in pair) for pair in pairs)
    if "=" not in text:
        whole = unquote_plus(text)
    return Reading(whole, [part for pair in pairs for part in pair if part])
