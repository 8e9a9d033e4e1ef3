"""An OpenAPI document that somebody gives: read, and walked with a pointer to where one is.

Nothing is fetched: what a document refers to is in it, or is left out and told. A fault makes the
whole document useless; a warning tells what an import does without.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from threading import Event
from typing import Any, Final
from urllib.parse import unquote

import orjson

from admin.calls import check_storable
from gateway import yamls
from gateway.problems import Fault, Rejected
from gateway.transform.rules import pointer

ROOT: Final = "document"
MOST_FAULTS: Final = 20
MOST_WARNINGS: Final = 100
_MOST_STEPS: Final = 16
"""How many references may lead from one to the next."""
_VERSION: Final = re.compile(r"3\.[01]\.\d{1,3}(?:-[\w.]{1,32})?").fullmatch

Where = tuple[str | int, ...]


class Elsewhere(Exception):
    """A reference leads out of the document; the text is where."""


class Abandoned(Exception):
    """Nobody waits for what comes of the document any more."""


class Source:
    """A document, and what is to be told of it. Its reading ends when `abandoned` is set."""

    def __init__(self, document: Mapping[str, Any], abandoned: Event | None = None) -> None:
        self.document = document
        self._abandoned = abandoned or Event()
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self._more = 0

    def fault(self, where: Where, detail: str) -> None:
        """This makes the document useless."""
        self.faults.append(Fault(pointer((ROOT, *where)), detail))

    def warn(self, where: Where, detail: str) -> None:
        """This is not taken over."""
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(Fault(pointer((ROOT, *where)), detail))
        else:
            self._more += 1

    def told(self) -> list[dict[str, str]]:
        """The warnings on the wire."""
        more = [Fault("", f"And {self._more} more.")] if self._more else []
        return [
            {"pointer": fault.pointer, "detail": fault.detail} for fault in [*self.warnings, *more]
        ]

    def check(self) -> None:
        """Raises Rejected `validation_failed` when there are faults."""
        if self.faults:
            raise Rejected(
                "validation_failed", self.faults[0].detail, errors=self.faults[:MOST_FAULTS]
            )

    def member(self, node: Mapping[str, Any], name: str, where: Where, kind: type) -> Any:
        """A member of an object that has a type: an empty one when it is missing or has another."""
        if (value := node.get(name)) is None:
            return kind()
        if not isinstance(value, kind):
            words = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
            self.fault((*where, name), f"Not {words[kind]}.")
            return kind()
        return value

    def go_on(self) -> None:
        """Raises Abandoned when nobody waits any more."""
        if self._abandoned.is_set():
            raise Abandoned

    def objects(self, node: Mapping[str, Any], name: str, where: Where) -> Iterator[Any]:
        """The entries of a map or a list of objects, references followed, each with its place.

        What is elsewhere is left out with a warning.
        """
        found = node.get(name)
        entries: list[tuple[str | int, Any]] = []
        if isinstance(found, dict):
            entries = [(key, value) for key, value in found.items() if not key.startswith("x-")]
        elif isinstance(found, list):
            entries = [*enumerate(found)]
        elif found is not None:
            self.fault((*where, name), "Neither an object nor a list.")
        for key, value in entries:
            if (there := self._object(value, (*where, name, key))) is not None:
                yield key, *there

    def one(
        self, node: Mapping[str, Any], name: str, where: Where
    ) -> tuple[dict[str, Any], Where] | None:
        """A member that is an object, its reference followed, with its place; None for none."""
        return self._object(node[name], (*where, name)) if name in node else None

    def _object(self, value: Any, where: Where) -> tuple[dict[str, Any], Where] | None:
        try:
            entry, place = self.follow(value, where)
        except Elsewhere as error:
            self.warn(where, f"Left out: it is in another document, {error}.")
            return None
        if not isinstance(entry, dict):
            self.fault(place, "Not an object.")
            return None
        return entry, place

    def follow(self, node: Any, where: Where) -> tuple[Any, Where]:
        """What a reference leads to, and where that is; anything else as it is. Raises Elsewhere.

        A reference to nothing is a fault; then the answer is an empty object.
        """
        for _ in range(_MOST_STEPS):
            if not isinstance(node, dict) or "$ref" not in node:
                return node, where
            reference = node["$ref"]
            if not isinstance(reference, str):
                self.fault((*where, "$ref"), "Not a text.")
                return {}, where
            if not reference.startswith("#"):
                raise Elsewhere(reference[:200])
            target = self._at(reference)
            if target is None:
                self.fault((*where, "$ref"), f"Nothing is at {reference[:200]}.")
                return {}, where
            node, where = target
        self.fault((*where, "$ref"), "References lead in a circle, or through too many others.")
        return {}, where

    def _at(self, reference: str) -> tuple[Any, Where] | None:
        """What a JSON pointer in a fragment points to (RFC 6901 6)."""
        node: Any = self.document
        where: list[str | int] = []
        for token in unquote(reference[1:]).split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and name in node:
                node = node[name]
                where.append(name)
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
                where.append(int(name))
            else:
                return None
        return node, tuple(where)


def read(given: Any, abandoned: Event | None = None) -> Source:
    """A document as it is in a body: an object, or the text of JSON or YAML. Raises Rejected."""
    document = _parsed(given) if isinstance(given, str) else given
    source = Source(document if isinstance(document, dict) else {}, abandoned)
    if not isinstance(document, dict):
        source.fault((), "Not an object.")
    elif "swagger" in document:
        source.fault(("swagger",), "OpenAPI 2.0 (Swagger) is not taken: convert it to 3.0 or 3.1.")
    elif not isinstance(version := document.get("openapi"), str) or not _VERSION(version):
        source.fault(("openapi",), "Not a document of OpenAPI 3.0 or 3.1.")
    source.check()
    return source


def _parsed(text: str) -> Any:
    """The document in a text; one that begins like a JSON object is read as JSON."""
    text = text.removeprefix("\ufeff")
    try:
        document = orjson.loads(text) if text.lstrip()[:1] == "{" else yamls.parse(text)
        check_storable(document)
    except orjson.JSONDecodeError as error:
        raise _unreadable(f"Not JSON: {error.msg} at position {error.pos}.") from None
    except yamls.NotYaml as error:
        raise _unreadable(f"Not YAML: {error}.") from None
    except Rejected as error:
        raise _unreadable(error.detail.replace("The body", "It", 1)) from None
    return document


def _unreadable(detail: str) -> Rejected:
    return Rejected("validation_failed", detail, errors=[Fault(f"/{ROOT}", detail)])
