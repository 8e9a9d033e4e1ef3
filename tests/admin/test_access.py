"""Tokens, teams and roles: which are taken, and what the others are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from admin.access import allows
from admin.api import application
from admin.control import Control
from gateway.identity.jwts import TokenRules, Tokens, TrustedKey
from gateway.networks import parse_network
from tests.admin.client import BASE, Tokened, User, read


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer not.a.token", "Basic YTpi", "Bearer \xff\xfe", "Bearer a b"],
)
async def test_other_credentials_get_the_same_refusal(header: str, cut_off: User) -> None:
    headers = {"Authorization": header} if header else {}
    answer = await read(await cut_off.http.get(BASE + "/me", headers=headers))

    assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
    assert answer.json["detail"].startswith("The admin API needs a valid JWT")


async def test_expired_token_is_refused(http: TestClient[Any, Any], token: Tokened) -> None:
    assert (await User(http, token({"red": "admin"}, life_s=-60), "red").get("/me")).status == 401


async def test_keys_that_cannot_be_fetched_are_no_fault_of_the_token(
    control: Control, aiohttp_client: Any, token: Tokened
) -> None:
    async def fetch(_url: str) -> bytes:
        raise ConnectionError

    keys = [TrustedKey("HS256", jwks_url="https://issuer.test")]
    tokens = Tokens(TokenRules("tests", "service-gateway"), keys, fetch)
    http = await aiohttp_client(application(replace(control, tokens=tokens)))
    signed = token({"red": "admin"})

    for asked in (
        http.get(BASE + "/me", headers={"Authorization": f"Bearer {signed}"}),
        http.post(BASE + "/session", json={"token": signed}),
    ):
        answer = await read(await asked)
        assert (answer.status, answer.json["code"]) == (503, "store_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1


async def test_refused_credentials_of_an_address_are_limited_and_good_ones_from_it_are_not(
    control: Control, aiohttp_client: Any, token: Tokened
) -> None:
    proxies = (parse_network("127.0.0.1"),)
    guarded = replace(control, failures_per_minute=3, trusted_proxies=proxies)
    http, good = await aiohttp_client(application(guarded)), token({"red": "admin"})
    bad: tuple[Callable[[], Any], ...] = (
        lambda: http.get(BASE + "/me", headers={"Authorization": "Bearer bad"}),
        lambda: http.get(BASE + "/nowhere", headers={"Cookie": "gateway_session=bad"}),
        lambda: http.post(BASE + "/session", json={"token": "bad"}),
    )

    assert [(await refuse()).status for refuse in bad] == [401, 401, 401]
    for refuse in bad:
        answer = await read(await refuse())
        assert (answer.status, answer.json["code"]) == (429, "rate_limited")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
    other = await http.get(BASE + "/me", headers={"X-Forwarded-For": "192.0.2.7"})
    assert other.status == 401
    fields = {"Authorization": f"Bearer {good}"}
    assert (await http.get(BASE + "/me", headers=fields)).status == 200
    assert (await http.post(BASE + "/session", json={"token": good})).status == 201


async def test_two_credentials_are_refused(http: TestClient[Any, Any], token: Tokened) -> None:
    valid = f"Bearer {token({'red': 'admin'})}"
    headers = [("Authorization", valid), ("Authorization", valid)]

    assert (await http.get(BASE + "/me", headers=headers)).status == 401


async def test_team_may_be_left_out_when_the_token_has_one(
    http: TestClient[Any, Any], token: Tokened
) -> None:
    headers = {"Authorization": f"bearer {token({'red': 'viewer'})}"}

    assert (await http.get(BASE + "/plans", headers=headers)).status == 200


async def test_team_must_be_named_when_the_token_has_two(
    http: TestClient[Any, Any], token: Tokened
) -> None:
    both = token({"red": "viewer", "blue": "admin"})
    answer = await read(
        await http.get(BASE + "/plans", headers={"Authorization": f"Bearer {both}"})
    )

    assert (answer.status, answer.json["code"]) == (403, "forbidden")
    assert "x-team-id" in answer.json["detail"]
    assert (await User(http, both, "blue").get("/plans")).status == 200


async def test_role_is_the_one_in_the_named_team(
    http: TestClient[Any, Any], token: Tokened
) -> None:
    both = token({"red": "viewer", "blue": "admin"})

    assert (await User(http, both, "red").post("/plans", {"name": "gold"})).status == 403
    assert (await User(http, both, "blue").post("/plans", {"name": "gold"})).status == 201


async def test_token_without_a_team_gets_no_route(
    http: TestClient[Any, Any], token: Tokened
) -> None:
    headers = {"Authorization": f"Bearer {token({})}"}

    assert (await http.get(BASE + "/plans", headers=headers)).status == 403


def test_roles_include_those_below() -> None:
    order = ("viewer", "editor", "admin")

    for held in order:
        assert [allows(held, needed) for needed in order] == [
            order.index(held) >= order.index(needed) for needed in order
        ]
