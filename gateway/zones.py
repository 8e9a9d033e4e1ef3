"""Names of time zones that mean the same to Python and to PostgreSQL: those of the IANA database.

A system may know others: what is configured on it (`localtime`), what counts leap seconds (`right/UTC`).
"""

from __future__ import annotations

from functools import cache
from typing import Final
from zoneinfo import available_timezones

UTC: Final = "UTC"
_OF_THE_SYSTEM: Final = frozenset({"Factory", "localtime", "posixrules"})


def is_known(name: str) -> bool:
    """True for a name that a plan may have."""
    return name in _known()


def or_utc(name: str) -> str:
    """The name, or UTC in place of one that somebody else has stored."""
    return name if is_known(name) else UTC


@cache
def _known() -> frozenset[str]:
    return frozenset(available_timezones() - _OF_THE_SYSTEM)
