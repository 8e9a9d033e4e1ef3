"""Addresses and networks as text, and the way through trusted proxies."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from gateway.networks import hops, is_within, parse_address, parse_network, site_of


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1%eth0", "192.0.2.1"),
    ],
)
def test_one_address_has_one_form(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize(
    "text", ["", "192.0.2", "localhost", "192.0.2.1:80", "[::1]", "/run/socket"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None
    assert not is_within(parse_address(text), [ip_network("0.0.0.0/0"), ip_network("::/0")])


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_network_of_mapped_addresses_is_that_of_ipv4(text: str, network: str) -> None:
    assert parse_network(text) == ip_network(network)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "nonsense", ""])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_network(text)


def test_protocols_are_not_mixed() -> None:
    assert not is_within(ip_address("10.0.0.1"), [ip_network("::/0")])
    assert not is_within(ip_address("2001:db8::1"), [ip_network("0.0.0.0/0")])
    assert is_within(ip_address("10.0.0.1"), [ip_network("::/0"), ip_network("10.0.0.0/8")])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:2"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("fe80::1", "fe80::2%x"),
    ],
)
def test_one_client_is_one_site(one: str, other: str) -> None:
    assert site_of(one) == site_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:2::1"),
        ("", "192.0.2.1"),
    ],
)
def test_other_clients_are_other_sites(one: str, other: str) -> None:
    assert site_of(one) != site_of(other)


@pytest.mark.parametrize(
    ("peer", "forwarded", "way"),
    [
        (("10.0.0.1", 1), [], ["10.0.0.1"]),
        (("10.0.0.1", 1), ["192.0.2.1"], ["192.0.2.1", "10.0.0.1"]),
        (("10.0.0.1", 1), ["6.6.6.6", "192.0.2.1,10.0.0.2"], ["192.0.2.1", "10.0.0.2", "10.0.0.1"]),
        (("::ffff:10.0.0.1", 1, 0, 0), ["2001:db8::1"], ["2001:db8::1", "::ffff:10.0.0.1"]),
        (("192.0.2.9", 1), ["192.0.2.1"], ["192.0.2.9"]),
        (("10.0.0.1", 1), ["192.0.2.1, 192.0.2.2:80"], ["10.0.0.1"]),
        ("/run/socket", ["192.0.2.1"], ["192.0.2.1", ""]),
        (None, [], [""]),
    ],
)
def test_way_of_a_request_is_believed_as_far_as_its_proxies_are_trusted(
    peer: object, forwarded: list[str], way: list[str]
) -> None:
    assert list(hops(peer, forwarded, [ip_network("10.0.0.0/8")])) == way
    assert list(hops(peer, forwarded, [])) == way[-1:]
