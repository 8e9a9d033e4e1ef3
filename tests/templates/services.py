"""The mock upstreams by the ids of the templates that they prove, in the order of the box."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

import templates
from tests.templates.mock import Call, Stop


class Service(Protocol):
    """A module beside this one."""

    SECRETS: Mapping[str, str]
    CALLS: list[Call]

    async def start(self) -> tuple[str, Stop]:
        """Start it; answers its base URL and what stops it."""
        ...


def _service(id_: str) -> Service:
    return cast("Service", import_module(f"tests.templates.{id_.replace('-', '_')}"))


def variables_of(service: Service) -> dict[str, str]:
    """The values of a template's variables; those that have defaults may be left out."""
    return dict(getattr(service, "VARIABLES", {}))


SERVICES = {id_: _service(id_) for id_ in templates.all()}
EVERY_CALL = [
    (id_, number, call)
    for id_, entry in SERVICES.items()
    for number, call in enumerate(entry.CALLS)
]
