"""Routes: what a resource serves, for whom, and what each takes and answers; declared by its module.

The description of the API is made of them. The summary of a route is its handler's docstring; its
errors follow from what it takes, `codes` names the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from marshmallow import fields

from admin.calls import AdminHandler
from admin.fields import Wire

MOST_BYTES: Final = 2 << 20
"""How large a body may be, where a route says nothing else."""
_NONE: Final[Mapping[str, str]] = MappingProxyType({})

Shape = type[Wire] | dict[str, Any]
"""A schema, or JSON Schema as it stands."""


class Operation(NamedTuple):
    """What a route takes and answers. No answer: 204, or bytes.

    `flags` are its query's switches beside `dryRun`, each with a sentence.
    """

    answer: Shape | None = None
    status: int = 200
    many: bool = False
    body: Shape | fields.Field[Any] | None = None
    body_optional: bool = False
    example: Any = None
    query: type[Wire] | None = None
    flags: Mapping[str, str] = _NONE
    etag: bool = False
    if_match: bool = False
    codes: tuple[str, ...] = ()
    about: str = ""
    media_types: tuple[str, ...] = ("application/json",)
    also: tuple[tuple[int, Shape], ...] = ()
    most_bytes: int = MOST_BYTES


class Route(NamedTuple):
    """One endpoint of the API, the role that it needs, and its operation."""

    method: str
    path: str
    role: str
    handler: AdminHandler
    operation: Operation


class Resource(NamedTuple):
    """The routes of a module. Their operations are called `name.handler`, in the group `tag`."""

    name: str
    tag: str
    routes: tuple[Route, ...]


def lists(item: Shape, query: type[Wire] | None = None) -> Operation:
    """A page of a list."""
    return Operation(item, many=True, query=query)


def shows(answer: Shape, *, etag: bool = True) -> Operation:
    """One object."""
    return Operation(answer, etag=etag)


def creates(answer: Shape, body: Shape, example: Any) -> Operation:
    """A new object."""
    return Operation(answer, 201, body=body, etag=True, example=example)


def writes(answer: Shape, body: Shape, example: Any) -> Operation:
    """An object that is there already, changed."""
    return Operation(answer, body=body, etag=True, if_match=True, example=example)


def acts(answer: Shape, **more: Any) -> Operation:
    """A verb on an object, which answers it as it is then."""
    return Operation(answer, etag=True, if_match=True, **more)


def deletes(**more: Any) -> Operation:
    """An object's end."""
    return Operation(status=204, if_match=True, **more)
