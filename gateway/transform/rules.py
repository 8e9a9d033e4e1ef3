"""What an endpoint asks of a request's fields and body: compiled once, checked per request.

JSON Schema 2020-12 by jsonschema-rs, patterns by RE2 (linear time whatever the input). The admin
API compiles with the same functions when an endpoint is saved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs
import orjson
import re2

from gateway.problems import Fault, Rejected, quoted

_MOST_FAULTS: Final = 20
_BETWEEN_WORDS: Final = r"[^\pL\pM\pN_]"  # RE2's \W takes letters beyond ASCII for no letters
_RE2_OPTIONS: Final = re2.Options()
_RE2_OPTIONS.log_errors = False
_RE2_OPTIONS.max_mem = 8 << 20


class RuleFault(ValueError):
    """A rule that does not compile; the text says why."""


def compile_schema(schema: Any) -> Any:
    """A validator for a JSON Schema 2020-12 document; references to elsewhere are refused."""
    if not isinstance(schema, (dict, bool)):
        raise RuleFault("a JSON Schema is an object or a boolean")
    if (reference := _foreign_reference(schema)) is not None:
        raise RuleFault(f"$ref {quoted(reference)} leads out of the schema")
    try:
        return jsonschema_rs.Draft202012Validator(
            schema, mask="the value", pattern_options=jsonschema_rs.RegexOptions()
        )
    except ValueError as error:
        raise RuleFault(str(error).splitlines()[0]) from error


def _foreign_reference(schema: Any) -> str | None:
    nodes = [schema]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            for name in ("$ref", "$dynamicRef"):
                if isinstance(value := node.get(name), str) and not value.startswith("#"):
                    return value
            nodes += node.values()
        elif isinstance(node, list):
            nodes += node
    return None


def compile_pattern(pattern: str) -> Any:
    """A linear-time pattern (RE2 syntax), searched for anywhere in the body."""
    try:
        return re2.compile(pattern, _RE2_OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise RuleFault(f"not an RE2 pattern: {text}") from error


def compile_words(words: Sequence[str]) -> Any:
    """One pattern that finds any of the words as a whole word, in any case."""
    alternatives = "|".join(re.escape(word) for word in words)
    return compile_pattern(rf"(?i)(?:^|{_BETWEEN_WORDS})({alternatives})(?:{_BETWEEN_WORDS}|$)")


@dataclass(frozen=True, slots=True)
class Rules:
    """The compiled rules of one endpoint."""

    required_headers: tuple[str, ...] = ()
    media_types: frozenset[str] = frozenset()
    schema: Any = None
    pattern: Any = None
    words: Any = None

    @property
    def need_body(self) -> bool:
        """True when the body must be read before the request goes on."""
        return self.schema is not None or self.pattern is not None or self.words is not None

    def check_headers(self, headers: Mapping[str, str]) -> None:
        """Raises Rejected `validation_failed` or `unsupported_media_type`."""
        missing = [name for name in self.required_headers if not headers.get(name, "").strip()]
        if missing:
            raise Rejected(
                "validation_failed",
                f"The request lacks the header {missing[0]}.",
                errors=[Fault(name, "this header is required") for name in missing],
            )
        if self.media_types and ("content-type" in headers or _announces_body(headers)):
            given = headers.get("content-type", "").partition(";")[0].strip().lower()
            if given not in self.media_types:
                raise Rejected(
                    "unsupported_media_type",
                    f"The body must be {' or '.join(sorted(self.media_types))}.",
                )

    def check_body(self, body: bytes) -> None:
        """Raises Rejected `validation_failed`, or `bad_request` for a body that is not JSON."""
        if self.pattern is not None or self.words is not None:
            self._check_text(body)
        if self.schema is None:
            return
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Rejected(
                "bad_request", f"The body is not JSON: {error.msg} at position {error.pos}."
            ) from error
        if self.schema.is_valid(document):
            return
        faults = []
        for found in self.schema.iter_errors(document):
            faults.append(Fault(pointer(found.instance_path), _shortened(found.message)))
            if len(faults) == _MOST_FAULTS:
                break
        raise Rejected(
            "validation_failed", "The body breaks the endpoint's JSON Schema.", errors=faults
        )

    def _check_text(self, body: bytes) -> None:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Rejected("bad_request", "The body is not UTF-8 text.") from error
        if self.pattern is not None and self.pattern.search(text) is None:
            raise Rejected(
                "validation_failed",
                "The body does not match the endpoint's pattern.",
                errors=[Fault("", "does not match the pattern")],
            )
        if self.words is not None and (found := self.words.search(text)) is not None:
            raise Rejected(
                "validation_failed",
                "The body has a word that the endpoint forbids.",
                errors=[Fault("", f"the word {found.group(1)} is forbidden")],
            )


def _announces_body(headers: Mapping[str, str]) -> bool:
    """True when a body follows the head (RFC 9112 6.3)."""
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) to a place in a document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _shortened(message: str) -> str:
    """What is wrong; the validator's mask keeps the value, which may be secret, out of it."""
    return message if len(message) <= 200 else f"{message[:199]}…"
