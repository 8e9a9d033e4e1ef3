"""The fields that the admin schemas are made of: strict about types, camelCase on the wire.

Functions give marshmallow's own fields where those are strict enough; the classes here are for
where they are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, missing, validate

MOST_MS: Final = 3_600_000
MOST_BYTES: Final = 1 << 40
MOST_COUNT: Final = (1 << 31) - 1
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[+-]\d\d:\d\d)"
).fullmatch


def is_id(text: str) -> bool:
    """True for the text of an object's id."""
    return _ID(text) is not None


def camel(name: str) -> str:
    """`upstream_base_url` as it is on the wire: `upstreamBaseUrl`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def sentence(fault: Exception) -> str:
    """The text of a fault as the detail of an answer."""
    words = str(fault)
    return f"{words[:1].upper()}{words[1:]}."


@dataclass(frozen=True, slots=True)
class Rule:
    """A check that raises ValidationError, and as much of it as JSON Schema can say."""

    check: Callable[[Any], None]
    says: Mapping[str, Any]

    def __call__(self, value: Any) -> None:
        """Raises ValidationError."""
        self.check(value)


def says(**keywords: Any) -> Callable[[Callable[[Any], None]], Rule]:
    """Make a check a rule: `@says(format="uri")`."""
    return lambda check: Rule(check, keywords)


class Wire(Schema):
    """A JSON object: camelCase outside, snake_case inside; unknown members are refused."""

    class Meta:
        """Marshmallow's settings."""

        unknown = RAISE

    error_messages = {  # noqa: RUF012 - as marshmallow declares it
        "unknown": "Unknown or read-only field.",
        "type": "Not an object.",
    }

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Give a field its name on the wire."""
        if field_obj.data_key is None:
            field_obj.data_key = camel(field_name)

    def settings(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What a client may set, as it stands in a row, in the wire's terms."""
        shown = {
            str(field.data_key): field.serialize(name, row, accessor=self.get_attribute)
            for name, field in self.load_fields.items()
            if not field.load_only
        }
        return {name: value for name, value in shown.items() if value is not missing}

    def merged(self, current: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
        """What PATCH means: a field that is given replaces the old one as a whole, null clears.

        Cleared is null where a field may be null, else the field's default.
        """
        known = {field.data_key: field for field in self.load_fields.values()}
        after = {**current, **patch}
        for name, value in patch.items():
            if value is None and name in known and not known[name].allow_none:
                del after[name]
        return after


class Place(Wire):
    """A place in a document, and what is to be said of it."""

    pointer = fields.String(required=True)
    detail = fields.String(required=True)


class Switch(fields.Boolean):
    """true or false, and nothing that resembles them."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Instant(fields.AwareDateTime):
    """A time with its zone (RFC 3339), told in UTC with a Z."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        if value is None:
            return None
        text: str = value.astimezone(UTC).isoformat()
        return text.replace("+00:00", "Z")

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        if not isinstance(value, str) or not _RFC3339(value):
            raise ValidationError("Not a time with a zone, such as 2030-01-31T12:00:00Z.")
        try:
            return super()._deserialize(value, attr, data, **kwargs).astimezone(UTC)
        except OverflowError:
            raise ValidationError("Not a time that can be kept.") from None


class Pairs(fields.Dict):
    """Names with values; a fault points to its pair."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> dict[Any, Any]:
        try:
            loaded: dict[Any, Any] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call] # as marshmallow has it
        except ValidationError as error:
            if not isinstance(error.messages, dict):
                raise
            messages = {name: [*found.values()] for name, found in error.messages.items()}
            raise ValidationError(messages) from None
        return loaded


def text(
    most: int, *, least: int = 0, rules: tuple[Any, ...] = (), **options: Any
) -> fields.String:
    """Text of `least` to `most` characters that keeps some rules."""
    return fields.String(validate=[validate.Length(least, most), *rules], **options)


def choice(names: tuple[str, ...], **options: Any) -> fields.String:
    """One of these texts."""
    return fields.String(validate=validate.OneOf(names), **options)


def count(least: int, most: int, **options: Any) -> fields.Integer:
    """An integer from `least` to `most`."""
    options = {"strict": True, **options}
    return fields.Integer(validate=validate.Range(least, most), **options)


def texts(of: fields.Field[Any], most: int, **options: Any) -> fields.List[Any]:
    """At most so many texts, each once."""
    options = {"load_default": list, **options}
    return fields.List(of, validate=[validate.Length(max=most), each_once], **options)


def pairs(name: fields.Field[Any], value: fields.Field[Any], most: int = 50) -> Pairs:
    """At most so many names with values; none by default."""
    return Pairs(keys=name, values=value, validate=validate.Length(max=most), load_default=dict)


def matches(pattern: str, detail: str) -> validate.Regexp:
    """A rule for the whole of a text."""
    return validate.Regexp(rf"(?:{pattern})\Z", error=detail)


@says(uniqueItems=True)
def each_once(values: list[Any]) -> None:
    """Raises ValidationError for a list with something twice."""
    if len(set(values)) < len(values):
        raise ValidationError("Has something twice.")
