"""An issuer's published keys (JWKS): learnt by their id, kept when it is away, never begged for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.identity.jwts import TokenFault, TokenRules, Tokens, TrustedKey
from gateway.upstream.addresses import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from tests.clocks import HandClock

RULES = TokenRules("https://issuer.example", "gateway")
RSA = rsa.generate_private_key(65537, 2048)
STRANGER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def token(key: Any, algorithm: str, *, head: Any = None, sub: str = "ann") -> str:
    now = int(time.time())
    claims = {"iss": RULES.issuer, "aud": "gateway", "iat": now, "exp": now + 60, "sub": sub}
    return jwt.encode({**claims, "teams": ["maps"]}, key, algorithm=algorithm, headers=head)


def jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(
        key.public_key(), as_dict=True
    )
    return {**made, **members}


class Issuer:
    """A server that publishes keys, counts how often it is asked, and can be broken."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.asked = 0
        self.answer: Callable[[], web.Response] = lambda: web.json_response({"keys": self.keys})
        self.url = ""

    async def handle(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return self.answer()

    def trusted(self, *algorithms: str) -> list[TrustedKey]:
        return [TrustedKey(algorithm, jwks_url=self.url) for algorithm in algorithms]


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """A running issuer."""
    made, app = Issuer(), web.Application()
    app.router.add_get("/jwks", made.handle)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/jwks"))
        yield made


Verifier = Callable[..., Tokens]


@pytest.fixture
async def verifier(issuer: Issuer, clock: HandClock) -> AsyncIterator[Verifier]:
    """Make tokens that are verified with the issuer's keys."""
    upstreams = Upstreams(AddressPolicy([Allowed.parse("127.0.0.1")]))
    yield lambda *algorithms: Tokens(RULES, issuer.trusted(*algorithms), upstreams.fetch, clock)
    await upstreams.close()


async def test_keys_are_fetched_once_for_all_who_wait(issuer: Issuer, verifier: Verifier) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="r")]
    tokens = verifier("RS256")
    made = [token(RSA, "RS256", head={"kid": "r"}, sub=f"{number}") for number in range(20)]

    assert len(await asyncio.gather(*map(tokens.verify, made))) == 20
    assert issuer.asked == 1


async def test_rotated_key_is_learnt_by_its_kid_at_most_every_30_seconds(
    issuer: Issuer, verifier: Verifier, clock: HandClock
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="old")]
    tokens = verifier("RS256")
    await tokens.verify(token(RSA, "RS256", head={"kid": "old"}))
    issuer.keys = [jwk(STRANGER, "RS256", kid="new")]
    new = token(STRANGER, "RS256", head={"kid": "new"})

    for _ in range(5):
        with pytest.raises(TokenFault):
            await tokens.verify(new)
    assert issuer.asked == 1
    clock.forward(30.1)
    assert (await tokens.verify(new)).user == "ann"
    assert issuer.asked == 2
    with pytest.raises(TokenFault):  # the issuer took this one back
        await tokens.verify(token(RSA, "RS256", head={"kid": "old"}, sub="bob"))


BROKEN: dict[str, Callable[[], web.Response]] = {
    "error": lambda: web.Response(status=500),
    "redirect": lambda: web.Response(status=302, headers={"Location": "/jwks"}),
    "no JSON": lambda: web.Response(text="<html>"),
    "no keys": lambda: web.json_response({}),
    "a list": lambda: web.json_response([]),
    "keys that are text": lambda: web.json_response({"keys": 5}),
    "too large": lambda: web.Response(text=" " * (2 << 20)),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_issuer_that_is_away_takes_no_key_away_and_is_left_alone(
    broken: Callable[[], web.Response], issuer: Issuer, verifier: Verifier, clock: HandClock
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="r")]
    tokens = verifier("RS256")
    await tokens.verify(token(RSA, "RS256", head={"kid": "r"}))
    issuer.answer = broken
    clock.forward(31)

    unknown = [token(STRANGER, "RS256", head={"kid": f"{number}"}) for number in range(10)]
    refused = await asyncio.gather(*map(tokens.verify, unknown), return_exceptions=True)
    assert all(isinstance(error, TokenFault) for error in refused)
    assert issuer.asked == 2
    await tokens.verify(token(RSA, "RS256", head={"kid": "r"}, sub="bob"))


async def test_each_algorithm_takes_its_keys_from_a_mixed_set(
    issuer: Issuer, verifier: Verifier
) -> None:
    issuer.keys = [
        "text", None, {}, {"kty": "XX", "kid": "x"}, {"kty": "RSA", "kid": "half", "n": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off"},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXg", "kid": "oct", "alg": "HS256"},
        jwk(STRANGER, "RS256", kid="enc", use="enc"), jwk(STRANGER, "RS256", kid="512", alg="RS512"),
        jwk(ED, "EdDSA", kid="d"), jwk(EC, "ES256", kid="e", use="sig"), jwk(RSA, "RS256", kid="r", alg="RS256"),
    ]  # fmt: skip
    tokens = verifier("RS256", "ES256", "EdDSA")

    for key, algorithm, kid in ((RSA, "RS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "d")):
        await tokens.verify(token(key, algorithm, head={"kid": kid}, sub=kid))
        await tokens.verify(token(key, algorithm, sub=f"{kid} without a kid"))
    for kid in ("enc", "512", "r", "e"):
        with pytest.raises(TokenFault):
            await tokens.verify(token(STRANGER, "RS256", head={"kid": kid}))
    with pytest.raises(TokenFault):
        await tokens.verify(token("secret-secret-secret-secret-x-xx", "HS256", head={"kid": "oct"}))
    assert issuer.asked == 1


async def test_address_in_a_token_is_not_asked_for_keys(issuer: Issuer, verifier: Verifier) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="r")]
    tokens = verifier("RS256")
    await tokens.verify(token(RSA, "RS256"))
    asked = issuer.asked

    for name in ("jku", "x5u"):
        with pytest.raises(TokenFault):
            await tokens.verify(token(STRANGER, "RS256", head={"kid": "r", name: issuer.url}))
    assert issuer.asked == asked


async def test_without_a_way_to_fetch_no_token_is_accepted(issuer: Issuer) -> None:
    with pytest.raises(TokenFault):
        await Tokens(RULES, issuer.trusted("RS256")).verify(token(RSA, "RS256"))


async def test_withdrawn_key_is_refused_after_a_while(
    issuer: Issuer, verifier: Verifier, clock: HandClock
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="r")]
    tokens = verifier("RS256")
    made = token(RSA, "RS256", head={"kid": "r"})
    await tokens.verify(made)
    issuer.keys = [jwk(STRANGER, "RS256", kid="other")]

    clock.forward(601)

    with pytest.raises(TokenFault):
        await tokens.verify(made)
