"""Addresses that may come in at all."""

from __future__ import annotations

from typing import Any, cast

import pytest

from filters.ip_filter import IpFilter, Options
from gateway.exchange import Exchange
from gateway.options import OptionFaults, load
from gateway.pipeline import plan
from gateway.runtime import Runtime
from tests.dataplane import answering, assert_honest, exchange, refusal_of


def stage(**options: Any) -> IpFilter:
    return IpFilter(load(Options, options), cast("Runtime", None))


def coming_from(address: str) -> Exchange:
    made = exchange()
    made.client_address = address
    return made


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({}, "name networks in allow or deny"),
        ({"allow": []}, "name networks in allow or deny"),
        ({"allow": ["10.0.0.0/8", "nonsense"]}, "allow[1]: 'nonsense' does not appear to be"),
        ({"deny": ["10.0.0.1/8"]}, "deny[0]: 10.0.0.1/8 has host bits set"),
        ({"deny": ["10.0.0.0/33"]}, "deny[0]: '10.0.0.0/33' does not appear to be"),
        ({"allow": "10.0.0.0/8"}, "allow: Not a valid list"),
    ],
)
def test_networks_are_checked_at_start(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(OptionFaults) as caught:
        stage(**options)

    assert fault in str(caught.value)


INSIDE = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]


@pytest.mark.parametrize(
    ("options", "address"),
    [
        *(({"allow": INSIDE}, address) for address in
          ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "192.0.2.7")),
        ({"allow": ["fe80::/10"]}, "fe80::1%eth0"),
        ({"allow": ["::ffff:10.0.0.0/104"]}, "10.1.2.3"),
        ({"allow": ["::ffff:10.0.0.0/104"]}, "::ffff:10.1.2.3"),
        ({"deny": INSIDE}, "192.0.2.8"),
        ({"deny": ["0.0.0.0/0"]}, "2001:db8::1"),
        ({"deny": INSIDE}, ""),
        ({"allow": INSIDE, "deny": ["10.9.0.0/16"]}, "10.8.0.1"),
    ],
)  # fmt: skip
async def test_address_that_may_come_in_does(options: dict[str, Any], address: str) -> None:
    assert (await stage(**options)(coming_from(address), answering())).body == b"inner"


@pytest.mark.parametrize(
    ("options", "address"),
    [
        *(({"deny": INSIDE}, address) for address in
          ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1", "192.0.2.7")),
        ({"deny": ["::ffff:10.0.0.0/104"]}, "10.1.2.3"),
        ({"allow": INSIDE}, "192.0.2.8"),
        ({"allow": ["0.0.0.0/0"]}, "2001:db8::1"),
        ({"allow": ["::/0"]}, "192.0.2.8"),
        ({"allow": INSIDE}, ""),
        ({"allow": INSIDE}, "nonsense"),
        # what is denied is denied, however much is allowed
        ({"allow": INSIDE, "deny": ["10.9.0.0/16"]}, "10.9.0.1"),
        ({"allow": ["10.9.0.1"], "deny": ["10.0.0.0/8"]}, "10.9.0.1"),
    ],
)  # fmt: skip
async def test_address_that_may_not_is_refused(options: dict[str, Any], address: str) -> None:
    refused = await refusal_of(stage(**options), coming_from(address))

    assert (refused.code, refused.status) == ("forbidden", 403)
    assert "address" in refused.detail


def test_it_may_stand_before_authenticate() -> None:
    entries = ["usage", "respond", {"ip_filter": {"deny": ["10.0.0.0/8"]}}, "authenticate"]

    assert plan([*entries, "resolve", "transform", "proxy"])[2].name == "ip_filter"


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(stage(deny=INSIDE), exchange())
