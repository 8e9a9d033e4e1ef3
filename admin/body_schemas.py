"""Schemas of bodies: those that a connector keeps for its endpoints, and what an endpoint says of its own.

An endpoint's can be compiled for certain only beside its connector's, so that is done when it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from marshmallow import ValidationError, fields, validate

from admin.fields import Pairs, matches, sentence, text
from gateway.problems import Fault, Rejected
from gateway.transform import definitions as known
from gateway.transform.definitions import Definitions
from gateway.transform.rules import (
    MOST_SCHEMAS_BYTES,
    RuleFault,
    check_definition,
    check_form,
    compile_schema,
    size_of,
)

MOST_DEFINITIONS: Final = 2000
_TOO_MANY: Final = (
    f"The schemas of a connector, each with what it refers to, have at most "
    f"{MOST_SCHEMAS_BYTES >> 20} MiB in all."
)
_NAME: Final = matches(r"[A-Za-z0-9._-]+", "Not a name: letters, digits and ._- alone.")


def _check_definitions(schemas: dict[str, Any]) -> None:
    """Raises ValidationError with the faults by name, the first of each."""
    if size_of(schemas) > MOST_SCHEMAS_BYTES:
        raise ValidationError(_TOO_MANY)
    faults: dict[str, list[str]] = {}
    for name, schema in schemas.items():
        try:
            check_definition(schema)
        except RuleFault as fault:
            faults[name] = [sentence(fault)]
            continue
        for other in sorted(known.referred(schema) - schemas.keys()):
            faults[name] = [f"There is no {other} among the connector's schemas."]
    if faults:
        raise ValidationError(dict[str | int, list[str]](faults))


def definitions() -> Pairs:
    """The field of a connector's schemas by name."""
    return Pairs(
        keys=text(128, least=1, rules=(_NAME,)),
        values=fields.Raw(metadata={"type": ["object", "boolean"]}),
        validate=[validate.Length(max=MOST_DEFINITIONS), _check_definitions],
        load_default=dict,
        metadata={
            "description": "JSON Schemas 2020-12 that bodySchema, and these themselves, refer to as"
            " #/$defs/NAME."
        },
    )


def check_alone(schema: Any) -> None:
    """Raises RuleFault for what no connector's schemas could make right."""
    if isinstance(schema, dict) and known.referred(schema):
        check_form(schema)
    else:
        compile_schema(schema)


def check(
    items: Sequence[Mapping[str, Any]],
    there: Sequence[Mapping[str, Any]],
    connector: Mapping[str, Any],
    prefix: str = "",
) -> None:
    """Raises Rejected `validation_failed` for endpoints whose schemas don't compile, or are too large.

    `there` are the endpoints beside them; `prefix` leads the pointers.
    """
    shared = Definitions(connector.get("schemas", {}))
    units: dict[Any, int] = {}
    for row in there:
        if (schema := row.get("body_schema")) is not None:
            with suppress(ValueError):  # what is there is not what is asked about
                units.__setitem__(*shared.unit(schema))
    faults = [
        Fault((f"{prefix}/{at}" if prefix else "") + "/bodySchema", why)
        for at, why in _faults(items, shared, units)
    ]
    if faults:
        raise Rejected("validation_failed", faults[0].detail, errors=faults)


def check_edit(
    own: Sequence[Mapping[str, Any]], before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Raises Rejected `conflict` for new schemas of a connector with which its endpoints' fail."""
    gone = before.keys() - after.keys()
    faults = []
    for at, why in _faults(own, Definitions(after), {}):
        named = sorted(known.referred(own[at]["body_schema"]) & gone)
        place = f"/schemas/{named[0]}" if named else "/schemas"
        faults.append(Fault(place, f"The endpoint {own[at]['name']} refers to it: {why}"))
    if faults:
        raise Rejected("conflict", faults[0].detail, errors=faults)


def _faults(
    items: Sequence[Mapping[str, Any]], shared: Definitions, units: dict[Any, int]
) -> Iterator[tuple[int, str]]:
    """Which of the items has a schema that can't be used, and why; what is too much ends it.

    `units` are the sizes of what there is.
    """
    total = sum(units.values())
    compiled: set[Any] = set()
    for at, item in enumerate(items):
        if (schema := item.get("body_schema")) is None:
            continue
        try:
            unit = shared.unit(schema)
            if (unit.key, known.alone(schema)) not in compiled:
                compile_schema(schema, shared)
        except ValueError as fault:
            yield at, sentence(fault)
            continue
        compiled.add((unit.key, known.alone(schema)))
        if unit.key not in units:
            units[unit.key] = unit.size
            total += unit.size
        if total > MOST_SCHEMAS_BYTES:
            yield at, _TOO_MANY
            return
