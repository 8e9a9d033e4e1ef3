"""The fields that the admin schemas are made of: strict about types, camelCase on the wire.

Functions give marshmallow's own fields where those are strict enough; the classes here are for
where they are not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from marshmallow import RAISE, Schema, ValidationError, fields, missing, validate

from gateway.problems import quoted

MOST_MS: Final = 3_600_000
MOST_BYTES: Final = 1 << 40
MOST_COUNT: Final = (1 << 31) - 1
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SUCH_AS: Final = {"milliseconds": 30_000, "seconds": 60, "bytes": 1_048_576}
_STRANGE: Final = "Unknown field."
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


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The refusal of a strange name, with the known one that was probably meant.

    Upper case, hyphens and underscores make no difference.
    """
    plain = {each.lower(): each for each in known}
    found = difflib.get_close_matches(re.sub("[_-]", "", name).lower(), plain, 1)
    return f'Unknown {what}; did you mean "{plain[found[0]]}"?' if found else f"Unknown {what}."


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
        "unknown": _STRANGE,
        "type": "Not an object.",
    }

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Give a field its name on the wire."""
        if field_obj.data_key is None:
            field_obj.data_key = camel(field_name)

    def handle_error(self, error: ValidationError, data: Any, *, many: bool, **kwargs: Any) -> None:
        """Say more of a field that is not taken: that it can only be read, or what was meant."""
        messages: Any = error.messages
        for name in [name for name, found in messages.items() if found == [_STRANGE]]:
            messages[name] = [self._strange(str(name))]

    def _strange(self, name: str) -> str:
        if any(name == field.data_key for field in self.dump_fields.values()):
            return "Read-only field: leave it out."
        return unknown("field", name, [str(f.data_key) for f in self.load_fields.values()])

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

    default_error_messages = {"invalid": "Not true or false."}  # noqa: RUF012 - as marshmallow declares it

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

    default_error_messages = {"invalid": "Not an object of names and values."}  # noqa: RUF012 - as marshmallow declares it

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
    options["error_messages"] = {"invalid": "Not a text."}
    return fields.String(validate=[validate.Length(least, most), *rules], **options)


def choice(names: tuple[str, ...], *, hint: str = "", **options: Any) -> fields.String:
    """One of these texts; `hint` goes with the refusal of another."""
    said = f"Must be one of: {', '.join(names)}. {hint}".rstrip()
    return fields.String(
        validate=validate.OneOf(names, error=said), error_messages={"invalid": said}, **options
    )


def count(least: int, most: int, unit: str = "", **options: Any) -> fields.Integer:
    """An integer from `least` to `most`, perhaps of a unit (milliseconds, seconds, bytes)."""
    of_what = f"an integer of {unit}" if unit else "an integer"
    such_as = f", such as {_SUCH_AS[unit]}" if unit else ""
    said = f"Not {of_what} from {least} to {most}{such_as}."
    options = {"strict": True, "error_messages": {"invalid": said, "too_large": said}, **options}
    return fields.Integer(validate=validate.Range(least, most, error=said), **options)


def texts(of: fields.Field[Any], most: int, **options: Any) -> fields.List[Any]:
    """At most so many texts, each once."""
    said = {"invalid": "Not a list."}
    options = {"load_default": list, "error_messages": said, **options}
    return fields.List(of, validate=[validate.Length(max=most), each_once], **options)


def pairs(name: fields.Field[Any], value: fields.Field[Any], most: int = 50) -> Pairs:
    """At most so many names with values; none by default."""
    return Pairs(keys=name, values=value, validate=validate.Length(max=most), load_default=dict)


def matches(pattern: str, detail: str) -> validate.Regexp:
    """A rule for the whole of a text."""
    return validate.Regexp(rf"(?:{pattern})\Z", error=detail)


@says(uniqueItems=True)
def each_once(values: list[str]) -> None:
    """Raises ValidationError for a list with something twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise ValidationError(f"Has {quoted(value)} twice.")
        seen.add(value)
