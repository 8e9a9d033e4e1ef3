"""What a key is bound to, from where it may come, and what its plan allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any, cast

import pytest

from filters.authorize import Authorize, Options
from gateway.exchange import Exchange
from gateway.model import Plan
from gateway.runtime import Runtime
from tests.dataplane import answering, assert_honest, caller, connector, exchange, refusal_of

STAGE = Authorize(Options(), cast("Runtime", None))
AT = connector("http://127.0.0.1")
ENDPOINT = AT.router.match("GET", "/x").route


def asking(address: str = "192.0.2.1", **bindings: Any) -> Exchange:
    request = exchange(at=AT)
    request.client_address = address
    request.caller = caller(**bindings)
    return request


def networks(*texts: str) -> dict[str, Any]:
    return {"allowed_networks": tuple(map(ip_network, texts))}


def plan_for(*connectors: str) -> dict[str, Any]:
    return {"plan": dataclasses.replace(Plan("p", "p"), allowed_connectors=frozenset(connectors))}


@pytest.mark.parametrize(
    "bindings",
    [
        {},
        {"connector_ids": frozenset({AT.id, "other"})},
        {"allowed_endpoints": frozenset({ENDPOINT.name})},
        {"allowed_endpoints": frozenset({ENDPOINT.id})},
        plan_for(AT.id),
        networks("10.0.0.0/8", "192.0.2.0/24"),
        networks("2001:db8::/32") | {"address": "2001:db8::7"},
        networks("fe80::/10") | {"address": "fe80::1%eth0"},
        networks("192.0.2.0/24") | {"address": "::ffff:192.0.2.1"},
    ],
)
async def test_caller_within_its_bindings_goes_on(bindings: Mapping[str, Any]) -> None:
    assert (await STAGE(asking(**bindings), answering())).body == b"inner"


@pytest.mark.parametrize(
    ("bindings", "reason"),
    [
        ({"connector_ids": frozenset({"other"})}, "not for this connector"),
        ({"allowed_endpoints": frozenset({"other"})}, "not for this endpoint"),
        (plan_for("other"), "plan does not allow this connector"),
        (networks("10.0.0.0/8"), "from this address"),
        (networks("::/0"), "from this address"),
        (networks("0.0.0.0/0") | {"address": "2001:db8::7"}, "from this address"),
        (networks("0.0.0.0/0", "::/0") | {"address": ""}, "from this address"),
        (networks("0.0.0.0/0") | {"address": "nonsense"}, "from this address"),
        # the first that fits refuses: one binding does not stand in for another
        ({"allowed_endpoints": frozenset({"other"})} | plan_for(AT.id), "not for this endpoint"),
    ],
)
async def test_caller_outside_its_bindings_is_refused(
    bindings: Mapping[str, Any], reason: str
) -> None:
    refused = await refusal_of(STAGE, asking(**bindings))

    assert (refused.code, refused.status) == ("forbidden", 403)
    assert reason in refused.detail


async def test_it_reads_and_fills_what_it_says() -> None:
    await assert_honest(STAGE, asking())
