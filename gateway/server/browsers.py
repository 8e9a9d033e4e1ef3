"""Credentials where browsers can put them: they set no header field on a WebSocket or EventSource.

What is found is taken out of the request, so that it is neither sent on nor recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_plus

from multidict import CIMultiDict

from gateway.http.header_fields import joined, without

if TYPE_CHECKING:
    from gateway.exchange import Exchange, Response

SUBPROTOCOLS: Final = "sec-websocket-protocol"
OFFERED: Final = "service-gateway.key."
"""How a subprotocol begins that is a credential, in whatever case."""
PLAIN: Final = "service-gateway"
"""The subprotocol that a page offers as well, when its upstream has none to choose."""
_FIELD: Final = SUBPROTOCOLS.encode("ascii")


class Offer(NamedTuple):
    """A credential among the subprotocols, and what to choose when the upstream chooses none.

    A browser gives up when it has offered something and nothing was chosen (WebSockets Standard,
    "establish a WebSocket connection"), though RFC 6455 4.2.2 lets a server do so.
    """

    credential: str
    choice: str

    def __repr__(self) -> str:
        return "Offer()"

    def answer(self, response: Response) -> None:
        """Choose, where it is ours to choose."""
        chosen = joined(response.headers, _FIELD)
        if response.tunnel is not None and self.choice and chosen is None:
            response.headers.append((b"Sec-WebSocket-Protocol", self.choice.encode("latin-1")))


def take_offer(exchange: Exchange) -> Offer | None:
    """Take the first credential out of the subprotocols; None when there is none."""
    given = joined(exchange.raw_headers, _FIELD) or ""
    offered = [part.strip(" \t") for part in given.split(",")]
    credentials = [part for part in offered if part.lower().startswith(OFFERED)]
    if not credentials:
        return None
    plain = [part for part in offered if part.lower() == PLAIN]
    others = [part for part in offered if part and part not in {*plain, *credentials}]
    exchange.raw_headers = tuple(without(exchange.raw_headers, {_FIELD}))
    headers = CIMultiDict(exchange.headers)
    headers.popall(SUBPROTOCOLS)
    if others:
        rest = ", ".join(others)
        exchange.raw_headers += ((b"Sec-WebSocket-Protocol", rest.encode("latin-1")),)
        headers["Sec-WebSocket-Protocol"] = rest
    exchange.headers = headers
    own = plain[0] if plain else "" if others else credentials[0]
    return Offer(credentials[0][len(OFFERED) :], own)


def take_parameter(exchange: Exchange, name: str) -> str:
    """Take a parameter out of the query, wherever it is and in whatever case.

    Answers its first value, empty when there is none.
    """
    found, kept = [], []
    for part in exchange.query.split("&"):
        given, _, value = part.partition("=")
        if unquote_plus(given).casefold() == name.casefold():
            found.append(unquote_plus(value))
        else:
            kept.append(part)
    exchange.query = "&".join(kept)
    return found[0] if found else ""
