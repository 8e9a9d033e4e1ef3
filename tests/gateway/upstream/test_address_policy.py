"""The guard against server-side request forgery: every form of every address that is not public."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.address_policy import AddressPolicy, AddressRefused, Allowed

STRICT = AddressPolicy()

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255",
    "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
    "223.255.255.255", "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450::1",
    "2001:200::1", "2400:cb00::1",
]  # fmt: skip

REFUSED = [
    # IPv4: this network, private, shared, loopback, link-local, protocol, documentation, relay
    "0.0.0.0",  # noqa: S104 - nobody listens there
    "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.0", "100.127.255.255",
    "127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.0",
    "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.31.196.1", "192.52.193.1",
    "192.88.99.1", "192.168.0.1", "192.168.255.255", "192.175.48.1", "198.18.0.1", "198.19.255.255",
    "198.51.100.1", "203.0.113.1",
    # multicast, reserved, broadcast
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    # metadata that a table of private networks lets through, or that hides in one
    "168.63.129.16", "169.254.170.2", "169.254.170.23", "169.254.0.23", "169.254.42.42",
    "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",
    "fd00:42::42",
    # IPv6: unspecified, loopback, discard, unique-local, link-local, site-local, multicast
    "::", "::1", "100::1", "100:0:0:1::1", "fc00::1", "fdff:ffff::1", "fe80::1", "fe80::1%eth0",
    "febf::1", "fec0::1", "ff02::1", "ff0e::1",
    # protocol assignments, documentation, benchmarking, segment routing, reserved space
    "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1",
    "2620:4f:8000::1", "200::1", "400::1", "4000::1", "8000::1", "e000::1", "f000::1",
    # IPv4 inside: mapped, translated, compatible, NAT64 and its local form, 6to4, Teredo
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
    "::127.0.0.1", "::10.0.0.1", "::2", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1",
    "64:ff9b:1::7f00:1", "64:ff9b:1:7f00:0:100::", "2002:7f00:1::1", "2002:a00:1::", "2002:a9fe:a9fe::1",
    "2001:0:1:2:3:4:80ff:fffe", "2001:0:1:2:3:4:f5ff:fffe",
]  # fmt: skip


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_permitted(text: str) -> None:
    assert STRICT.permits(ip_address(text), 443)
    assert STRICT.permits_host(f"[{text}]" if ":" in text else text, 443)


@pytest.mark.parametrize("text", REFUSED)
def test_other_addresses_are_refused(text: str) -> None:
    assert not STRICT.permits(ip_address(text), 443)
    assert not STRICT.permits_host(f"[{text}]" if ":" in text else text, 443)


@given(
    st.ip_addresses(v=4),
    st.sampled_from(["::ffff:{}", "::{}", "::ffff:0:{}", "64:ff9b::{}", "64:ff9b:1::{}"]),
)
def test_no_form_of_an_address_is_permitted_where_the_address_is_not(
    inner: IPv4Address, form: str
) -> None:
    carrier = IPv6Address(form.format(inner))

    assert STRICT.permits(inner, 80) or not STRICT.permits(carrier, 80)
    everything = AddressPolicy([Allowed.parse("::/0"), Allowed.parse("64:ff9b::/96")])
    assert STRICT.permits(inner, 80) or not everything.permits(carrier, 80)


SPELLINGS = [
    "127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.0.0.1", "0x7f.1", "017700000001",
    "0177.0.0.1", "127.0.0.1.", "127.1.", "0", "0.0", "00.0x0", "10.1", "0xa000001", "167772161",
    "3232235521", "0xc0a80001", "2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518",
    "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[fe80::1%25eth0]",
    "localhost", "LOCALHOST", "Localhost.", "x.localhost", "a.b.LocalHost",
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
def test_every_spelling_of_a_refused_address_is_refused(host: str) -> None:
    assert not STRICT.permits_host(host, 80)


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "localhost.example.com",
        "notlocalhost",
        "1.1",
        "0x08080808",
        "a-b.c.",
        "2606:4700::1",
    ],
)
def test_names_and_public_addresses_pass_until_they_are_resolved(host: str) -> None:
    assert STRICT.permits_host(host, 80)


@pytest.mark.parametrize(
    ("entry", "network", "port"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", None), ("127.0.0.1", "127.0.0.1/32", None),
        ("127.0.0.1:9000", "127.0.0.1/32", 9000), ("10.0.0.0/8:443", "10.0.0.0/8", 443),
        ("::1", "::1/128", None), ("fd00::/8", "fd00::/8", None), ("[::1]", "::1/128", None),
        ("[::1]:9000", "::1/128", 9000), ("[fd00::/8]:1", "fd00::/8", 1),
    ],
)  # fmt: skip
def test_allowed_entries_are_networks_perhaps_with_a_port(
    entry: str, network: str, port: int | None
) -> None:
    allowed = Allowed.parse(entry)

    assert (str(allowed.network), allowed.port) == (network, port)


@pytest.mark.parametrize(
    "entry",
    [
        "", " ", "localhost", "localhost:80", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8:", ":80",
        "127.0.0.1:x", "127.0.0.1:-1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:99999999",
        "[::1", "::1]", "[::1]x80", "[::1]:", "[]:80", "[::1]:80:90", "*", "http://10.0.0.1",
        "127.0.0.1:\u0661", "127.0.0.1:80\n",
    ],
)  # fmt: skip
def test_entries_that_are_neither_are_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Allowed.parse(entry)


def policy(*entries: str) -> AddressPolicy:
    return AddressPolicy(map(Allowed.parse, entries))


@pytest.mark.parametrize(
    ("entries", "address", "port", "permitted"),
    [
        (["10.0.0.0/8"], "10.1.2.3", 80, True), (["10.0.0.0/8"], "192.168.0.1", 80, False),
        (["127.0.0.1:9000"], "127.0.0.1", 9000, True), (["127.0.0.1:9000"], "127.0.0.1", 9001, False),
        (["127.0.0.1:9000", "127.0.0.1:80"], "127.0.0.1", 80, True),
        (["[::1]:9000"], "::1", 9000, True), (["[::1]:9000"], "::1", 80, False),
        (["127.0.0.1"], "::1", 80, False), (["fd00::/8"], "fd12::1", 80, True),
        (["fe80::/10"], "fe80::1%eth0", 80, True), (["10.0.0.0/8"], "::ffff:10.0.0.1", 80, True),
        (["10.0.0.0/8:80"], "::ffff:10.0.0.1", 81, False), (["10.0.0.0/8"], "64:ff9b::a00:1", 80, True),
        (["64:ff9b::/96"], "64:ff9b::808:808", 80, True), (["64:ff9b::/96"], "64:ff9b::7f00:1", 80, False),
        (["::/0"], "::ffff:127.0.0.1", 80, False), (["0.0.0.0/0"], "127.0.0.1", 80, True),
    ],
)  # fmt: skip
def test_allowed_entry_opens_what_it_names_and_no_more(
    entries: list[str], address: str, port: int, permitted: bool
) -> None:
    assert policy(*entries).permits(ip_address(address), port) is permitted


METADATA = ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"]  # fmt: skip


@pytest.mark.parametrize("text", METADATA)
def test_metadata_must_be_named_by_itself(text: str) -> None:
    address = ip_address(text)

    assert not policy("0.0.0.0/0", "::/0", "169.254.0.0/16", "fd00::/8").permits(address, 80)
    assert not policy(
        f"{text}/31" if ":" not in text and int(address) % 2 == 0 else "::/1"
    ).permits(address, 80)
    assert policy(text).permits(address, 80)
    assert not policy(f"[{text}]:81" if ":" in text else f"{text}:81").permits(address, 80)


@pytest.mark.parametrize("form", ["::ffff:{}", "64:ff9b::{}", "::{}"])
def test_metadata_inside_another_address_must_be_named_too(form: str) -> None:
    carrier = ip_address(form.format("169.254.169.254"))

    assert not policy("0.0.0.0/0", "::/0", str(carrier)).permits(carrier, 80)
    assert policy("169.254.169.254").permits(carrier, 80)


@pytest.mark.parametrize(
    "info",
    [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 80, 0, 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::ffff:127.0.0.1", 80, 0, 0)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%lo", 80, 0, 1)),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("/run/x", 0)),
    ],
    ids=["IPv4", "IPv6", "mapped", "link-local", "unix"],
)  # fmt: skip
def test_no_socket_is_made_for_a_refused_address_and_the_refusal_names_none(
    info: tuple[object, ...],
) -> None:
    with pytest.raises(AddressRefused) as caught:
        STRICT.socket_for(info)
    assert str(caught.value) == "the upstream's address is not allowed"


def test_socket_is_made_for_a_permitted_address() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 9000))

    with policy("127.0.0.1:9000").socket_for(info) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)
    with pytest.raises(AddressRefused):
        policy("127.0.0.1:9001").socket_for(info)
