"""What the data plane knows: plans, callers, connectors and endpoints, complete and immutable.

Connectors and endpoints are compiled (`transform/compiling.py`) from the snapshot that a publish froze;
what a definition does not say has the defaults below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import SplitResult

from gateway.http.messages import Outgoing, RawHeaders
from gateway.limits.callers import concurrency_of, name_of, quotas_of, rate_of, unlimited_of
from gateway.limits.contract import Concurrency, Quota, Rate
from gateway.networks import Network
from gateway.secrets.destinations import Origin
from gateway.secrets.files import Stamp

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def nothing() -> Mapping[str, Any]:
    """An empty mapping, one for all: thousands of endpoints say nothing in most of their fields."""
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Plan:
    """Rates and quotas; sizes in bytes. None means no limit, zero means nothing is allowed."""

    id: str
    name: str
    rate_limit: int = 100
    rate_window_s: int = 60
    burst_limit: int | None = None
    daily_quota: int | None = 10_000
    monthly_quota: int | None = 100_000
    max_concurrent: int | None = None
    max_request_size: int = 1 << 20
    max_response_size: int = 10 << 20
    allowed_connectors: frozenset[str] = frozenset()
    time_zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request: a key, or a user with a JWT who acts for a team.

    `name` may be logged (a key's public id). Empty sets and tuples mean "no restriction".
    """

    kind: str
    id: str
    name: str
    team: str
    plan: Plan
    role: str = ""
    connector_ids: frozenset[str] = frozenset()
    allowed_endpoints: frozenset[str] = frozenset()
    allowed_networks: tuple[Network, ...] = ()
    expires_at: float | None = None
    who: str = field(init=False, repr=False)
    """What the caller's counters are named by."""
    rate: Rate = field(init=False, repr=False)
    quotas: tuple[Quota, ...] = field(init=False, repr=False)
    unlimited: tuple[Quota, ...] = field(init=False, repr=False)
    """Its counters without a limit."""
    concurrency: Concurrency | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Work out the limits once, not for every request."""
        who = name_of(self.team, self.kind, self.id)
        object.__setattr__(self, "who", who)
        object.__setattr__(self, "rate", rate_of(who, self.plan))
        object.__setattr__(self, "quotas", quotas_of(who, self.plan))
        object.__setattr__(self, "unlimited", unlimited_of(who, self.plan))
        object.__setattr__(self, "concurrency", concurrency_of(who, self.plan))


@dataclass(frozen=True, slots=True)
class EndpointDefinition:
    """What an endpoint says beyond its name, method and path. Times in milliseconds, sizes in bytes."""

    description: str = ""
    upstream_method: str | None = None
    upstream_path: str | None = None
    upstream_content_type: str | None = None
    upstream_query_params: Mapping[str, str] = field(default_factory=nothing)
    default_query_params: Mapping[str, str] = field(default_factory=nothing)
    set_headers: Mapping[str, str] = field(default_factory=nothing)
    add_headers: Mapping[str, str] = field(default_factory=nothing)
    remove_headers: tuple[str, ...] = ()
    body_transform: str = "passthrough"
    upstream_static_body: str | None = None
    response_mode: str | None = None
    streaming_enabled: bool | None = None
    rate_limit: int | None = None
    timeout: int | None = None
    idle_timeout: int | None = None
    encoded_slashes: str = "refuse"
    max_request_size: int | None = None
    max_response_size: int | None = None
    required_headers: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    body_schema: Any = None
    body_pattern: str | None = None
    body_blacklist: tuple[str, ...] = ()
    cache_ttl: int | None = None
    retries: int = 0
    field_map: Mapping[str, str] = field(default_factory=nothing)
    error_mapping: Mapping[str, str] = field(default_factory=nothing)
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectorDefinition:
    """What a connector says beyond its slug and names. Times in milliseconds."""

    upstream_base_url: str
    description: str = ""
    category: str = ""
    documentation_url: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    auth_type: str = "none"
    auth_config: Mapping[str, Any] = field(default_factory=dict)
    default_timeout: int = 30_000
    connect_timeout: int = 5_000
    idle_timeout: int = 60_000
    health_check_path: str | None = None
    response_mode: str = "raw"
    streaming_enabled: bool = False
    error_mapping: Mapping[str, str] = field(default_factory=nothing)
    pass_cookies: bool = False
    forwarded_headers: str = "none"
    sandbox_responses: bool = True
    targets: tuple[Mapping[str, Any], ...] = ()
    load_balancing: str = "round-robin"
    max_connections: int = 128
    max_waiting: int = 128
    schemas: Mapping[str, Any] = field(default_factory=dict)


class Rules(Protocol):
    """What an endpoint asks of a request; each check raises Rejected.

    Fields are to be checked where any are required or media types are named, a body where they
    `need_body`. What `is_long` is better not done on the event loop; Costly (of `transform.rules`) is
    raised for a body that is to be checked against the `schema` in a process of its own.
    """

    @property
    def required_headers(self) -> tuple[str, ...]: ...
    @property
    def media_types(self) -> frozenset[str]: ...
    @property
    def need_body(self) -> bool: ...
    @property
    def schema(self) -> Any: ...
    def is_long(self, body: bytes, /) -> bool: ...
    def check_headers(self, headers: Mapping[str, str], /) -> None: ...
    def check_body(self, body: bytes, headers: Mapping[str, str] = ..., /) -> None: ...


class Mapped(Protocol):
    """How an endpoint's requests are made for its upstream.

    `outgoing` takes the exchange, whose body was read whole where that `needs_body`, and raises
    Rejected; `dropped` are the lower-case names of the caller's fields that go no further.
    `missing_secret` names a secret that is not set: then nothing can be sent. `discreet` gives an answer's
    fields without the secrets that its request had, `to` the same with another path at the upstream.
    """

    @property
    def needs_body(self) -> bool: ...
    @property
    def dropped(self) -> frozenset[bytes]: ...
    @property
    def missing_secret(self) -> str | None: ...
    def outgoing(self, exchange: Any, /) -> Outgoing: ...
    def discreet(self, fields: RawHeaders, /) -> RawHeaders: ...
    def to(self, path: str, /) -> Mapped: ...


class FieldMap(Protocol):
    """What makes a new object of the fields of a JSON answer."""

    def apply(self, content: bytes, /) -> bytes: ...


class Match(Protocol):
    """The endpoint that a request is for, and its path's parameters, encoded as segments."""

    @property
    def route(self) -> Endpoint: ...
    @property
    def params(self) -> Mapping[str, str]: ...


class Router(Protocol):
    """What finds the endpoint by method and raw path; raises Rejected where there is none."""

    def match(self, method: str, raw_path: str, /) -> Match: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of a published connector, with its rules compiled.

    `reshaped` is True where JSON answers are mapped or wrapped. `error_mapping` has what the envelope
    says of an upstream's error; a raw answer is the upstream's own and has no place for it.
    """

    id: str
    name: str
    method: str
    path: str
    definition: EndpointDefinition
    rules: Rules
    timeout_s: float
    idle_timeout_s: float
    streaming: bool
    envelope: bool
    field_map: FieldMap | None
    reshaped: bool
    error_mapping: Mapping[str, str]
    mapped: Mapped

    def most_request_bytes(self, plan: Plan) -> int:
        """How large a request's body may be: the plan's bound, or the endpoint's tighter one."""
        return _tighter(plan.max_request_size, self.definition.max_request_size)

    def most_response_bytes(self, plan: Plan) -> int:
        """How large an answer's body may be: the plan's bound, or the endpoint's tighter one."""
        return _tighter(plan.max_response_size, self.definition.max_response_size)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where requests may be sent: an origin, its share, and its turn: lower numbers first."""

    url: SplitResult
    weight: int = 1
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Connector:
    """One published upstream API.

    Requests go to the `destinations`: the definition's targets, or the base URL where it has none.
    """

    id: str
    team: str
    slug: str
    definition: ConnectorDefinition
    base: SplitResult
    destinations: tuple[Destination, ...]
    router: Router
    connect_timeout_s: float
    files: Mapping[str, Stamp | None] = field(default_factory=nothing, compare=False)
    """The files that its secrets are in, as they were when it was made."""
    identity: object = field(default_factory=object, init=False, repr=False, compare=False)
    """Stands for this compiled form: a connector that has changed has another."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host that its requests, and the secrets in them, may go to."""
        return tuple(dict.fromkeys(url.hostname or "" for url in self._urls))

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Every origin that its requests, and the secrets in them, may go to."""
        return tuple(dict.fromkeys(map(Origin.of, self._urls)))

    @property
    def _urls(self) -> tuple[SplitResult, ...]:
        return (self.base, *(destination.url for destination in self.destinations))


def _tighter(planned: int, own: int | None) -> int:
    return planned if own is None or own > planned else own
