"""The body template: text with `{{body.a.b}}`, `{{params.name}}` and `{{query.name}}`.

It is taken apart once. In JSON a placeholder inside a string is escaped and one that is a whole
value keeps its type; the text between never changes, so no value can become structure, and what a
value holds is never looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from html import escape
from typing import Any, Final
from urllib.parse import quote, unquote

import orjson

from gateway.exchange import Exchange
from gateway.problems import Rejected, quoted
from gateway.transform import documents
from gateway.transform.documents import MISSING

_PLACEHOLDER: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_QUOTES: Final = re.compile(r'\\.|"', re.DOTALL)
_ENTITIES: Final = ("xml", "html")

Put = Callable[[Any], bytes]


class TemplateFault(ValueError):
    """A template that does not compile; the text says why."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a value goes: from where it comes, and how it is written."""

    source: str
    path: documents.Path
    put: Put


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template: literals and slots take turns, literals first and last."""

    literals: tuple[bytes, ...]
    slots: tuple[_Slot, ...]
    content_type: str | None

    @property
    def needs_body(self) -> bool:
        """True when a placeholder is about the caller's body."""
        return any(slot.source == "body" for slot in self.slots)

    def make(self, exchange: Exchange) -> bytes:
        """The text with the values put in. Raises Rejected `bad_request`."""
        sources = {name: _SOURCES[name](exchange) for name in {slot.source for slot in self.slots}}
        parts = [self.literals[0]]
        try:
            for slot, literal in zip(self.slots, self.literals[1:], strict=True):
                parts += (slot.put(documents.find(sources[slot.source], slot.path)), literal)
        except documents.NotJson as error:
            raise Rejected("bad_request", f"A value can't be sent on: {error}.") from None
        return b"".join(parts)


def compile_template(text: str, media_type: str | None, parameters: Collection[str]) -> Template:
    """Take a template apart. Raises TemplateFault.

    Without a media type it is JSON. `parameters` are the names that `{{params.…}}` may have.
    """
    kind = (media_type or "application/json").partition(";")[0].strip().lower()
    pieces, inners = _PLACEHOLDER.split(text)[::2], _PLACEHOLDER.split(text)[1::2]
    places = [_place(inner, parameters) for inner in inners]
    if "json" in kind:
        in_strings = _quoted(pieces)
        _check_json(pieces, in_strings)
        puts: list[Put] = [_inside if inside else _whole for inside in in_strings]
    else:
        puts = [_writer(kind)] * len(places)
    return Template(
        tuple(piece.encode("utf-8") for piece in pieces),
        tuple(_Slot(source, path, put) for (source, path), put in zip(places, puts, strict=True)),
        "application/json" if media_type is None else None,
    )


def _place(inner: str, parameters: Collection[str]) -> tuple[str, documents.Path]:
    source, dot, rest = inner.strip().partition(".")
    if source not in _SOURCES or (not rest and (dot or source != "body")):
        shown = inner.strip()[:80]
        raise TemplateFault(f"{{{{{shown}}}}} is none of body.…, params.… and query.…")
    if source == "body":
        try:
            return source, documents.path(rest) if dot else ()
        except documents.PathFault as fault:
            raise TemplateFault(str(fault)) from None
    if source == "params" and rest not in parameters:
        raise TemplateFault(f"the path has no parameter {quoted(rest[:80])}")
    return source, (rest,)  # the name of a query parameter may hold anything, dots too


def _quoted(pieces: list[str]) -> list[bool]:
    """For each placeholder whether it is inside a string."""
    inside, found = False, []
    for piece in pieces[:-1]:
        inside ^= sum(match == '"' for match in _QUOTES.findall(piece)) % 2 == 1
        found.append(inside)
    return found


def _check_json(pieces: list[str], in_strings: list[bool]) -> None:
    """Raises TemplateFault unless this is JSON whatever the values are.

    An x can't be part of an escape sequence, null can't be part of another value or a name.
    """
    probe = [pieces[0]]
    for inside, piece in zip(in_strings, pieces[1:], strict=True):
        probe += ("x" if inside else "null", piece)
    try:
        orjson.loads("".join(probe))
    except orjson.JSONDecodeError as error:
        raise TemplateFault(
            f"with values in place of its placeholders it is not JSON: {error.msg}"
        ) from None


def _whole(value: Any) -> bytes:
    return b"null" if value is MISSING else documents.render(value)


def _text(value: Any) -> str:
    """A value as text: nothing for null, JSON for what is no string."""
    if value is MISSING or value is None:
        return ""
    return value if isinstance(value, str) else documents.render(value).decode("utf-8")


def _inside(value: Any) -> bytes:
    return documents.render(_text(value))[1:-1]


def _writer(kind: str) -> Put:
    """How values are written into text of another kind than JSON."""
    if kind == "application/x-www-form-urlencoded":
        return lambda value: quote(_encodable(_text(value)), safe="").encode("ascii")
    if kind.endswith(_ENTITIES):
        return lambda value: escape(_encodable(_text(value))).encode("utf-8")
    return lambda value: _encodable(_text(value)).encode("utf-8")


def _encodable(text: str) -> str:
    documents.render(text)
    return text


def body_of(exchange: Exchange) -> Any:
    """The caller's body, which was read whole before. Raises Rejected `bad_request`."""
    content = exchange.body.arrived()
    assert content is not None, "needs_body is asked first"
    try:
        return documents.parse(content)
    except documents.NotJson as error:
        raise Rejected("bad_request", f"The body is not JSON: {error}.") from None


def _params(exchange: Exchange) -> dict[str, str]:
    return {name: _decoded(value) for name, value in exchange.params.items()}


def _query(exchange: Exchange) -> dict[str, str]:
    """The caller's query parameters; of one that is repeated the first counts."""
    found: dict[str, str] = {}
    for part in exchange.query.split("&"):
        name, _, value = part.replace("+", " ").partition("=")
        found.setdefault(_decoded(name), _decoded(value))
    return found


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Rejected("bad_request", "The path or the query is not UTF-8 text.") from None


_SOURCES: Final[dict[str, Callable[[Exchange], Any]]] = {
    "body": body_of,
    "params": _params,
    "query": _query,
}
