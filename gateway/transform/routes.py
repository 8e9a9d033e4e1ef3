"""Path patterns of endpoints: parsed, compared, and matched against raw request paths.

Matching works on the raw path, so what was matched is what is sent. Whatever two programs could
read in two ways (dot segments, empty segments, encoded slashes, control characters) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from gateway.problems import Rejected, quoted

T = TypeVar("T")

MOST_SEGMENTS: Final = 64
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+").fullmatch
_LITERAL: Final = re.compile(r"[A-Za-z0-9._~!$&'()+,;=@-][A-Za-z0-9._~!$&'()+,;=:@-]*").fullmatch
_PARAMETER: Final = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)(\*?)([:.][A-Za-z0-9._~:-]+)?").fullmatch
_SEGMENT_SAFE: Final = "-._~!$&'()*+,;=:@"
_MALFORMED: Final = re.compile(r"#|%(?![0-9A-Fa-f]{2})").search
_NEEDLESS: Final = re.compile(r"%(?:4[1-9A-F]|5[0-9AF]|6[1-9A-F]|7[0-9AE]|2[DE]|3[0-9])").sub
_FORBIDDEN: Final = re.compile(
    rb"[\x00-\x1f\x7f\\]|\xc2[\x80-\x9f]"  # control characters and backslash
    rb"|[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f]|\xf0[\x80-\x8f]"  # overlong UTF-8
).search


class PatternFault(ValueError):
    """A pattern that cannot be used; the text says why."""


class Segment(NamedTuple):
    """One part of a pattern: a literal, or a parameter with an optional literal end."""

    literal: str
    parameter: str = ""
    many: bool = False


class Pattern(NamedTuple):
    """A parsed pattern. Two patterns with one `shape` match the same paths."""

    text: str
    segments: tuple[Segment, ...]

    @property
    def shape(self) -> tuple[tuple[str, bool, bool], ...]:
        """The pattern without the names of its parameters."""
        return tuple((s.literal, bool(s.parameter), s.many) for s in self.segments)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters, from left to right."""
        return tuple(s.parameter for s in self.segments if s.parameter)


def parse(text: str) -> Pattern:
    """Parse `/a/:b/:c*`: literals, `:name` for one segment, a last `:name*` for one or more.

    `:name` may be followed by a literal end that begins with a colon or a dot
    (`/models/:model:generateContent`, `/messages/:sid.json`). Raises PatternFault.
    """
    if not text.startswith("/"):
        raise PatternFault("a path begins with a slash")
    if text == "/":
        return Pattern(text, ())
    segments = tuple(_segment(part) for part in text[1:].split("/"))
    if len(segments) > MOST_SEGMENTS:
        raise PatternFault(f"a path has at most {MOST_SEGMENTS} segments")
    if any(segment.many for segment in segments[:-1]):
        raise PatternFault("only the last segment may end in *")
    pattern = Pattern(text, segments)
    if len(set(pattern.parameters)) < len(pattern.parameters):
        raise PatternFault("a parameter's name may be used once")
    return pattern


def _segment(part: str) -> Segment:
    if part in {"", ".", ".."}:
        raise PatternFault("a path has no empty and no dot segments")
    if match := _PARAMETER(part):
        name, star, end = match.groups()
        if star and end:
            raise PatternFault(f"nothing may follow :{name}*")
        return Segment(end or "", name, bool(star))
    if not _LITERAL(part):
        raise PatternFault(
            f"{quoted(part)} is neither a literal segment nor a parameter, as in /users/:id, or :rest* for"
            " all that is left of a path"
        )
    return Segment(part)


def segments_of(raw_path: str) -> tuple[list[str], list[str]]:
    """The segments of a raw path, twice: as they are compared, and as they are sent on.

    What is compared has all percent-encoding undone that can be; what is sent keeps that of
    reserved characters, which may mean something (RFC 3986 2.2). Raises Rejected `bad_request`
    for what is ambiguous.
    """
    if raw_path in {"", "/"}:
        return [], []
    segments = sent = raw_path[1:].split("/")
    if len(segments) > MOST_SEGMENTS:
        raise Rejected("bad_request", f"A path may have at most {MOST_SEGMENTS} segments.")
    for index, segment in enumerate(segments):
        if not _PLAIN(segment):
            if sent is segments:
                sent = segments.copy()
            segments[index], sent[index] = _normal(segment)
        if segments[index][0] == "." and _is_dots(segments[index]):
            raise Rejected("bad_request", "The path has a dot segment.")
    return segments, sent


def _is_dots(segment: str) -> bool:
    """True for a dot segment; some servers read `..;x` as one with a parameter."""
    return segment.partition(";")[0] in {".", ".."}


def _normal(segment: str) -> tuple[str, str]:
    if not segment:
        raise Rejected("bad_request", "The path has an empty segment.")
    if not segment.isascii() or _MALFORMED(segment):
        raise Rejected("bad_request", "The path is not percent-encoded as RFC 3986 says.")
    octets = unquote_to_bytes(segment)
    if _FORBIDDEN(octets):
        raise Rejected(
            "bad_request", "The path has a control character, a backslash or overlong UTF-8."
        )
    compared = quote_from_bytes(octets, safe=_SEGMENT_SAFE)
    if "%2F" in compared and any(map(_is_dots, compared.split("%2F"))):
        raise Rejected("bad_request", "The path has a dot segment.")
    upper = re.sub("%..", lambda match: match[0].upper(), segment)
    sent = _NEEDLESS(lambda match: chr(int(match[0][1:], 16)), upper)
    return compared, quote(sent, safe=f"%{_SEGMENT_SAFE}")


class _Node(Generic[T]):
    """Where the walk stands after some segments."""

    __slots__ = ("ends", "literals", "many", "names", "parameters", "sizes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[T]] = {}
        self.parameters: dict[str, _Node[T]] = {}
        self.sizes: list[int] = []
        self.many: _Node[T] | None = None
        self.ends: dict[str, T] = {}
        self.names: dict[str, tuple[str, ...]] = {}


class Match(NamedTuple, Generic[T]):
    """The route that was found and the parameters' values, encoded as path segments."""

    route: T
    params: dict[str, str]


class Router(Generic[T]):
    """All patterns of one connector as a tree: a request costs the same for 5 and for 500.

    At each segment, from the left, a literal is tried before a parameter (the longer literal end
    first), and a parameter before `:name*`.
    """

    def __init__(self, routes: Iterable[tuple[str, Pattern, T]]) -> None:
        self._root: _Node[T] = _Node()
        self._literal: dict[tuple[str, str], Match[T]] = {}
        for method, pattern, route in routes:
            self._add(method, pattern, route)

    def _add(self, method: str, pattern: Pattern, route: T) -> None:
        node = self._root
        for segment in pattern.segments:
            node = self._child(node, segment)
        if method in node.ends:
            raise PatternFault(
                f"{method} {pattern.text} matches the same paths as another endpoint"
            )
        node.ends[method] = route
        node.names[method] = pattern.parameters
        if not pattern.parameters:
            # At each segment a literal comes first, so such a path has no better match.
            self._literal[method, pattern.text] = Match(route, {})

    def _child(self, node: _Node[T], segment: Segment) -> _Node[T]:
        if not segment.parameter:
            return node.literals.setdefault(segment.literal, _Node())
        if segment.many:
            node.many = node.many or _Node()
            return node.many
        child = node.parameters.setdefault(segment.literal, _Node())
        node.sizes = sorted({len(end) for end in node.parameters}, reverse=True)
        return child

    def match(self, method: str, raw_path: str) -> Match[T]:
        """The most specific route for a request. HEAD is served by GET where it has none itself.

        Raises Rejected: `endpoint_not_found`; `method_not_allowed` with `Allow` when only the
        method is wrong; `bad_request` for an ambiguous path.
        """
        if (literal := self._literal.get((method, raw_path))) is not None:
            return literal
        segments, sent = segments_of(raw_path)
        allowed: set[str] = set()

        def end(node: _Node[T], values: list[str]) -> Match[T] | None:
            served = method if method in node.ends else "GET" if method == "HEAD" else method
            if served not in node.ends:
                allowed.update(node.ends)
                return None
            return Match(node.ends[served], dict(zip(node.names[served], values, strict=True)))

        if (found := _walk(self._root, segments, sent, 0, [], end)) is not None:
            return found
        if not allowed:
            if any("%2F" in segment for segment in segments):
                raise Rejected("bad_request", "The path has an encoded slash in one segment.")
            raise Rejected("endpoint_not_found", "No endpoint of this connector has this path.")
        if "GET" in allowed:
            allowed.add("HEAD")
        allow = ", ".join(sorted(allowed))
        raise Rejected(
            "method_not_allowed",
            f"This path takes {allow}.",
            headers=[(b"Allow", allow.encode("ascii"))],
        )


def _walk(
    node: _Node[T],
    segments: list[str],
    sent: list[str],
    at: int,
    values: list[str],
    end: Callable[[_Node[T], list[str]], Match[T] | None],
) -> Match[T] | None:
    """Depth first, most specific first; visits each node of the tree once at most."""
    if at == len(segments):
        return end(node, values) if node.ends else None
    segment = segments[at]
    if (literal := node.literals.get(segment)) is not None:
        found = _walk(literal, segments, sent, at + 1, values, end)
        if found is not None:
            return found
    for size in node.sizes:
        begin = len(segment) - size
        child = node.parameters.get(segment[begin:])
        if child is not None and begin > 0 and "%2F" not in segment:
            value = _without_tail(segment, sent[at], begin)
            found = _walk(child, segments, sent, at + 1, [*values, value], end)
            if found is not None:
                return found
    if node.many is not None and node.many.ends:
        return end(node.many, [*values, "/".join(sent[at:])])
    return None


def _without_tail(segment: str, sent: str, begin: int) -> str:
    """The value of a parameter: what is sent, less the literal end of the segment."""
    tail = segment[begin:]
    return sent[: len(sent) - len(tail)] if sent.endswith(tail) else segment[:begin]
