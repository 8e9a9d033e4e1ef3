"""Targets of a connector: the origins that its requests are spread over, in place of its base URL.

Paths, allowed hosts and secrets go by the base URL; a target is one more origin that may get them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from marshmallow import ValidationError, fields, validate

from admin import hosts
from admin.fields import Wire, count, text
from gateway.secrets.destinations import Origin
from gateway.upstream.connections import host_fits

MOST_TARGETS: Final = 32
MOST_WEIGHT: Final = 1000
MOST_PRIORITY: Final = 100


class TargetSchema(Wire):
    """Where requests may go, how many of them, and when: the lowest priority number first."""

    url = text(2048, least=1, rules=(hosts.check_origin,), required=True)
    weight = count(1, MOST_WEIGHT, load_default=1)
    priority = count(0, MOST_PRIORITY, load_default=0)


def targets() -> fields.List[Any]:
    """The field of a connector's targets."""
    most = validate.Length(max=MOST_TARGETS)
    return fields.List(fields.Nested(TargetSchema), validate=most, load_default=list)


def origins(row: Mapping[str, Any]) -> set[Origin]:
    """Every origin that a connector's requests may go to; it has checked URLs."""
    urls = [row["upstream_base_url"], *(target["url"] for target in row.get("targets", ()))]
    return {hosts.origin(url) for url in urls}


def check_targets(item: Mapping[str, Any], allowed: list[str]) -> None:
    """Raises ValidationError for a target whose host is not allowed, or that is there twice."""
    faults: dict[int, dict[str, list[str]]] = {}
    seen = set()
    for index, target in enumerate(item["targets"]):
        origin = hosts.origin(target["url"])
        if not any(host_fits(origin[1], entry) for entry in allowed):
            faults[index] = {"url": [f"The host {origin[1]} is not among the allowed hosts."]}
        elif origin in seen:
            faults[index] = {"url": ["Another target has this origin."]}
        seen.add(origin)
    if faults:
        raise ValidationError({"targets": faults})
