"""From the caller's request to the upstream's: path, query, header fields, body and secrets.

Everything that is the same for each request of an endpoint is worked out once, when the connector
is compiled; `Mapped.outgoing` only puts the parts together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, unquote_plus, unquote_to_bytes, urlsplit

from gateway.exchange import Exchange, Outgoing, RawHeaders
from gateway.http import forwarded
from gateway.http.header_fields import HOP_BY_HOP, nominated, without
from gateway.http.origin import without_session
from gateway.problems import Rejected, quoted
from gateway.transform import auth as upstream_auth
from gateway.transform import bodies
from gateway.transform.auth import AuthFault, Injection, check_field
from gateway.transform.bodies import BodyFault, MadeBody
from gateway.transform.injected import NOTHING, Injected, injected
from gateway.transform.routes import Pattern, parse

if TYPE_CHECKING:
    from gateway.model import ConnectorDefinition, EndpointDefinition

VIA: Final = (b"Via", b"1.1 service-gateway")
_MOST_PASSES: Final = 3
"""How often a request may have come through gateways like this one: some stand behind another."""
_OURS: Final = HOP_BY_HOP | frozenset(
    b"authorization content-length cookie expect forwarded host traceparent "
    b"x-api-key x-goog-api-key x-real-ip x-request-id x-team-id".split()
)
"""What a caller sends that is not the upstream's business, or is made anew."""
_OF_THE_BODY: Final = frozenset(
    b"content-digest content-encoding content-md5 content-type digest repr-digest".split()
)
"""What a caller says of a body that is not the one that goes to the upstream."""
_OF_A_COPY: Final = frozenset(b"accept-encoding if-range range".split())
"""What a caller says of the form in which an answer shall come."""
_FORWARDED: Final = b"x-forwarded-"
"""How the names begin in which a proxy tells of the caller; a caller has no say in them."""
_PLACEHOLDER: Final = re.compile(r"(?<=/):([A-Za-z_][A-Za-z0-9_]*)\*?|\{([A-Za-z_][A-Za-z0-9_]*)\}")


Step = Callable[[Exchange, Outgoing], None]
"""Something that is done to each request when all else about it is final. Raises Rejected."""


class MappingFault(ValueError):
    """An endpoint that can't be mapped; the text says why, `field` which of its fields is at fault."""

    def __init__(self, why: str, field: str = "upstream_path") -> None:
        super().__init__(why)
        self.field = field


@dataclass(frozen=True, slots=True)
class Template:
    """A text with parameters: literals and names take turns, literals first and last."""

    literals: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with the parameters' values put in as they are."""
        if not self.names:
            return self.literals[0]
        parts = [self.literals[0]]
        for name, literal in zip(self.names, self.literals[1:], strict=True):
            parts += (values[name], literal)
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Mapped:
    """How one endpoint's requests are made for its upstream.

    Where it `needs_body`, the caller's body must have been read whole before.
    """

    method: str | None
    path: Template
    composed: bool
    fixed_query: Template | None
    replaced: frozenset[str]
    defaults: tuple[tuple[str, str], ...]
    appended: str = field(repr=False)  # this and the next may hold secrets
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    dropped: frozenset[bytes]
    body: MadeBody | None
    finish: Step | None = field(repr=False)
    needs_body: bool
    missing_secret: str | None
    injected: Injected = NOTHING

    def outgoing(self, exchange: Exchange) -> Outgoing:
        """The upstream request.

        Raises Rejected `secret_missing`, `bad_request`, `validation_failed`, `loop_detected`.
        """
        if self.missing_secret is not None:
            raise Rejected(
                "secret_missing",
                f"The connector's secret {quoted(self.missing_secret)} is not set.",
            )
        if "via" in exchange.headers:
            _check_loop(exchange.raw_headers)
        target = self.path.fill(exchange.params)
        if self.composed and _has_dot_segment(target):
            raise Rejected("bad_request", "The path has a dot segment.")
        if query := self._query(exchange):
            target = f"{target}?{query}"
        headers: RawHeaders = [*self._passed(exchange), *self.headers]
        headers.append((b"X-Request-Id", exchange.request_id.encode("ascii")))
        headers.append((b"traceparent", exchange.traceparent.encode("ascii")))
        headers.append(VIA)
        method = exchange.method if self.method is None else self.method
        body = None if self.body is None else self.body.make(exchange)
        outgoing = Outgoing(method, target, headers, body)
        if self.finish is not None:
            self.finish(exchange, outgoing)
        return outgoing

    def discreet(self, fields: RawHeaders) -> RawHeaders:
        """An answer's fields without what was put into its request."""
        return self.injected.taken_out_of(fields)

    def to(self, path: str) -> Mapped:
        """The same, but for the path at the upstream, which is literal and complete."""
        return replace(self, path=Template((path,), ()))

    def _passed(self, exchange: Exchange) -> Iterable[tuple[bytes, bytes]]:
        """The caller's fields that go on, in their order."""
        dropped = self.dropped
        if "connection" in exchange.headers:
            dropped = dropped.union(nominated(exchange.raw_headers))
        passed = [
            (name, value)
            for name, value in exchange.raw_headers
            if (lower := name.lower()) not in dropped
            and not lower.startswith(_FORWARDED)
            and (b"_" not in lower or not _is_alias(lower, dropped))
        ]
        if "cookie" in exchange.headers and b"cookie" not in dropped:
            return (
                without(passed, {b"cookie"}) if exchange.guards_origin else without_session(passed)
            )
        return passed

    def _query(self, exchange: Exchange) -> str:
        query = exchange.query
        if "#" in query or not query.isascii():
            # A fragment would cut off what is appended here.
            raise Rejected("bad_request", "The query is not percent-encoded as RFC 3986 says.")
        if self.replaced and query:
            query = "&".join(part for part in query.split("&") if _name(part) not in self.replaced)
        parts = [query] if query else []
        if self.defaults:
            given = {_name(part) for part in query.split("&")}
            parts += [pair for name, pair in self.defaults if name not in given]
        if self.fixed_query is not None:
            parts.append(self.fixed_query.fill(_for_query(exchange.params)))
        if self.appended:
            parts.append(self.appended)
        return "&".join(parts)


def _is_alias(name: bytes, dropped: frozenset[bytes]) -> bool:
    """True for a name that some servers read as a dropped one, with `_` for `-`."""
    plain = name.replace(b"_", b"-")
    return plain in dropped or plain.startswith(_FORWARDED)


def _has_dot_segment(path: str) -> bool:
    return any(unquote(segment) in {".", ".."} for segment in path.split("/"))


def _check_loop(fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Raises Rejected `loop_detected` when a request comes back again and again (RFC 9110 7.6.3)."""
    passes = sum(value.count(VIA[1][4:]) for name, value in fields if name.lower() == b"via")
    if passes >= _MOST_PASSES:
        raise Rejected("loop_detected", "The upstream sends the request back to this gateway.")


def _name(part: str) -> str:
    return unquote_plus(part.partition("=")[0])


def _for_query(params: Mapping[str, str]) -> dict[str, str]:
    """Path parameters, which are encoded for a path, encoded for a query."""
    return {name: quote(unquote_to_bytes(value), safe="") for name, value in params.items()}


def _pair(name: str, value: str) -> str:
    return f"{quote(name, safe='')}={quote(value, safe='')}"


def template(text: str) -> Template:
    """Split a text at its parameters: `:name` or `:name*` after a slash, `{name}` anywhere."""
    literals, names, end = [], [], 0
    for match in _PLACEHOLDER.finditer(text):
        literals.append(text[end : match.start()])
        names.append(match.group(1) or match.group(2))
        end = match.end()
    literals.append(text[end:])
    return Template(tuple(literals), tuple(names))


def secret_names(
    definition: ConnectorDefinition, endpoints: Iterable[EndpointDefinition] = ()
) -> tuple[str, ...]:
    """The secrets that a connector and its endpoints use. Raises AuthFault."""
    names = list(upstream_auth.make(definition.auth_type, definition.auth_config).secret_names())
    for own in endpoints:
        names += upstream_auth.names_in([*own.set_headers.values(), *own.add_headers.values()])
    return tuple(dict.fromkeys(names))


def compile_mapping(
    definition: ConnectorDefinition,
    own: EndpointDefinition,
    route: Mapping[str, Any],
    secrets: Mapping[str, str],
) -> Mapped:
    """Work out what is the same for every request of an endpoint. Raises MappingFault, AuthFault.

    `route` holds the endpoint's `method` and `path`.
    """
    pattern = parse(route["path"])
    path, fixed_query = _upstream_path(definition, own, pattern)
    auth = upstream_auth.make(definition.auth_type, definition.auth_config)
    used = secret_names(definition, [own])
    missing = next((name for name in used if not secrets.get(name)), None)
    values = {name: secrets.get(name, "") for name in used}
    injection = auth.inject(values) if missing is None else upstream_auth.Injection()
    body = _body(own, pattern)
    fields, dropped = _fields(definition, own, injection, values, body)
    static = (*own.upstream_query_params.items(), *injection.query)
    fixed_names = [_name(part) for part in _query_of(own).split("&") if part]
    replaced = frozenset([*fixed_names, *(name for name, _ in static)])
    defaults = own.default_query_params.items()
    return Mapped(
        method=own.upstream_method,
        path=path,
        composed=_composes(path, pattern),
        fixed_query=fixed_query,
        replaced=replaced,
        defaults=tuple((n, _pair(n, v)) for n, v in defaults if n not in replaced),
        appended="&".join(_pair(name, value) for name, value in static),
        headers=tuple(fields),
        dropped=dropped,
        body=body,
        finish=_in_turn(_teller(definition, own, injection), _finish(definition, injection)),
        needs_body=missing is None
        and ((body is not None and body.needs_body) or injection.needs_body),
        missing_secret=missing,
        injected=_injected(injection, values),
    )


def _injected(injection: Injection, values: Mapping[str, str]) -> Injected:
    """What an answer must not say again: the secrets, and credentials of a name and a secret."""
    hidden = [value for value in values.values() if value not in injection.names]
    if injection.names:
        hidden += [value.partition(" ")[2] for _, value in injection.headers]
    return injected(hidden, injection.query)


def _teller(
    definition: ConnectorDefinition, own: EndpointDefinition, injection: Injection
) -> Step | None:
    """What tells the upstream of the caller's side, but in fields that the endpoint has a say in."""
    said = [*own.set_headers, *own.add_headers, *own.remove_headers]
    said += [name for name, _ in injection.headers]
    return forwarded.teller(definition.forwarded_headers, {name.lower() for name in said})


def _finish(definition: ConnectorDefinition, injection: Injection) -> Step | None:
    """The last step of the connector's way to prove itself. Raises AuthFault."""
    if injection.finish is None:
        return None
    urls, host = [target["url"] for target in definition.targets], b""
    if injection.for_host:
        host = upstream_auth.one_host(urls or [definition.upstream_base_url])
    return partial(injection.finish, host=host)


def _in_turn(first: Step | None, second: Step | None) -> Step | None:
    if first is None or second is None:
        return first or second

    def both(exchange: Exchange, outgoing: Outgoing) -> None:
        first(exchange, outgoing)
        second(exchange, outgoing)

    return both


def _fields(
    definition: ConnectorDefinition,
    own: EndpointDefinition,
    injection: Injection,
    values: Mapping[str, str],
    body: MadeBody | None,
) -> tuple[list[tuple[bytes, bytes]], frozenset[bytes]]:
    """The fields that are put in, and the names of those of the caller's that don't pass."""
    fixed = [*own.set_headers.items(), *own.add_headers.items()]
    fields = [check_field(name, upstream_auth.fill(value, values)) for name, value in fixed]
    fields += [check_field(name, value) for name, value in injection.headers]
    dropped = {name.lower().encode("latin-1") for name in (*own.set_headers, *own.remove_headers)}
    dropped |= {name.lower().encode("ascii") for name, _ in injection.headers}
    dropped |= {name.lower().encode("ascii") for name in injection.replaces}
    content_type = own.upstream_content_type
    if body is not None:
        dropped |= _OF_THE_BODY
        if b"content-type" not in {name.lower() for name, _ in fields}:
            content_type = content_type or body.content_type
    if content_type:
        dropped.add(b"content-type")
        fields.append(check_field("Content-Type", content_type))
    if own.field_map or (own.response_mode or definition.response_mode) == "envelope":
        dropped |= _OF_A_COPY  # what is mapped or wrapped must be read, and whole
        fields.append((b"Accept-Encoding", b"identity"))
    kept_here = _OURS - {b"cookie"} if definition.pass_cookies else _OURS
    if injection.passes is not None:
        kept_here -= {check_passed(injection.passes).encode("ascii")}
    return fields, kept_here if dropped <= kept_here else kept_here | dropped


def check_passed(name: str) -> str:
    """The lower-case name of a caller's field that may be passed. Raises AuthFault for one of ours."""
    lower = name.lower()
    octets = lower.encode("ascii")
    if octets.startswith(_FORWARDED) or octets in _OURS - {b"authorization"}:
        raise AuthFault(f"{name} is the gateway's own and is never passed on")
    return lower


def _query_of(own: EndpointDefinition) -> str:
    """The query that an upstream path brings along."""
    return (own.upstream_path or "").partition("?")[2]


def _body(own: EndpointDefinition, pattern: Pattern) -> MadeBody | None:
    try:
        return bodies.compile_body(own, pattern.parameters)
    except BodyFault as fault:
        raise MappingFault(str(fault), fault.field) from fault


def _composes(path: Template, pattern: Pattern) -> bool:
    """True when a segment is put together from parts, or holds one: there dots could meet."""
    whole = all(
        before.endswith("/") and after[:1] in {"", "/"} for before, after in pairwise(path.literals)
    )
    return not whole or any(part.parameter and part.literal for part in pattern.segments)


def _upstream_path(
    definition: ConnectorDefinition, own: EndpointDefinition, pattern: Pattern
) -> tuple[Template, Template | None]:
    prefix = urlsplit(definition.upstream_base_url).path.rstrip("/")
    upstream, _, query = (own.upstream_path or pattern.text).partition("?")
    if not upstream.startswith("/"):
        raise MappingFault("an upstream path begins with a slash")
    if not re.fullmatch(r"[!-~]*", prefix + upstream + query) or "#" in upstream + query:
        raise MappingFault("an upstream path is printable ASCII, percent-encoded, without #")
    if _has_dot_segment(prefix + upstream):
        raise MappingFault("an upstream path has no dot segments")
    made = template(upstream)
    fixed = template(query) if query else None
    known = set(pattern.parameters)
    for name in (*made.names, *(fixed.names if fixed else ())):
        if name not in known:
            raise MappingFault(
                f"the upstream path has {quoted(name)}, which {pattern.text} does not give"
            )
    return Template((prefix + made.literals[0], *made.literals[1:]), made.names), fixed


__all__ = [
    "AuthFault", "Mapped", "MappingFault", "check_passed", "compile_mapping", "secret_names", "template",
]  # fmt: skip
