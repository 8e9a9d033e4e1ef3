"""New connections: where they go, and what a target says of itself."""

from __future__ import annotations

import socket
import threading
from urllib.parse import urlsplit

import pytest

from gateway.exchange import Body, Outgoing
from gateway.problems import Rejected
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.answer import Bounds
from gateway.upstream.connections import Upstreams
from gateway.upstream.dialling import NO_ADDRESS, Target
from gateway.upstream.resolver import Found, LookUp, Resolver
from tests.dataplane import LOOPBACK
from tests.gateway.sending import refused, use
from tests.loopback import Upstream


@pytest.mark.parametrize(
    ("url", "host", "label"),
    [
        ("http://example.com", b"example.com", "example.com:80"),
        ("https://example.com/v1", b"example.com", "example.com:443"),
        ("http://example.com:8080", b"example.com:8080", "example.com:8080"),
        ("http://[::1]", b"[::1]", "::1:80"),
        ("http://[::1]:81", b"[::1]:81", "::1:81"),
        ("https://example.com.", b"example.com.", "example.com.:443"),
        ("http://EXAMPLE.com", b"example.com", "example.com:80"),
    ],
)
def test_host_field_is_the_urls_authority(url: str, host: bytes, label: str) -> None:
    target = Target(urlsplit(url), "a", 5)

    assert (target.host_field, target.label) == (b"Host: " + host + b"\r\n", label)
    assert target.is_tls == url.startswith("https")


@pytest.mark.parametrize("url", ["ftp://a", "http://", "//a", "a"])
def test_target_that_is_no_http_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http or https"):
        Target(urlsplit(url), "a", 5)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0", "127.0.0.01"])
async def test_number_that_is_no_address_is_not_taken_for_one(host: str) -> None:
    upstreams = Upstreams(AddressPolicy(map(Allowed.parse, LOOPBACK)))
    rejected, _ = await refused(upstreams, f"http://{host}:1")
    await upstreams.close()

    assert (rejected.code, "reached" in rejected.detail) == ("upstream_unavailable", True)


async def test_next_address_is_tried_when_one_is_refused(upstream: Upstream) -> None:
    found = [(socket.AF_INET, 6, (address, 0)) for address in ("10.0.0.1", "127.0.0.1")]
    resolver = Resolver(ask=lambda _host: found)
    upstreams = Upstreams(AddressPolicy(map(Allowed.parse, LOOPBACK)), resolver=resolver)

    assert await use(upstreams, upstream.port, "two.example") == 200
    await upstreams.close()


async def test_name_that_is_not_answered_in_time_is_not_the_callers_to_wait_for() -> None:
    upstreams = Upstreams(AddressPolicy(), resolver=Resolver(timeout_s=0, ask=lambda _host: []))
    with pytest.raises(Rejected, match="upstream_blocked"):
        await use(upstreams, 1, "slow.example")
    await upstreams.close()


def absent(_host: str) -> list[Found]:
    raise OSError("no such name")


def private(_host: str) -> list[Found]:
    return [(socket.AF_INET, 6, ("10.0.0.1", 0))]


def silent(_host: str) -> list[Found]:
    release.wait(10)
    return []


release = threading.Event()


@pytest.mark.parametrize(
    ("ask", "counted_as", "reason"),
    [
        (absent, "upstream_unresolved", "not resolved"),
        (silent, "upstream_unresolved", "not resolved"),
        (private, "upstream_blocked", "not allowed"),
    ],
)
async def test_caller_cannot_tell_a_name_that_is_not_there_from_one_that_is_private(
    ask: LookUp, counted_as: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    release.clear()
    upstreams = Upstreams(AddressPolicy(), resolver=Resolver(ask=ask))
    target = Target(urlsplit("http://internal.example"), "a", 0.5)
    told = set()
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            await upstreams.send(target, Outgoing("GET", "/", []), Body.of(b""), Bounds(5, 5, 9))
        told.add((caught.value.code, caught.value.detail, caught.value.counted_as))
    release.set()
    await upstreams.close()

    assert told == {("upstream_blocked", NO_ADDRESS, counted_as)}
    (record,) = [one for one in caplog.records if "must not be connected" in one.message]
    assert (record.__dict__["host"], reason in record.__dict__["reason"]) == (
        "internal.example",
        True,
    )
