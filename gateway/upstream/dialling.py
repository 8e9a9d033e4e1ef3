"""New connections: a name's addresses, TCP to the first that answers, TLS.

The address policy is asked for the very socket that is about to be connected.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from socket import AI_NUMERICHOST, SOCK_STREAM, getaddrinfo, socket
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import SplitResult

from aiohappyeyeballs import start_connection
from yarl import URL

from gateway.problems import Rejected
from gateway.upstream.address_policy import AddressPolicy, AddressRefused
from gateway.upstream.heads import FieldLimits
from gateway.upstream.protocol import Broken, UpstreamProtocol
from gateway.upstream.resolver import Name, NotResolved, Resolver
from gateway.upstream.tls import in_the_handshake, tls_context

if TYPE_CHECKING:
    from gateway.upstream.pool import Key

Stage = Literal["address", "connect", "tls"]
"""What is over, in this order: the host has an address that is allowed, TCP, and TLS with https."""

log = logging.getLogger(__name__)

NO_ADDRESS: Final = "The host has no address that may be connected to."
_WARN_EVERY_S: Final = 60.0
"""How often the log says of a host that it has none."""
_MOST_WARNED: Final = 1000
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NEXT_ADDRESS_S: Final = 0.25
"""When the next address is tried beside one that does not answer (RFC 8305 5)."""
_LAST_WORDS_S: Final = 1.0
"""How long the end of TLS is waited for."""


class Target:
    """Where to connect to, for whom.

    `owner` keeps pools apart: connections are only shared between requests with one owner. `team` is
    who pays for looking the name up, "" is the operator.
    """

    def __init__(
        self, base: SplitResult, owner: str, connect_timeout_s: float, team: str = ""
    ) -> None:
        if base.scheme not in _DEFAULT_PORTS or not base.hostname:
            raise ValueError("an upstream is an http or https URL with a host")
        self.url = URL.build(scheme=base.scheme, host=base.hostname, port=base.port)
        self.host = self.url.raw_host or base.hostname
        self.port = base.port or _DEFAULT_PORTS[base.scheme]
        self.is_tls = base.scheme == "https"
        self.team = team
        self.key: Key = (self.host, self.port, self.is_tls, owner)
        self.connect_timeout_s = connect_timeout_s
        authority = self.url.raw_authority if base.port else self.host
        if ":" in self.host and not base.port:
            authority = f"[{self.host}]"
        self.host_field = b"Host: " + authority.encode("ascii") + b"\r\n"
        self.label = f"{self.host}:{self.port}"


class Dialler:
    """Makes connections. `note` is told when a stage is over."""

    def __init__(
        self,
        policy: AddressPolicy,
        resolver: Resolver,
        *,
        max_age_s: float,
        limits: FieldLimits,
        ca_file: str | None,
        note: Callable[[Stage], None] | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._policy = policy
        self._resolver = resolver
        self._max_age_s = max_age_s
        self._limits = limits
        self._ca_file = ca_file
        self._note = note
        self._open: set[UpstreamProtocol] = set()
        self._warned: dict[str, float] = {}
        self._none = asyncio.Event()

    async def dial(self, target: Target, most_s: float) -> UpstreamProtocol:
        """A new connection within so many seconds.

        Raises Rejected `upstream_blocked`, `upstream_unavailable` or `upstream_timeout`; the text
        names no address: the caller may not learn how the network looks.
        """
        infos = None
        try:
            async with asyncio.timeout(min(most_s, target.connect_timeout_s)):
                name, infos = await self._addresses(target)
                return await self._dial(target, name, infos)
        except (AddressRefused, NotResolved) as error:
            raise self._blocked(target.host, error) from error
        except TimeoutError as error:
            if infos is None:
                late = NotResolved("the name server does not answer in time")
                raise self._blocked(target.host, late) from error
            raise Rejected("upstream_timeout", "The upstream took no connection in time.") from None
        except ssl.SSLError as error:
            raise in_the_handshake(error) from error
        except (OSError, ValueError, RuntimeError) as error:
            raise _unavailable("The upstream could not be reached.") from error

    def _blocked(self, host: str, error: Exception) -> Rejected:
        """One refusal for both, or callers would learn which internal names there are."""
        is_resolved = isinstance(error, AddressRefused)
        now = self._loop.time()
        if self._warned.get(host, float("-inf")) < now - _WARN_EVERY_S:
            self._warned[host] = now
            if len(self._warned) > _MOST_WARNED:
                del self._warned[next(iter(self._warned))]
            reason = "its address is not allowed" if is_resolved else f"not resolved: {error}"
            log.warning(
                "an upstream must not be connected to", extra={"host": host, "reason": reason}
            )
        rejected = Rejected("upstream_blocked", NO_ADDRESS)
        if not is_resolved:
            rejected.counted_as = "upstream_unresolved"
        return rejected

    def obey(self, policy: AddressPolicy) -> None:
        """From here on this is the policy; connections that it does not allow serve nobody else."""
        self._policy = policy
        for connection in self._open:
            if not policy.permits(ip_address(connection.address), connection.port):
                connection.retire_at = 0.0

    async def close(self) -> None:
        """End every connection."""
        for connection in list(self._open):
            connection.fail(Broken("the gateway stops"))
        if self._open:
            await self._none.wait()

    async def _dial(self, target: Target, name: Name | None, infos: list[Any]) -> UpstreamProtocol:
        sock = await start_connection(
            infos, happy_eyeballs_delay=_NEXT_ADDRESS_S, socket_factory=self._socket_for
        )
        self._told("connect")
        try:
            connection = await self._connected(target, sock)
        except BaseException:
            sock.close()
            raise
        connection.name = name
        connection.key = target.key
        connection.retire_at = self._loop.time() + self._max_age_s
        connection.on_lost = self._lost
        self._open.add(connection)
        self._none.clear()
        return connection

    def _lost(self, connection: UpstreamProtocol) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none.set()

    async def _addresses(self, target: Target) -> tuple[Name | None, list[Any]]:
        """Where the host is, as `getaddrinfo` tells it; the name when it is one."""
        host, port = target.host, target.port
        if _is_literal(host):
            return None, getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_NUMERICHOST)
        name = await self._resolver.resolve(host, target.team)
        return name, [
            (family, SOCK_STREAM, protocol, "", (address[0], port, *address[2:]))
            for family, protocol, address in name.found
        ]

    def _socket_for(self, info: Any) -> socket:
        made = self._policy.socket_for(info)
        self._told("address")
        return made

    async def _connected(self, target: Target, sock: socket) -> UpstreamProtocol:
        """The connection over a socket that is connected, with TLS where that is wanted."""
        address = str(sock.getpeername()[0])
        make = partial(UpstreamProtocol, self._loop, self._limits)
        if not target.is_tls:
            _, connection = await self._loop.create_connection(make, sock=sock)
        else:
            _, connection = await self._loop.create_connection(
                make,
                sock=sock,
                ssl=tls_context(self._ca_file),
                server_hostname=target.host.rstrip("."),
                ssl_shutdown_timeout=_LAST_WORDS_S,
            )
            self._told("tls")
        connection.address, connection.port = address, target.port
        return connection

    def _told(self, stage: Stage) -> None:
        if self._note is not None:
            self._note(stage)


def _is_literal(host: str) -> bool:
    """True for an address. Raises ValueError for what only the C library takes for one (`127.1`)."""
    try:
        ip_address(host)
    except ValueError:
        if host.replace(".", "").isdigit():
            raise
        return False
    return True


def _unavailable(detail: str) -> Rejected:
    return Rejected("upstream_unavailable", detail)
