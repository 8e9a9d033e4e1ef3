"""The body that goes to the upstream when it is not the caller's own, byte for byte.

A kind is a small dataclass, made when the endpoint is compiled: `needs_body` says that the caller's
body must have been read whole, `make` gives the upstream's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol
from urllib.parse import quote_plus

import orjson

from gateway.exchange import Exchange
from gateway.problems import Fault, Rejected, quoted
from gateway.transform import documents
from gateway.transform.body_template import TemplateFault, body_of, compile_template
from gateway.transform.rules import pointer

if TYPE_CHECKING:
    from gateway.model import EndpointDefinition

KINDS: Final = ("passthrough", "static", "template", "form", "extract:<path>")
DEEPEST: Final = 10
"""How many levels of objects and lists a form may have."""

_EXTRACT: Final = "extract:"


class BodyFault(ValueError):
    """A body that can't be made; `field` is the definition's field that says so."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class MadeBody(Protocol):
    """One way to make a body. `content_type` is sent where the endpoint names none."""

    @property
    def needs_body(self) -> bool: ...
    @property
    def content_type(self) -> str | None: ...
    def make(self, exchange: Exchange) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Static:
    """The same bytes for every request."""

    content: bytes
    needs_body: ClassVar[bool] = False

    @property
    def content_type(self) -> str | None:
        """JSON, when that is what it is."""
        try:
            orjson.loads(self.content)
        except orjson.JSONDecodeError:
            return None
        return "application/json"

    def make(self, exchange: Exchange) -> bytes:
        """The bytes."""
        return self.content


@dataclass(frozen=True, slots=True)
class Extract:
    """One value of the caller's JSON, as JSON."""

    path: documents.Path
    needs_body: ClassVar[bool] = True
    content_type: ClassVar[str] = "application/json"

    def make(self, exchange: Exchange) -> bytes:
        """The value. Raises Rejected `validation_failed` when it is missing, or `bad_request`."""
        value = documents.find(body_of(exchange), self.path)
        if value is documents.MISSING:
            raise _broken(self.path, "is missing")
        try:
            return documents.render(value)
        except documents.NotJson as error:
            raise Rejected("bad_request", f"A value can't be sent on: {error}.") from None


@dataclass(frozen=True, slots=True)
class Form:
    """The caller's JSON object as a form: `a[b]=1&a[c][0]=x`; null is left out."""

    needs_body: ClassVar[bool] = True
    content_type: ClassVar[str] = "application/x-www-form-urlencoded"

    def make(self, exchange: Exchange) -> bytes:
        """The form. Raises Rejected `validation_failed` for what no form can say, or `bad_request`."""
        document = body_of(exchange)
        if not isinstance(document, dict):
            raise _broken((), "is not an object")
        try:
            return "&".join(_pairs(document, (), "")).encode("ascii")
        except UnicodeEncodeError:
            raise Rejected("bad_request", "A string has half of a surrogate pair.") from None


def _pairs(value: Any, place: tuple[str | int, ...], name: str) -> Iterator[str]:
    """`name=value` for each value that is no object and no list, percent-encoded."""
    if isinstance(value, (dict, list)):
        if len(place) >= DEEPEST:
            raise _broken(place, f"is nested more than {DEEPEST} levels deep")
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _pairs(inner, (*place, key), _named(name, key, place))
    elif value is not None:
        text = value if isinstance(value, str) else documents.render(value).decode("ascii")
        yield f"{name}={quote_plus(text)}"


def _named(name: str, key: str | int, place: tuple[str | int, ...]) -> str:
    """The name of a member. One with brackets could pass for a place that no rule has seen."""
    if not isinstance(key, int) and (not key or "[" in key or "]" in key):
        raise _broken((*place, key), "has a name that is empty or has brackets")
    part = quote_plus(str(key))
    return f"{name}%5B{part}%5D" if name else part


def _broken(place: tuple[str | int, ...], why: str) -> Rejected:
    return Rejected(
        "validation_failed",
        "The endpoint can't make the upstream's body from this one.",
        errors=[Fault(pointer(place), why)],
    )


def compile_body(own: EndpointDefinition, parameters: Collection[str]) -> MadeBody | None:
    """How the endpoint's bodies are made; None when the caller's pass. Raises BodyFault.

    `parameters` are the names in the endpoint's path.
    """
    kind, text = own.body_transform, own.upstream_static_body
    if kind == "passthrough":
        return None
    if kind == "static":
        return Static((text or "").encode("utf-8"))
    if kind == "form":
        return Form()
    if kind == "template":
        try:
            return compile_template(text or "", own.upstream_content_type, parameters)
        except TemplateFault as fault:
            raise BodyFault("upstream_static_body", str(fault)) from fault
    if kind.startswith(_EXTRACT):
        try:
            return Extract(documents.path(kind.removeprefix(_EXTRACT)))
        except documents.PathFault as fault:
            raise BodyFault("body_transform", str(fault)) from fault
    raise BodyFault(
        "body_transform", f"unknown body transform {quoted(kind)}; known: {', '.join(KINDS)}"
    )
