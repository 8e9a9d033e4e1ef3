"""aiohttp's inside is what it was when our connection was written, and is used through its door."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web import BaseRequest

from gateway.server import aiohttp_inside
from gateway.server.aiohttp_inside import (
    FOLLOWED,
    PRIVATE,
    RawRequestMessage,
    RequestHandler,
)

DIGESTS = {
    "RequestHandler.start": "08e54b4698500400",
    "RequestHandler._handle_request": "f28acaf978390735",
    "RequestHandler.finish_response": "57c2ba1becf7f89e",
    "RequestHandler.connection_lost": "295b004079bebb96",
    "RequestHandler.shutdown": "bd3679ae62677f6f",
    "RequestHandler.data_received": "7fd6573d7a1d3b46",
    "RequestHandler.handle_error": "874fd8ee13f05c6a",
    "RequestHandler._process_keepalive": "3e4785b376f43841",
    "RequestHandler._resume_reading_if_drained": "4b5a2f0ab7573461",
    "BaseProtocol.resume_reading": "887191c9499391a6",
    "BaseProtocol._drain_helper": "277e72096dde8b62",
}

ORIGINS = {"BaseProtocol": BaseProtocol, "RequestHandler": RequestHandler}


def meaning(node: Any) -> Iterator[str]:
    """What a piece of source says, without comments and docstrings, alike in every Python."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if value is not None and value != [] and name not in {"returns", "annotation"}:
                yield name
                yield from meaning(value)
        yield ")"
    elif isinstance(node, list):
        for part in node:
            if not _is_text_alone(part):
                yield from meaning(part)
    else:
        yield repr(node)


def _is_text_alone(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def digest(source: str) -> str:
    said = " ".join(meaning(ast.parse(textwrap.dedent(source))))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def private_names(text: str) -> set[str]:
    """The names with an underscore that a module takes from an object, or gives a method."""
    nodes = list(ast.walk(ast.parse(text)))
    found = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    found |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return {name for name in found if name.startswith("_") and not name.endswith("__")}


def names_of(*kinds: type) -> set[str]:
    """What aiohttp's classes have, by slot, attribute, or in what their methods set."""
    found: set[str] = set()
    for kind in kinds:
        for base in kind.__mro__[:-1]:
            found |= vars(base).keys() | set(getattr(base, "__slots__", ()))
            set_by = vars(base).get("__init__")
            found |= set(set_by.__code__.co_names) if inspect.isfunction(set_by) else set()
    return found


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_we_follow_means_what_it_did(name: str) -> None:
    origin, _, method = name.partition(".")
    source = inspect.getsource(getattr(ORIGINS[origin], method))

    assert digest(source) == DIGESTS.get(name), (
        f"aiohttp's {name} has changed: read it again beside gateway/server/connection.py "
        f"({FOLLOWED[name]}), bring ours up to date, then write {digest(source)!r} into DIGESTS."
    )


def test_digest_is_of_the_meaning_alone() -> None:
    plain = "def f(a):\n    return a + 1\n"
    told = '    def f(a: int) -> int:\n        """Add."""\n        # one\n        return (a + 1)\n'

    assert digest(plain) == digest(told)
    assert digest(plain) != digest(plain.replace("1", "2"))
    assert digest(plain) != digest(plain.replace("return a", "return b"))


def test_names_that_are_used_are_those_that_the_door_tells() -> None:
    theirs = names_of(RequestHandler, BaseRequest, RawRequestMessage)
    door = Path(aiohttp_inside.__file__)
    modules = [path for path in door.parent.glob("*.py") if path != door]
    used = set().union(*(private_names(path.read_text("utf-8")) for path in modules))

    assert used & theirs == PRIVATE.keys()
