"""Settings as frozen dataclasses whose fields carry their marshmallow field and their sentence.

One mechanism serves the configuration file and every filter's options, so that a value is checked,
documented and defaulted in one place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from marshmallow import ValidationError, fields, validate

T = TypeVar("T")


class Spot(NamedTuple):
    """A fault in a configuration: where it is (`server.listen`, `pipeline[3].burst`) and why."""

    path: str
    detail: str
    joint: str = ": "

    def __str__(self) -> str:
        return f"{self.path}{self.joint}{self.detail}"


class OptionFaults(Exception):
    """Everything that is wrong with a configuration, not just the first thing."""

    def __init__(self, spots: list[Spot]) -> None:
        super().__init__("\n".join(map(str, spots)))
        self.spots = spots


class Whole(fields.Integer):
    """An integer, or text of digits (an environment variable is always text)."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(error_messages={"invalid": "not an integer"}, **settings)

    def _validated(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


class Number(fields.Float):
    """A finite number, or text of one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(error_messages={"invalid": "not a number"}, **settings)

    def _validated(self, value: Any) -> float:
        if isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._validated(value)


def whole(
    default: Any, doc: str, *, least: int = 0, most: int | None = None, optional: bool = False
) -> Any:
    """An integer between `least` and `most`, perhaps null."""
    kind = Whole(validate=validate.Range(least, most), allow_none=optional)
    return option(kind, default, doc)


def number(default: Any, doc: str, *, least: float = 0, most: float | None = None) -> Any:
    """A number between `least` and `most`."""
    return option(Number(validate=validate.Range(least, most)), default, doc)


Check = Callable[[str], object]
"""Looks at a string and raises ValueError when it won't do."""


def text(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    optional: bool = False,
    check: Check | None = None,
    secret: bool = False,
) -> Any:
    """A string, perhaps one of `choices`, perhaps null; a secret one is in no repr."""
    rule = validate.OneOf(choices, error="not one of: {choices}") if choices else _rule(check)
    kind = fields.String(validate=rule, allow_none=optional)
    return dataclasses.field(default=default, metadata={"doc": doc, "field": kind}, repr=not secret)


def switch(default: bool, doc: str) -> Any:
    """A boolean."""
    return option(fields.Boolean(), default, doc)


def texts(default: tuple[str, ...], doc: str, *, check: Check | None = None) -> Any:
    """A list of strings."""
    return option(fields.List(fields.String(validate=_rule(check))), default, doc)


def _rule(check: Check | None) -> Callable[[str], None] | None:
    if check is None:
        return None

    def rule(value: str) -> None:
        try:
            check(value)
        except (ValueError, OSError) as error:
            raise ValidationError(str(error)) from None

    return rule


def entries(default: tuple[Any, ...], doc: str, of: type[Any]) -> Any:
    """A list of mappings, each checked as the dataclass `of`."""
    return dataclasses.field(default=default, metadata={"doc": doc, "entries": of})


def raw(default: Any, doc: str) -> Any:
    """A value that is checked elsewhere."""
    return option(fields.Raw(allow_none=True), default, doc)


def section(of: type[Any], doc: str) -> Any:
    """A mapping checked as the dataclass `of`."""
    return dataclasses.field(default_factory=of, metadata={"doc": doc, "section": of})


def option(kind: fields.Field[Any], default: Any, doc: str) -> Any:
    """A dataclass field that is checked by a marshmallow field."""
    return dataclasses.field(default=default, metadata={"doc": doc, "field": kind})


def load(cls: type[T], given: Any, path: str = "") -> T:
    """Check a mapping and make the dataclass from it; OptionFaults lists every fault with its path."""
    spots: list[Spot] = []
    made = _load(cls, given, path, spots)
    if spots:
        raise OptionFaults(spots)
    assert made is not None
    return made


def _load(cls: type[T], given: Any, path: str, spots: list[Spot]) -> T | None:
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        spots.append(Spot(path or "(file)", "not a mapping"))
        return None
    before = len(spots)
    values: dict[str, Any] = {}
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type] # a dataclass by contract
    for name, value in given.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in known:
            spots.append(Spot(where, f"unknown setting; known here: {', '.join(known)}"))
        else:
            values[name] = _value(known[name].metadata, value, where, spots)
    for name, entry in known.items():
        required = entry.default is dataclasses.MISSING
        if required and entry.default_factory is dataclasses.MISSING and name not in given:
            spots.append(Spot(f"{path}.{name}" if path else name, "is required"))
    if len(spots) > before:
        return None
    try:
        return cls(**values)
    except ValueError as error:
        spots.append(Spot(path or "(file)", str(error)))
        return None


def _value(metadata: Mapping[str, Any], value: Any, path: str, spots: list[Spot]) -> Any:
    if "section" in metadata:
        return _load(metadata["section"], value, path, spots)
    if "entries" in metadata:
        if not isinstance(value, list):
            spots.append(Spot(path, "not a list"))
            return ()
        return tuple(
            _load(metadata["entries"], item, f"{path}[{index}]", spots)
            for index, item in enumerate(value)
        )
    try:
        loaded = metadata["field"].deserialize(value)
    except ValidationError as error:
        spots.extend(_spots(error.messages, path))
        return None
    return tuple(loaded) if isinstance(loaded, list) else loaded


def _spots(messages: Any, path: str) -> list[Spot]:
    """Marshmallow's nested messages as flat spots."""
    if isinstance(messages, str):
        return [Spot(path, messages.rstrip("."))]
    if isinstance(messages, list):
        return [spot for message in messages for spot in _spots(message, path)]
    found: list[Spot] = []
    for key, value in messages.items():
        if key == "_schema":
            found += _spots(value, path)
        else:
            found += _spots(value, f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}")
    return found
