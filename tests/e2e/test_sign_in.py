"""Signing in as a browser does, to a gateway that is started again meanwhile."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from http.cookiejar import CookieJar
from typing import Any

from tests.e2e.process import Gateway

Make = Callable[..., Gateway]
ADMIN = "/api/v1/gw/admin"


class Browser:
    """Keeps cookies as the standard says, and sends them where they belong."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.jar = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def call(self, method: str, path: str, content: Any = None, **headers: str) -> int:
        """The status of a request from one of the gateway's own pages."""
        sent = {"Content-Type": "application/json", "Sec-Fetch-Site": "same-origin", **headers}
        body = None if content is None else json.dumps(content).encode()
        url = self.gateway.base + path
        request = urllib.request.Request(url, body, sent, method=method)  # noqa: S310 - http on loopback
        try:
            with self.opener.open(request, timeout=20) as got:
                return int(got.status)
        except urllib.error.HTTPError as got:
            with got:
                return got.code

    def would_send(self, path: str) -> bool:
        """Whether the cookie goes with a request for this path."""
        request = urllib.request.Request(self.gateway.base + path)  # noqa: S310 - as above
        self.jar.add_cookie_header(request)
        return request.has_header("Cookie")


def test_user_stays_signed_in_over_a_restart_until_signing_out(make_gateway: Make) -> None:
    gateway = make_gateway("log: {level: DEBUG, access: true}\n")
    gateway.start()
    browser, token = Browser(gateway), gateway.token()

    assert browser.call("GET", f"{ADMIN}/me") == 401
    assert browser.call("POST", f"{ADMIN}/session", {"token": token}) == 201
    (cookie,) = browser.jar
    assert browser.would_send(f"{ADMIN}/connectors/maps/endpoints")
    assert not browser.would_send("/api/v1/gw/maps/find")
    assert not browser.would_send("/ui/")
    assert browser.call("POST", f"{ADMIN}/plans", {"name": "gold"}) == 201
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert browser.call("POST", f"{ADMIN}/plans", {"name": "iron"}, **foreign) == 403

    assert gateway.stop() == 0
    gateway.start()

    assert browser.call("GET", f"{ADMIN}/plans") == 200
    assert browser.call("DELETE", f"{ADMIN}/session") == 204
    assert list(browser.jar) == []
    browser.jar.set_cookie(cookie)
    assert browser.call("GET", f"{ADMIN}/plans") == 401
    assert str(cookie.value) not in gateway.said()
    assert token not in gateway.said()
