"""The one YAML of the gateway: what JSON can say (YAML 1.2.2 10.3), and JSON written as YAML.

The configuration, documents and state files are read by it: `no` is a text here, and a date is one,
too. Built from libyaml's events, so that what would make a small text a large document (aliases of
aliases, merge keys) ends at a bound.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

import yaml

DEEPEST: Final = 100
MOST_VALUES: Final = 1_000_000
"""How many values a document may have, those of aliases counted each time."""
MOST_REPEATED: Final = 10_000
"""How many of them may be there by aliases, which cost their sender nothing."""
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_MOST_DIGITS: Final = 18
_is_integer: Final = re.compile(r"[-+]?[0-9]+").fullmatch
_is_real: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?").fullmatch
_is_based: Final = re.compile(r"0o[0-7]{1,21}|0x[0-9a-fA-F]{1,16}").fullmatch
_ESCAPE: Final = re.compile(
    r"\\(?:u(?P<high>d[89ab][0-9a-f]{2})\\u(?P<low>d[c-f][0-9a-f]{2})|.)", re.DOTALL
)
"""An escape of JSON, with both halves of one for a character beyond the first 65,536."""
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TEXT: Final = frozenset({"!", "tag:yaml.org,2002:str"})
_PLAIN_TAGS: Final = frozenset({None, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


class NotYaml(ValueError):
    """Not YAML, or more than JSON can say; the text says why and where."""


def parse(text: str) -> Any:
    """The one document in a text. Raises NotYaml."""
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        _refuse(error.problem or "it ends too early", error.problem_mark)
    except yaml.reader.ReaderError as error:
        raise NotYaml(f"{error.reason} at position {error.position}") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise NotYaml(str(error).partition("\n")[0]) from None
    return builder.document


class _Dumper(_DUMPER):  # type: ignore[misc] # which of the two is known when it runs
    """Repeats what is in a document twice, as JSON would, and quotes texts that read like other values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> Any:
        """PyYAML knows the values of YAML 1.1 alone: to it `0E0` is a text."""
        node = super().represent_str(data)
        if not isinstance(_resolved(data), str):
            node.style = "'"
        return node


_Dumper.add_representer(str, _Dumper.represent_str)


def render(document: Any) -> str:
    """A JSON document as YAML, its members in their order."""
    written: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return written


def line(value: Any) -> str:
    """A JSON value as YAML on one line."""
    written: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=True, width=1 << 30
    )  # fmt: skip
    written = written.removesuffix("\n").removesuffix("\n...")
    return _ESCAPE.sub(_joined, json.dumps(value)) if "\n" in written else written


def _joined(escape: re.Match[str]) -> str:
    """YAML has one escape for what JSON writes as two halves (YAML 1.2.2 5.7)."""
    high, low = escape["high"], escape["low"]
    if high is None:
        return escape.group()
    return f"\\U{0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF):08x}"


def _refuse(why: str, mark: Any) -> NoReturn:
    where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
    raise NotYaml(f"{why}{where}") from None


class _Open:
    """A list or an object whose end has not come."""

    __slots__ = ("anchor", "begin", "key", "value")

    def __init__(self, value: Any, anchor: str | None, begin: int) -> None:
        self.value = value
        self.anchor = anchor
        self.begin = begin
        self.key: str | None = None


class _Builder:
    """Makes a document from libyaml's events."""

    def __init__(self) -> None:
        self.document: Any = None
        self._documents = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._repeated = 0

    def take(self, event: Any) -> None:
        """The next event. Raises NotYaml."""
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent():
                self._begin(event, {})
            case yaml.SequenceStartEvent():
                self._begin(event, [])
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                ended = self._open.pop()
                if ended.anchor is not None:
                    self._anchors[ended.anchor] = ended.value, self._count - ended.begin
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    _refuse(f"nothing before it is called *{event.anchor}", event.start_mark)
                value, size = self._anchors[event.anchor]
                self._repeated += size
                if self._repeated > MOST_REPEATED:
                    _refuse(f"aliases repeat more than {MOST_REPEATED} values", event.start_mark)
                self._put(value, event, size)
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    _refuse("there is a second document", event.start_mark)

    def _begin(self, event: Any, value: Any) -> None:
        if event.tag not in _PLAIN_TAGS:
            _refuse(f"the tag {event.tag} is not JSON", event.start_mark)
        if len(self._open) >= DEEPEST:
            _refuse(f"it is nested more than {DEEPEST} levels deep", event.start_mark)
        begin = self._count
        self._put(value, event, 1)
        self._open.append(_Open(value, event.anchor, begin))

    def _scalar(self, event: Any) -> None:
        inside = self._open[-1] if self._open else None
        plain = event.tag is None and event.implicit[0]
        if inside is not None and isinstance(inside.value, dict) and inside.key is None:
            if plain and event.value == "<<":
                _refuse("a merge key (<<) is not JSON", event.start_mark)
            if event.value in inside.value:
                _refuse(
                    f"{json.dumps(event.value, ensure_ascii=False)} is given twice",
                    event.start_mark,
                )
            inside.key = event.value
            return
        if not plain and event.tag is not None and event.tag not in _TEXT:
            _refuse(f"the tag {event.tag} is not JSON", event.start_mark)
        value = _resolved(event.value) if plain else event.value
        self._put(value, event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, 1

    def _put(self, value: Any, event: Any, size: int) -> None:
        self._count += size
        if self._count > MOST_VALUES:
            _refuse(f"it has more than {MOST_VALUES} values", event.start_mark)
        if not self._open:
            self.document = value
            return
        inside = self._open[-1]
        if isinstance(inside.value, list):
            inside.value.append(value)
        elif inside.key is None:
            _refuse("a name that is no text is not JSON", event.start_mark)
        else:
            inside.value[inside.key] = value
            inside.key = None


def _resolved(text: str) -> Any:
    """What a plain scalar stands for (YAML 1.2.2 10.3.2); infinity and no-number stay text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _is_integer(text):
        return int(text) if len(text) <= _MOST_DIGITS else float(text)
    if _is_based(text):
        return int(text, 0)
    if _is_real(text):
        number = float(text)
        return number if abs(number) != float("inf") else text
    return text
