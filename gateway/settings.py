"""The settings of the operator: what each section of the configuration may say, and its defaults."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Any, Final

from gateway.identity.jwts import ALGORITHMS, HMAC, check_key
from gateway.networks import Network, parse_network
from gateway.options import entries, number, raw, section, switch, text, texts, whole
from gateway.secrets.destinations import written
from gateway.secrets.files import check_path
from gateway.upstream.address_policy import Allowed
from gateway.upstream.breaker import BreakerSettings

_LISTEN: Final = re.compile(r"unix:/.+|(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}").fullmatch

DEFAULT_PIPELINE: Final = (
    "usage", "respond", "authenticate", "resolve", "authorize", "rate_limit", "quota", "validate",
    "transform", "proxy",
)  # fmt: skip


def _listen(value: str) -> None:
    if not _LISTEN(value):
        raise ValueError("neither host:port nor unix:/path")
    if not value.startswith("unix:") and int(value.rpartition(":")[2]) > 65535:
        raise ValueError("a port is at most 65535")


def _url(value: str) -> None:
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s#]*", value):
        raise ValueError("not an http or https URL")


def _base_path(value: str) -> None:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", value):
        raise ValueError("a path prefix begins with a slash and does not end with one")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The listener for callers."""

    listen: str = text(
        "127.0.0.1:8080",
        "Where callers and the admin API come in: host:port or unix:/path.",
        check=_listen,
    )
    base_path: str = text(
        "",
        "The path prefix that a proxy in front leaves on requests, such as /tools/gateway.",
        check=_base_path,
    )
    trusted_proxies: tuple[str, ...] = texts(
        (),
        "Networks of proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8.",
        check=parse_network,
    )
    most_in_flight: int = whole(
        10_000,
        "How many requests one process has in flight at a time, streams and WebSockets among them; the "
        "next one gets 503 before anything else is done.",
        least=1,
    )
    most_target_bytes: int = whole(
        16_384,
        "How long the target of a request may be, in bytes; a longer one gets 414.",
        least=256,
        most=1_048_576,
    )
    most_fields: int = whole(
        128, "How many header fields a request may have; more get 431.", least=1, most=10_000
    )
    most_field_bytes: int = whole(
        16_384,
        "How long a header field of a request may be, in bytes; a longer one gets 431.",
        least=256,
        most=1_048_576,
    )
    recheck_s: float = number(
        5.0,
        "How often it is looked whether the credential and the connector of an open event stream or WebSocket still hold, in seconds.",
        least=0.01,
    )
    drain_s: float = number(
        30.0, "How long requests in flight may take when the gateway is told to stop, in seconds."
    )
    drain_delay_s: float = number(
        0.0,
        "How long connections are taken after /readyz has become false, so that balancers can notice, in seconds.",
    )

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The trusted proxies as networks."""
        return tuple(map(parse_network, self.trusted_proxies))


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The admin plane."""

    listen: str | None = text(
        None,
        "A listener for the admin API alone; null shares server.listen.",
        optional=True,
        check=_listen,
    )
    share_origin: bool = switch(
        False,
        "Whether connectors may drop the sandbox and pass cookies where server.listen is shared: their pages could act as whoever is signed in. Not needed with a listener of its own, which is better.",
    )
    failures_per_minute: int = whole(
        10,
        "How many refused sign-ins, tokens and cookies an address may send in a minute before it gets 429; 0: any.",
    )

    @property
    def guards_origin(self) -> bool:
        """True where both planes share a listener, and no connector may be anything there."""
        return self.listen is None and not self.share_origin


@dataclass(frozen=True, slots=True)
class StatusSettings:
    """Metrics and health."""

    listen: str = text(
        "127.0.0.1:8081", "Where /metrics, /healthz and /readyz answer.", check=_listen
    )


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """PostgreSQL."""

    dsn: str | None = text(
        None,
        "postgresql://user:password@host:5432/name; null runs an embedded PostgreSQL in the data directory.",
        optional=True,
        secret=True,
    )
    most_connections: int = whole(
        10, "How many connections one process may open.", least=2, most=1000
    )
    timeout_s: float = number(5.0, "How long to wait for a connection, in seconds.", least=0.01)
    snapshot_age_s: float = number(
        3600.0,
        "How old the snapshot in the data directory may be that known callers are served from when PostgreSQL is away at the start, in seconds; 0: there is none.",
    )
    cache_bytes: int = whole(
        256 << 20,
        "How much memory one process takes, nearly, for connectors, keys and plans that it has read, in bytes.",
        least=16 << 20,
    )


@dataclass(frozen=True, slots=True)
class TrustedKeySettings:
    """A key that JWTs may be signed with."""

    algorithm: str = text("HS256", "The one algorithm this key is for.", choices=ALGORITHMS)
    secret: str | None = text(
        None,
        "The shared secret of a HMAC algorithm: at least 32, 48 or 64 bytes for HS256, HS384, HS512.",
        optional=True,
        secret=True,
    )
    public_key: str | None = text(None, "The PEM of an asymmetric algorithm.", optional=True)
    jwks_url: str | None = text(
        None, "Where the issuer publishes its keys (RFC 7517).", optional=True, check=_url
    )
    kid: str = text("", "The key's id, when tokens name one.")

    def __post_init__(self) -> None:
        """Refuse what the types alone let through."""
        given = [v for v in (self.secret, self.public_key, self.jwks_url) if v is not None]
        if len(given) != 1:
            raise ValueError("give one of secret, public_key and jwks_url")
        if (self.algorithm in HMAC) != (self.secret is not None):
            raise ValueError("secret goes with HS256, HS384 and HS512, and only with them")
        if self.jwks_url is None:
            check_key(self.algorithm, given[0])


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """JSON Web Tokens of users and of the admin plane."""

    issuer: str = text("service-gateway", "What `iss` must be.")
    audience: str = text("service-gateway", "What `aud` must be or hold.")
    keys: tuple[TrustedKeySettings, ...] = entries(
        (),
        "Keys that sign tokens; none: an HS256 key made in the data directory.",
        TrustedKeySettings,
    )
    leeway_s: float = number(30.0, "How far clocks may differ, in seconds.", most=300)
    longest_life_s: float = number(
        86_400.0, "The longest life (exp - iat) that a token may have, in seconds.", least=1
    )
    user_claim: str = text("sub", "The claim that names the user.")
    teams_claim: str = text("teams", "The claim with the teams: a list, or a map of team to role.")
    role_claim: str = text(
        "role", "The claim with the role when teams are a list: viewer, editor or admin."
    )
    token_type: str = text(
        "",
        "What `typ` in a token's header must be, such as at+jwt (RFC 9068); empty: anything.",
    )


@dataclass(frozen=True, slots=True)
class MasterKeySettings:
    """A key that seals secrets."""

    id: str = text("", "The key's name, stored with every secret that it sealed.")
    key: str = text("", "32 random bytes, base64.", secret=True)

    def __post_init__(self) -> None:
        """Refuse what the types alone let through."""
        if not self.id or not self.key:
            raise ValueError("a master key has an id and a key")


@dataclass(frozen=True, slots=True)
class ReferenceSettings:
    """An environment variable that connectors may use as a secret."""

    name: str = text("", "The variable's name.")
    hosts: tuple[str, ...] = texts((), "The upstreams that may get its value: host (https), host:port, or scheme://host:port.", check=written)  # fmt: skip
    teams: tuple[str, ...] = texts((), "The teams whose connectors may use it; none: all.")

    def __post_init__(self) -> None:
        """Refuse what the types alone let through."""
        if not self.name or not self.hosts:
            raise ValueError("a reference has a name and hosts")


@dataclass(frozen=True, slots=True)
class SecretFileSettings:
    """A file, or a directory of files, that connectors may use as secrets."""

    path: str = text("", "The absolute path of a file, or of a directory for all that is below it.")
    hosts: tuple[str, ...] = texts((), "The upstreams that may get what is in it: host (https), host:port, or scheme://host:port.", check=written)  # fmt: skip
    teams: tuple[str, ...] = texts((), "The teams whose connectors may use it; none: all.")

    def __post_init__(self) -> None:
        """Refuse what the types alone let through."""
        if not self.path or not self.hosts:
            raise ValueError("a file has a path and hosts")
        check_path(self.path)


@dataclass(frozen=True, slots=True)
class SecretSettings:
    """Secrets of connectors."""

    master_keys: tuple[MasterKeySettings, ...] = entries(
        (), "The first seals, all open; none: a key made in the data directory.", MasterKeySettings
    )
    environment: tuple[ReferenceSettings, ...] = entries(
        (), "Environment variables that a connector may name as env:NAME.", ReferenceSettings
    )
    files: tuple[SecretFileSettings, ...] = entries(
        (), "Files that a connector may name as file:/path.", SecretFileSettings
    )


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Connections to upstreams."""

    allow_networks: tuple[str, ...] = texts(
        (),
        "Private networks that connectors may reach, such as 10.0.0.0/8 or 127.0.0.1:9000; public addresses always may be.",
        check=Allowed.parse,
    )
    idle_s: float = number(15.0, "How long an unused connection is kept, in seconds.")
    max_age_s: float = number(
        300.0,
        "How old a connection may be when it is used once more, in seconds; no exchange is cut.",
    )
    dns_ttl_s: int = whole(
        10,
        "How long a resolved name is believed, in seconds; connections to an address that it has no more serve nobody else.",
    )
    most_fields: int = whole(
        128, "How many header fields an upstream's answer may have.", least=1, most=10_000
    )
    most_field_bytes: int = whole(
        16_384,
        "How long a header field of an upstream's answer may be, in bytes.",
        least=256,
        most=1_048_576,
    )
    ca_file: str | None = text(
        None,
        "A PEM file of certificate authorities instead of the system's.",
        optional=True,
        check=lambda path: ssl.create_default_context(cafile=path),
    )
    retry_percent: float = number(
        10.0, "How many retries a connector may have for a hundred requests; a few a second always."
    )
    breaker: BreakerSettings = section(BreakerSettings, "When an upstream's target is left alone.")


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """The numbers of a team's `default` plan when it is first made."""

    rate_limit: int = whole(100, "Requests per window.")
    rate_window_s: int = whole(60, "The window, in seconds.", least=1)
    daily_quota: int | None = whole(10_000, "Requests per day; null: no quota.", optional=True)
    monthly_quota: int | None = whole(100_000, "Requests per month; null: no quota.", optional=True)
    max_request_size: int = whole(1_048_576, "The largest request body, in bytes.")
    max_response_size: int = whole(
        10_485_760, "The largest answer, in bytes; event streams have no limit."
    )


@dataclass(frozen=True, slots=True)
class UsageSettings:
    """Usage records."""

    flush_every_s: float = number(
        0.5, "How long a record waits before it is written, in seconds.", least=0.01
    )
    most_waiting: int = whole(
        200_000, "How many records may wait in memory while PostgreSQL is away.", least=1000
    )
    keep_days: int = whole(30, "How many days of records are kept.", least=1)


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """Active health checks."""

    enabled: bool = switch(
        True, "Whether published connectors that have a healthCheckPath are checked."
    )
    interval_s: float = number(
        30.0,
        "How often each connector is checked, in seconds, a tenth more or less; one that stays unhealthy up to four times as seldom.",
        least=1,
    )
    timeout_s: float = number(
        5.0, "How long to wait for an answer, in seconds.", least=0.01, most=300
    )
    slow_s: float = number(2.0, "An answer that takes longer is a degraded one, in seconds.")
    unhealthy_after: int = whole(
        3, "How many checks in a row must be worse than what a target counts as.", least=1
    )
    healthy_after: int = whole(
        2, "How many checks in a row must be better than what a target counts as.", least=1
    )
    most_at_once: int = whole(
        50, "How many targets one process checks at the same time.", least=1, most=10_000
    )
    keep_days: int = whole(7, "How many days of checks are kept.", least=1)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs, one JSON object a line on standard output."""

    level: str = text(
        "INFO",
        "The least severe level that is written.",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )
    access: bool = switch(False, "Whether each request of the data plane makes a line.")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the operator can say."""

    server: ServerSettings = section(ServerSettings, "The listener for callers.")
    admin: AdminSettings = section(AdminSettings, "The admin plane.")
    status: StatusSettings = section(StatusSettings, "Metrics and health.")
    database: DatabaseSettings = section(DatabaseSettings, "PostgreSQL.")
    auth: AuthSettings = section(AuthSettings, "JSON Web Tokens.")
    secrets: SecretSettings = section(SecretSettings, "Secrets of connectors.")
    upstream: UpstreamSettings = section(UpstreamSettings, "Connections to upstreams.")
    pipeline: tuple[Any, ...] = raw(
        DEFAULT_PIPELINE, "The filters that a request passes, the outermost first."
    )
    limits: LimitSettings = section(LimitSettings, "A team's default plan.")
    usage: UsageSettings = section(UsageSettings, "Usage records.")
    health: HealthSettings = section(HealthSettings, "Active health checks.")
    log: LogSettings = section(LogSettings, "Logs.")
