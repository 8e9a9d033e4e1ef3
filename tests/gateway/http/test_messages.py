"""Messages show no secret when they are logged, and a tunnel is whatever does what one does."""

from __future__ import annotations

from gateway.http import messages
from gateway.http.messages import Outgoing, Response
from gateway.server.tunnel import Tunnel


def test_repr_of_a_request_for_an_upstream_shows_no_secret() -> None:
    outgoing = Outgoing("GET", "/x?key=hush", [(b"Authorization", b"hush")], b"hush")

    assert "hush" not in repr(outgoing)


def test_answer_is_empty_until_it_is_given_a_body() -> None:
    response = Response(204)

    assert (response.headers, response.body, response.length, response.tunnel) == (
        [],
        b"",
        None,
        None,
    )


def test_a_servers_tunnel_is_one() -> None:
    made: type[messages.Tunnel] = Tunnel

    assert made is Tunnel
