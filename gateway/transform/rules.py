"""What an endpoint asks of a request's fields and body: compiled once, checked per request.

JSON Schema 2020-12 by jsonschema-rs, patterns by RE2 (linear time whatever the input). The admin
API compiles with the same functions when an endpoint is saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import jsonschema_rs
import orjson
import re2

from gateway.problems import Fault, Rejected, quoted
from gateway.transform.costs import REFERENCES, TOO_MUCH, Cost, depth_of, nodes
from gateway.transform.definitions import NONE, Definitions, alone, fault
from gateway.transform.readings import Reading, readings

_NO_FIELDS: Final[Mapping[str, str]] = MappingProxyType({})
MOST_SCHEMA_BYTES: Final = 256 << 10
MOST_SCHEMAS_BYTES: Final = 2 << 20
"""How many bytes of schemas a connector may have in all, each with what it refers to."""
MOST_SCHEMA_DEPTH: Final = 100
MOST_PATTERNS: Final = 500
"""How many patterns a schema may have."""
MOST_BRANCHES: Final = 10_000
"""How many schemas one value may have to be compared with."""
_MOST_ON_LOOP: Final = 500_000
"""What is checked at once: so many applications of a schema, of 10 to 40 ns each."""
_MOST_FOR_PLACES: Final = 20_000
"""Up to which cost the places of faults are told: telling one costs a hundred times as much."""
PATIENCE: Final = 5
"""How many times as long as on the event loop a check may take in a process of its own."""
_MOST_EACH: Final = 500
"""Up to which cost of a value places are told of large bodies, too."""
_MOST_BYTES_ON_LOOP: Final = 2 << 20
_MOST_PATTERN_BYTES: Final = 1 << 20
MOST_DEPTH: Final = 255
"""How deep a body may be nested that is checked against a schema with references."""
_LONG_TEXT: Final = 64 << 10
_SHALLOW: Final = 8
_MOST_FAULTS: Final = 20
_BETWEEN_WORDS: Final = r"[^\pL\pM\pN_]"  # RE2's \W takes letters beyond ASCII for no letters
_RE2_OPTIONS: Final = re2.Options()
_RE2_OPTIONS.log_errors = False
_RE2_OPTIONS.max_mem = 8 << 20


class RuleFault(ValueError):
    """A rule that does not compile; the text says why."""


class Costly(Exception):
    """A check that takes too long for being made while others wait: see `costly_checks`."""


class Schema:
    """A JSON Schema 2020-12 document; compiled when it is first used.

    `document` has all that it refers to, once it is prepared.
    """

    def __init__(self, document: Any, shared: Definitions = NONE) -> None:
        self.document = document
        self._shared = shared
        self._cost = Cost(document)
        self._validator: Any = None
        self._each = TOO_MUCH
        self.fault: RuleFault | None = None
        """Why it does not compile, once that is known."""

    @property
    def is_prepared(self) -> bool:
        """True when a check has nothing to compile."""
        return self._validator is not None or self.fault is not None

    def prepare(self) -> None:
        """Compile it, and work out what a check costs that does not depend on a body."""
        try:
            document = self._shared.whole(self.document)
            validator = _validator(document, alone(self.document), self._shared)
        except ValueError as fault:
            self.fault = fault if isinstance(fault, RuleFault) else RuleFault(str(fault))
            return
        self.document, self._cost = document, Cost(document)
        if self._depth:
            self._each = self._cost.of(self._depth, 1)
        self._validator = validator  # the last: from now on other threads use what is above

    def is_valid(self, document: Any) -> bool:
        """True for a document that keeps to the schema. For documents of our own."""
        return bool(self._validator.is_valid(document))

    def iter_errors(self, document: Any) -> Iterator[Any]:
        """What is wrong with a document of our own."""
        return iter(self._validator.iter_errors(document))

    def check(self, body: bytes, patience: int = 1) -> None:
        """Raises Rejected `validation_failed`, or `bad_request` for a body that is not JSON.

        Raises Costly for what would take longer than a caller may hold up others; `patience` is how
        many times as long it may take. Where even that is not enough, no places are told.
        """
        if not self.is_prepared:
            self.prepare()
        if patience == 1 and len(body) > _MOST_BYTES_ON_LOOP:
            raise Costly
        document = _parsed(body)
        if self.fault is not None:
            detail = f"The endpoint's JSON Schema can't be used: {self.fault}."
            raise Rejected("validation_failed", detail, errors=[Fault("", detail)])
        cost = self._each * len(body)  # no body has more values than bytes
        if cost > _MOST_FOR_PLACES:
            cost = self._cost_of(body, document)
        if cost > _MOST_ON_LOOP and patience == 1:
            raise Costly
        if self._validator.is_valid(document):
            return
        is_told = cost <= _MOST_FOR_PLACES * patience
        if patience == 1 and not is_told and cost <= self._most_for_places(body):
            raise Costly
        unknown = [Fault("", "breaks the schema; where would take too long to find out")]
        raise Rejected(
            "validation_failed",
            "The body breaks the endpoint's JSON Schema.",
            errors=(self._faults(document) if is_told else []) or unknown,
        )

    @staticmethod
    def _most_for_places(body: bytes) -> float:
        """Up to which cost it is worth the while to look for places in a process of its own."""
        return min(_MOST_FOR_PLACES * PATIENCE, _MOST_EACH * body.count(b","))

    def _cost_of(self, body: bytes, document: Any) -> float:
        depth = body.count(b"[") + body.count(b"{")
        if depth > _SHALLOW:
            depth = min(depth, self._depth) if self._depth else depth_of(document)
        if depth > MOST_DEPTH:
            detail = f"The body is nested more than {MOST_DEPTH} levels deep."
            raise Rejected("validation_failed", detail, errors=[Fault("", detail)])
        return self._cost.of(depth, body.count(b",") + 1)

    @cached_property
    def _depth(self) -> int:
        """How deep a document can be that is looked at; 0 where references lead on and on."""
        refers = any("$ref" in node or "$dynamicRef" in node for node in nodes(self.document))
        return 0 if refers else max(depth_of(self.document), 1)

    def _faults(self, document: Any) -> list[Fault]:
        """At most so many; none for what is too deep for being told."""
        with suppress(ValueError):
            found = islice(self._validator.iter_errors(document), _MOST_FAULTS)
            return [Fault(pointer(one.instance_path), _shortened(one.message)) for one in found]
        return []


class _Member:
    """One of several schemas that are compiled as the members of an object."""

    def __init__(self, together: Any, name: str) -> None:
        self._together = together
        self._name = name

    def is_valid(self, document: Any) -> bool:
        return bool(self._together.is_valid({self._name: document}))

    def iter_errors(self, document: Any) -> Iterator[_Error]:
        for error in self._together.iter_errors({self._name: document}):
            yield _Error(error.instance_path[1:], error.message)


class _Error(NamedTuple):
    instance_path: Sequence[str | int]
    message: str


def compile_schema(document: Any, shared: Definitions = NONE) -> Schema:
    """A JSON Schema 2020-12 document that is within bounds and compiles. Raises RuleFault."""
    schema = Schema(document, shared)
    schema.prepare()
    if schema.fault is not None:
        raise schema.fault
    return schema


def check_definition(document: Any) -> None:
    """Raises RuleFault for what can't be a definition. What it refers to need not be there yet."""
    _check_bounds(document)
    if (why := fault(document)) is not None:
        raise RuleFault(why)
    check_form(document)


def check_form(document: Any) -> None:
    """Raises RuleFault for what is no JSON Schema. What it refers to need not be there yet."""
    try:
        jsonschema_rs.meta.validate(document)
    except ValueError as error:
        raise RuleFault(str(error).splitlines()[0]) from error


def _validator(document: Any, name: str | None, shared: Definitions) -> Any:
    """What checks bodies against a schema, or against nothing but the definition of a name.

    Definitions that lead to each other are compiled once for all of them.
    """
    if name is None or "$defs" not in document:
        _check_bounds(document)
        _check_branches(document)
        return _compiled(document)
    _check_branches(document)
    names = frozenset(document["$defs"])
    if names not in shared.compiled:
        members = {each: {"$ref": f"#/$defs/{each}"} for each in names}
        together = {"properties": members, "$defs": document["$defs"]}
        _check_bounds(together)
        shared.compiled[names] = _compiled(together)
    return _Member(shared.compiled[names], name)


def _compiled(document: Any) -> Any:
    try:
        return jsonschema_rs.Draft202012Validator(
            document,
            mask="the value",
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_MOST_PATTERN_BYTES),
        )
    except ValueError as error:
        raise RuleFault(str(error).splitlines()[0]) from error


def shared_schema(
    document: Any, schemas: dict[bytes, Schema], shared: Definitions = NONE
) -> Schema:
    """The schema, perhaps one that is there already; it compiles when it is first used."""
    return schemas.setdefault(orjson.dumps(document), Schema(document, shared))


def _check_bounds(document: Any) -> None:
    """Raises RuleFault for a schema that is none, leads elsewhere, or is more than is taken."""
    if not isinstance(document, (dict, bool)):
        raise RuleFault("a JSON Schema is an object or a boolean")
    if depth_of(document, MOST_SCHEMA_DEPTH) > MOST_SCHEMA_DEPTH:
        raise RuleFault(f"a JSON Schema is nested at most {MOST_SCHEMA_DEPTH} levels deep")
    if size_of(document) > MOST_SCHEMA_BYTES:
        raise RuleFault(f"a JSON Schema has at most {MOST_SCHEMA_BYTES >> 10} KiB")
    patterns = 0
    for node in nodes(document):
        for name in REFERENCES:
            if isinstance(value := node.get(name), str) and not value.startswith("#"):
                raise RuleFault(f"$ref {quoted(value)} leads out of the schema")
        patterns += isinstance(node.get("pattern"), str)
        patterns += len(found) if isinstance(found := node.get("patternProperties"), dict) else 0
    if patterns > MOST_PATTERNS:
        raise RuleFault(f"a JSON Schema has at most {MOST_PATTERNS} patterns")


def _check_branches(document: Any) -> None:
    if Cost(document).of(0, 1) > MOST_BRANCHES:
        raise RuleFault(f"a value would be compared with more than {MOST_BRANCHES} schemas")


def size_of(document: Any) -> int:
    """The bytes of a document as JSON."""
    return len(orjson.dumps(document))


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected(
            "bad_request", f"The body is not JSON: {error.msg} at position {error.pos}."
        ) from error


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
    schema: Schema | None = None
    pattern: Any = None
    words: Any = None

    @property
    def need_body(self) -> bool:
        """True when the body must be read before the request goes on."""
        return self.schema is not None or self.pattern is not None or self.words is not None

    def is_long(self, body: bytes) -> bool:
        """True when there is something to compile first, or a long text to search."""
        if self.schema is not None and not self.schema.is_prepared:
            return True
        return len(body) >= _LONG_TEXT and (self.pattern is not None or self.words is not None)

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

    def check_body(self, body: bytes, headers: Mapping[str, str] = _NO_FIELDS) -> None:
        """Raises Rejected `validation_failed`, or `bad_request` for a body that is not JSON.

        For what no words can be looked for in: `bad_request` or `unsupported_media_type`. Raises Costly
        where the schema takes too long.
        """
        if self.pattern is not None or self.words is not None:
            self._check_texts(readings(body, headers))
        if self.schema is not None:
            self.schema.check(body)

    def _check_texts(self, found: Sequence[Reading]) -> None:
        if self.pattern is not None and not all(map(self._matches, found)):
            raise Rejected(
                "validation_failed",
                "The body does not match the endpoint's pattern.",
                errors=[Fault("", "does not match the pattern")],
            )
        if self.words is None:
            return
        for reading in found:
            if (word := self.words.search("\n".join(reading.texts))) is not None:
                raise Rejected(
                    "validation_failed",
                    "The body has a word that the endpoint forbids.",
                    errors=[Fault("", f"the word {word.group(1)} is forbidden")],
                )

    def _matches(self, reading: Reading) -> bool:
        """True where the pattern is found in the whole, or in each text."""
        if self.pattern.search(reading.whole) is not None:
            return True
        return bool(reading.texts) and all(map(self.pattern.search, reading.texts))


def _announces_body(headers: Mapping[str, str]) -> bool:
    """True when a body follows the head (RFC 9112 6.3)."""
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""


def pointer(path: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901) to a place in a document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _shortened(message: str) -> str:
    """What is wrong; the validator's mask keeps the value, which may be secret, out of it."""
    return message if len(message) <= 200 else f"{message[:199]}…"
