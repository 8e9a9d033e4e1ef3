"""What upstreams are told of the caller's side: nothing, or what is known, never what a caller claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.exchange import Body, Exchange
from gateway.http.forwarded import teller
from gateway.transform.compiling import compile_connector

CLAIMS = (
    ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Port", "1"), ("Forwarded", "for=6.6.6.6;host=evil.example"), ("x_forwarded_for", "6.6.6.6"),
)  # fmt: skip
HOST = ("Host", "gw.example:8080")


def told(
    kind: str,
    fields: Sequence[tuple[str, str]] = (HOST,),
    client: str = "192.0.2.1",
    proxies: tuple[str, ...] = (),
    connector: Any = None,
    **own: Any,
) -> list[tuple[str, str]]:
    """The fields of this kind that an upstream gets."""
    definition = {"upstream_base_url": "https://api.example.com", "forwarded_headers": kind}
    entry = {"id": "e", "name": "e", "method": "GET", "path": "/x", "definition": own}
    snapshot = {
        "id": "c", "slug": "c", "definition": definition | (connector or {}), "endpoints": [entry]
    }  # fmt: skip
    made = compile_connector(snapshot, team="t", secrets={"access_key": "a", "secret_key": "s"})
    raw = tuple((name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in fields)
    exchange = Exchange(
        "GET", "/c/x", "", CIMultiDict(fields), raw, Body(None),
        client_address=client, request_id="r", traceparent="t",
    )  # fmt: skip
    if proxies:
        exchange.proxies = proxies
    outgoing = made.router.match("GET", "/x").route.mapped.outgoing(exchange)
    ours = [(name.decode(), value.decode()) for name, value in outgoing.headers]
    return [entry for entry in ours if "forwarded" in entry[0].lower()]


def test_upstream_is_told_nothing_unless_the_connector_says_so() -> None:
    assert told("none", [HOST, *CLAIMS], proxies=("10.0.0.1",)) == []
    assert teller("none") is None


def test_upstream_is_told_who_asked_for_which_host_and_how() -> None:
    assert told("x-forwarded") == [
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "gw.example:8080"),
    ]
    assert told("forwarded") == [
        ("Forwarded", 'for=192.0.2.1;host="gw.example:8080";proto=http'),
    ]


@pytest.mark.parametrize("kind", ["x-forwarded", "forwarded"])
def test_what_a_caller_claims_is_replaced(kind: str) -> None:
    assert told(kind, [HOST, *CLAIMS]) == told(kind)


def test_what_a_trusted_proxy_says_of_its_client_goes_on() -> None:
    fields = [
        HOST, ("X-Forwarded-For", "6.6.6.6, 203.0.113.9, 10.0.0.2"), ("X-Forwarded-Proto", "HTTPS"),
        ("X-Forwarded-Host", "public.example"),
    ]  # fmt: skip
    came: dict[str, Any] = {"client": "203.0.113.9", "proxies": ("10.0.0.2", "10.0.0.1")}

    assert told("x-forwarded", fields, **came) == [
        ("X-Forwarded-For", "203.0.113.9, 10.0.0.2, 10.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.example"),
    ]
    assert told("forwarded", fields, **came) == [
        (
            "Forwarded",
            "for=203.0.113.9;host=public.example;proto=https, for=10.0.0.2, for=10.0.0.1",
        ),
    ]


@pytest.mark.parametrize("proto", ["ftp", "https, http", "", "https;a=b", "http\udcff"])
@pytest.mark.parametrize(
    "host", ['a"b', "a b", "a;b", "a,b", "a\udcff", "[::1", "a:b", "u@a", "a/b"]
)
def test_what_is_not_well_formed_is_not_passed_on(proto: str, host: str) -> None:
    fields = [("Host", host), ("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host)]
    came: dict[str, Any] = {"client": "203.0.113.9", "proxies": ("10.0.0.1",)}

    assert told("x-forwarded", fields, **came) == [
        ("X-Forwarded-For", "203.0.113.9, 10.0.0.1"),
        ("X-Forwarded-Proto", "http"),
    ]
    assert told("forwarded", fields, **came) == [
        ("Forwarded", "for=203.0.113.9;proto=http, for=10.0.0.1")
    ]


@pytest.mark.parametrize(
    ("client", "plain", "quoted"),
    [
        ("2001:db8::1", "2001:db8::1", '"[2001:db8::1]"'),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1", '"[fe80::1]"'),
        ('fe80::1%a";for=6', "fe80::1", '"[fe80::1]"'),
        ("", "unknown", "unknown"),
    ],
)
def test_every_kind_of_address_has_its_form(client: str, plain: str, quoted: str) -> None:
    (first, *_) = told("x-forwarded", client=client, proxies=(client,))
    (forwarded,) = told("forwarded", [("Host", "gw")], client, proxies=(client,))

    assert first == ("X-Forwarded-For", f"{plain}, {plain}")
    assert forwarded == ("Forwarded", f"for={quoted};host=gw;proto=http, for={quoted}")


@pytest.mark.parametrize(
    "host", ["[2001:db8::1]:8080", "gw", "127.0.0.1:1", "xn--caf-dma.example."]
)
def test_host_is_told_as_it_was_asked_for(host: str) -> None:
    assert ("X-Forwarded-Host", host) in told("x-forwarded", [("Host", host)])


def test_endpoint_has_the_last_word() -> None:
    own: dict[str, Any] = {
        "set_headers": {"x-forwarded-host": "mine.example"}, "remove_headers": ["X-Forwarded-For"],
    }  # fmt: skip
    assert told("x-forwarded", **own) == [
        ("x-forwarded-host", "mine.example"),
        ("X-Forwarded-Proto", "http"),
    ]
    fixed = {"Forwarded": "for=_mine"}
    assert told("forwarded", set_headers=fixed) == [("Forwarded", "for=_mine")]
    assert told("forwarded", remove_headers=["forwarded"]) == []


def test_request_that_is_signed_is_told_of_before() -> None:
    signed = {"auth_type": "aws-sigv4", "auth_config": {"region": "r"}}

    assert told("x-forwarded", connector=signed) == told("x-forwarded")
