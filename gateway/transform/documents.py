"""JSON documents: read with their numbers as they were written, and paths to places in them.

What is taken from one document and put into another must not change on the way: 1.10 stays 1.10,
and an integer of thirty digits stays whole, which no parser into Python's numbers promises.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import orjson

from gateway.problems import quoted

MISSING: Final = object()
"""What is found where there is nothing; null is something."""
Path = tuple[str, ...]

_MOST_SEGMENTS: Final = 32
_is_segment: Final = re.compile(r"[^\s.{}\[\]\x00-\x1f\x7f]{1,128}").fullmatch
_is_index: Final = re.compile(r"0|[1-9][0-9]{0,8}").fullmatch


class NotJson(ValueError):
    """Not a JSON document, or none that can be written again; the text says why."""


class PathFault(ValueError):
    """Not a path; the text says why."""


def parse(content: bytes) -> Any:
    """The document; a number is a fragment, which `render` writes as it was. Raises NotJson.

    Of a name that an object has twice the last counts, as it does for the endpoint's JSON Schema.
    """
    try:
        return json.loads(
            content.decode("utf-8"),
            parse_int=orjson.Fragment,
            parse_float=orjson.Fragment,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at position {error.pos}") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at position {error.start}") from None
    except RecursionError:
        raise NotJson("nested too deeply") from None


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is no number")


def render(value: Any) -> bytes:
    """A value as JSON. Raises NotJson for half a surrogate pair, or what is nested too deeply."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise NotJson(str(error)) from None


def path(text: str) -> Path:
    """The segments of `a.b.0`: names of objects, indexes of lists. Raises PathFault."""
    segments = tuple(text.split("."))
    if len(segments) > _MOST_SEGMENTS:
        raise PathFault(f"a path has at most {_MOST_SEGMENTS} segments")
    if not all(map(_is_segment, segments)):
        raise PathFault(f"{quoted(text[:80])} is not a path such as a.b.0")
    return segments


def find(document: Any, where: Path) -> Any:
    """What is at a place of a document, or MISSING."""
    for name in where:
        document = step(document, name)
    return document


def step(value: Any, name: str) -> Any:
    """The member or the element of a value, or MISSING."""
    if isinstance(value, dict):
        return value.get(name, MISSING)
    if isinstance(value, list) and _is_index(name) and int(name) < len(value):
        return value[int(name)]
    return MISSING
