"""Where a secret from outside of the database may go: for which teams, and to which origins.

The operator writes `api.example.com` (https, port 443), `api.example.com:8443`, or a whole origin,
`http://10.0.0.5:8080`. An address of loopback that is written bare may be at any port, with any scheme.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

_PORTS: Final = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host (lower case, without brackets) and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: SplitResult) -> Origin:
        """The origin of a URL. Raises ValueError for a port that is none."""
        return cls(url.scheme, url.hostname or "", url.port or _PORTS.get(url.scheme, 0))


class Destinations(NamedTuple):
    """Who may use a secret, and for what; no teams: all."""

    hosts: tuple[str, ...]
    teams: tuple[str, ...] = ()

    def include(self, team: str, origin: Origin) -> bool:
        """True for a team's connector to this origin."""
        is_for_team = not self.teams or team in self.teams
        return is_for_team and any(_fits(entry, origin) for entry in self.hosts)


def written(entry: str) -> Origin:
    """The origin that an operator wrote. Raises ValueError."""
    if "://" not in entry:
        is_bare_ipv6 = entry.count(":") > 1 and not entry.startswith("[")
        entry = f"https://[{entry}]" if is_bare_ipv6 else f"https://{entry}"
    url = urlsplit(entry.strip())
    is_more = url.path.rstrip("/") or url.query or url.fragment or "@" in url.netloc
    if is_more or url.scheme not in _PORTS or not url.hostname:
        raise ValueError("not a host, host:port, or scheme://host:port")
    return Origin.of(url)


def _fits(entry: str, origin: Origin) -> bool:
    allowed = written(entry)
    is_bare = entry.lower().strip("[]") == allowed.host
    return allowed == origin or (
        is_bare and allowed.host == origin.host and _is_loopback(allowed.host)
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
