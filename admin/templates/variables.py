"""Variables of templates: where `{{variables.name}}` may stand, and the values that are put there.

A value matches the whole of its pattern. Whatever a pattern lets through, no value leaves its place:
none ends a host, begins a query, names a parameter or a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from marshmallow import ValidationError

from gateway.transform.rules import RuleFault, compile_pattern

_VARIABLE: Final = re.compile(r"\{\{\s*variables\.([A-Za-z][A-Za-z0-9_]*)\s*\}\}")
_SEGMENT: Final = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9._~@-][A-Za-z0-9._~@:-]*"


class Place(NamedTuple):
    """What a value that is put somewhere may be made of, and that in words."""

    takes: re.Pattern[str]
    told: str


HOST: Final = Place(
    re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"),
    "It is put into a host: a-z, 0-9 and hyphens, in parts between dots.",
)
PATH: Final = Place(
    re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*"),
    "It is put into a path: letters, digits and -._~@: in segments between slashes.",
)
TEXT: Final = Place(
    re.compile(r"[^\x00-\x1f\x7f{}]+"), "It may hold no braces and no control characters."
)
_URL: Final = Place(TEXT.takes, "")  # a host up to the path, then a path

OF_CONNECTOR: Final[Mapping[str, Place]] = {
    "upstreamBaseUrl": _URL,
    "allowedHosts": HOST,
    "targets": _URL,
    "healthCheckPath": PATH,
    "authConfig": TEXT,
}
OF_ENDPOINT: Final[Mapping[str, Place]] = {
    "path": PATH,
    "upstreamPath": PATH,
    "upstreamQueryParams": TEXT,
    "defaultQueryParams": TEXT,
    "setHeaders": TEXT,
    "addHeaders": TEXT,
}
_Fill = Callable[[str, Place], str]


def used(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the variables in a connector with its endpoints, as a template says them."""
    names: list[str] = []

    def collect(text: str, place: Place) -> str:
        names.extend(_VARIABLE.findall(text))
        return text

    _replaced(body, collect)
    return tuple(dict.fromkeys(names))


def put_in(
    body: Mapping[str, Any], declared: Iterable[Mapping[str, Any]], given: Mapping[str, str]
) -> dict[str, Any]:
    """The body with its variables' values. Raises ValidationError with the faults by their names."""
    known = {variable["name"]: variable for variable in declared}
    faults = {name: "The template has no such variable." for name in given if name not in known}

    def value(name: str, place: Place) -> str:
        variable = known[name]
        if (chosen := given.get(name, variable.get("default"))) is None:
            faults[name] = f"Needed: {variable['description']}"
        elif (fault := misfit(variable, chosen, place)) is not None:
            faults.setdefault(name, fault)
        return chosen or ""

    made = _replaced(
        body,
        lambda text, place: _VARIABLE.sub(lambda match: value(match.group(1), place), text),
    )
    if faults:
        raise ValidationError({"variables": {name: [text] for name, text in faults.items()}})
    return made


def misfit(variable: Mapping[str, Any], value: str, place: Place = TEXT) -> str | None:
    """Why a value of a variable can't stand in a place; None when it can."""
    pattern = variable["pattern"]
    if compile_pattern(rf"\A(?:{pattern})\z").search(value) is None:
        return f"It must match {pattern}, as {variable['example']} does."
    return None if place.takes.fullmatch(value) else place.told


def pattern_fault(variable: Mapping[str, Any]) -> str | None:
    """Why a variable's pattern can't be used; None when it can."""
    try:
        compile_pattern(variable["pattern"])
    except RuleFault as fault:
        return str(fault)
    return None


def _replaced(body: Mapping[str, Any], fill: _Fill) -> dict[str, Any]:
    """A connector with its endpoints, each text of it that may hold variables filled."""
    said = _each(body, OF_CONNECTOR, fill)
    endpoints = [{**entry, **_each(entry, OF_ENDPOINT, fill)} for entry in body["endpoints"]]
    return {**body, **said, "endpoints": endpoints}


def _each(said: Mapping[str, Any], places: Mapping[str, Place], fill: _Fill) -> dict[str, Any]:
    return {
        name: _within(said[name], place, fill) for name, place in places.items() if name in said
    }


def _within(node: Any, place: Place, fill: _Fill) -> Any:
    match node:
        case str() if place is _URL:
            scheme, joint, rest = node.partition("://")
            host, slash, path = rest.partition("/")
            return f"{scheme}{joint}{fill(host, HOST)}{slash}{fill(path, PATH)}"
        case str():
            return fill(node, place)
        case list():
            return [_within(entry, place, fill) for entry in node]
        case dict():
            return {name: _within(entry, place, fill) for name, entry in node.items()}
    return node
