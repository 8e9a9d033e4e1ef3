"""Values of fields that say how long an answer may be kept: dates, and directives for gateways alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = [
    re.compile(pattern, re.I | re.A).fullmatch
    for pattern in (
        rf"(?:mon|tue|wed|thu|fri|sat|sun), (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} gmt",
        rf"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} gmt",
        rf"(?:mon|tue|wed|thu|fri|sat|sun) {_MONTH} (?P<day>\d\d| \d) {_TIME} (?P<year>\d{{4}})",
    )
]
"""IMF-fixdate, and the two forms of old (RFC 9110 5.6.7); in any case, as RFC 9111 4.2 has it."""
_KEY: Final = r"[a-z*][a-z0-9_.*-]*"
_BARE: Final = (
    r"-?\d{1,12}\.\d{1,3}|-?\d{1,15}|\"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\[\"\\])*\""
    r"|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*|:[A-Za-z0-9+/=]*:|\?[01]"
)
_PARAMETERS: Final = rf"(?:; *{_KEY}(?:=(?:{_BARE}))?)*"
_MEMBER: Final = re.compile(rf"[ \t]*({_KEY})(?:=({_BARE}))?{_PARAMETERS}[ \t]*(,|\Z)").match
_NUMBERED: Final = frozenset(["max-age", "s-maxage"])
_MOST_DIGITS: Final = 10


def moment(date: str | None) -> float | None:
    """A HTTP-date (RFC 9110 5.6.7) as Unix time; None when it isn't one."""
    found = next((match for form in _DATES if (match := form(date or ""))), None)
    if found is None:
        return None
    year = int(found["year"])
    if year < 100:  # not more than 50 years from now (RFC 9110 5.6.7)
        year += 2000 if year < 75 else 1900
    month, second = _MONTHS.index(found["month"].lower()) + 1, min(int(found["second"]), 59)
    try:
        at = datetime(
            *(year, month, int(found["day"]), int(found["hour"]), int(found["minute"]), second),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return at.timestamp()


def targeted(field: str | None) -> Mapping[str, str] | None:
    """The directives of `CDN-Cache-Control` (RFC 9213); None when it says nothing or is malformed.

    It is a dictionary of RFC 8941, and says all there is to say: `Cache-Control` and `Expires` are for
    others then. A lifetime that is no whole number of seconds is left out.
    """
    found: dict[str, str] = {}
    text, end, more = (field or "").strip(" "), 0, True
    while more:
        match = _MEMBER(text, end)
        if match is None:
            return None
        end, more = match.end(), match[3] == ","
        name, value = match[1], match[2] or ""
        found.pop(name, None)
        if value == "?0" or (
            name in _NUMBERED and not (value.isdigit() and len(value) <= _MOST_DIGITS)
        ):
            continue
        found[name] = "" if value == "?1" else value.strip('"')
    return found
