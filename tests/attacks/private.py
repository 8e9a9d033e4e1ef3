"""Private addresses in every spelling, names that lead to them, and addresses that are public."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

_SPELLED = (
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104 - nothing is bound to it
)  # fmt: skip
_DOTTED = (
    "0.1.2.3", "10.255.255.255", "100.127.255.255", "100.100.100.200", "127.0.0.53", "127.1.2.3",
    "168.63.129.16", "169.254.0.1", "169.254.169.253", "169.254.170.2", "169.254.170.23",
    "169.254.42.42", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255",
)  # fmt: skip
_SIX = (
    "::", "::1", "0:0:0:0:0:0:0:1", "::127.0.0.1", "fc00::1", "fd00::1", "fd00:ec2::254",
    "fd20:ce::254", "fd00:42::42", "fe80::1", "fe80::1%25lo", "fe80::1%lo", "::1%25lo",
    "febf::1", "fec0::1", "ff02::1", "ff05::1:3", "100::1", "2001:db8::1", "2001:2::1",
    "2001:10::1", "2001:20::1", "3fff::1", "5f00::1", "4000::1",
)  # fmt: skip
NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    # What each look-up answers, in turn; the last answer stays.
    "a.localhost": (("127.0.0.1",),),
    "a.localhost.": (("127.0.0.1",),),
    "127.0.0.1.nip.example": (("127.0.0.1",),),
    "10-0-0-1.sslip.example": (("10.0.0.1",),),
    "metadata.google.internal": (("169.254.169.254",),),
    "instance-data.ec2.internal": (("169.254.169.254",),),
    "kubernetes.default.svc": (("10.96.0.1",),),
    "host.docker.internal": (("192.168.65.2",),),
    "loopback6.example": (("::1",),),
    "mapped.example": (("::ffff:127.0.0.1",),),
    "nat64.example": (("64:ff9b::7f00:1",),),
    "zone.example": (("fe80::1%lo",),),
    "unspecified.example": (("0.0.0.0",),),  # noqa: S104 - nothing is bound to it
    "many-private.example": (("10.0.0.1", "127.0.0.1", "::1"),),
    "public-first.example": ((PUBLIC, "127.0.0.1"),),
    "private-first.example": (("127.0.0.1", PUBLIC),),
    "mixed-families.example": ((PUBLIC_6, "127.0.0.1", PUBLIC, "::1"),),
    "private-between.example": ((PUBLIC, "::1", PUBLIC),),
    "rebinding.example": ((PUBLIC,), ("127.0.0.1",)),
    "rebinding6.example": ((PUBLIC_6,), ("::1",)),
    "rebinding-metadata.example": ((PUBLIC,), ("169.254.169.254",)),
    "xn--bcher-kva.example": (("127.0.0.1",),),
    "caf\u00e9.example": (("127.0.0.1",),),
    "xn--caf-dma.example": (("127.0.0.1",),),
}
_HOSTS = (
    "localhost", "LOCALHOST", "LocalHost", "localhost.", "127.0.0.1.", "0X7F.0.0.1", "0x7F000001",
    "127.0.1", "127.1", "1", "0", "00", "0x0", "0177.0.0.01", "0x7f.0x0.0x0.0x1", "127.0x1",
    "000127.0.0.1", "127.000.000.001", "A.LocalHost", "127.0.0.1.NIP.example",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "\u2460\u2461\u2466.0.0.1", "127\u30020\uff0e0\uff611",
    "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54", "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    "%31%32%37.0.0.1", "127.0.0.1%00.example", "localhost%2e",
)  # fmt: skip
_USER_INFO = (
    "public.example@127.0.0.1", "public.example:80@127.0.0.1", "public.example%40@127.0.0.1",
    "127.0.0.1@127.0.0.1", "@127.0.0.1", ":@[::1]", "public.example%2f@127.0.0.1",
)  # fmt: skip


def _spellings(text: str) -> Iterator[str]:
    """One IPv4 address as resolvers take it: numbers of one, two, three and four parts, any base."""
    address = IPv4Address(text)
    whole, (a, b, c, d) = int(address), address.packed
    yield from (text, f"{text}.", str(whole), f"{whole:#x}", f"0{whole:o}", f"{whole:#X}")
    yield from (f"{a}.{whole & 0xFFFFFF}", f"{a}.{b}.{whole & 0xFFFF}", f"{a:#x}.{b}.{c:#x}.{d}")
    yield f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield f"{a:#x}{b:02x}{c:02x}{d:02x}"


def _carriers(text: str) -> Iterator[str]:
    """The IPv6 addresses that carry one of IPv4: mapped, compatible, NAT64, 6to4, Teredo …"""
    bits = int(IPv4Address(text))
    for network in ("::ffff:0:0", "::ffff:0:0:0", "::", "64:ff9b::", "64:ff9b:1::"):
        yield str(IPv6Address(int(IPv6Address(network)) | bits))
    yield str(IPv6Address(int(IPv6Address("2002::")) | bits << 80))
    yield str(IPv6Address(int(IPv6Address("2001:0:4136:e378::")) | (bits ^ 0xFFFFFFFF)))


def _hosts() -> Iterator[str]:
    for text in _SPELLED:
        yield from _spellings(text)
        yield from (f"[{carrier}]" for carrier in _carriers(text))
    yield from _DOTTED
    yield from (f"[{text}]" for text in _SIX)
    yield from (f"[::ffff:{text}]" for text in _SPELLED)
    yield from (*_HOSTS, *NAMES, *_USER_INFO)


HOSTS = tuple(dict.fromkeys(_hosts()))
"""What stands between `http://` and the port."""
