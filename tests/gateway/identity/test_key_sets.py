"""An issuer's published keys (JWKS): learnt by their id, kept when it is away, never begged for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.identity.jwts import Identity, KeysAway, TokenFault, TokenRules, Tokens, TrustedKey
from gateway.tasks import Tasks
from gateway.upstream.address_policy import AddressPolicy, Allowed
from gateway.upstream.connections import Upstreams
from tests.clocks import HandClock

Eventually = Callable[[Callable[[], object]], Awaitable[None]]
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
        self.go = asyncio.Event()
        self.go.set()

    async def handle(self, _request: web.Request) -> web.Response:
        self.asked += 1
        answer = self.answer()
        await self.go.wait()
        return answer

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


async def test_rotated_key_is_learnt_at_once_whatever_strangers_ask_for(
    issuer: Issuer, verifier: Verifier
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="old")]
    tokens = verifier("RS256")
    await tokens.verify(token(RSA, "RS256", head={"kid": "old"}))
    strange = [token(STRANGER, "RS256", head={"kid": f"{number}"}) for number in range(50)]
    refused = await asyncio.gather(*map(tokens.verify, strange), return_exceptions=True)
    assert {type(error) for error in refused} == {TokenFault}
    assert issuer.asked == 2

    issuer.keys = [jwk(STRANGER, "RS256", kid="new")]
    made = [token(STRANGER, "RS256", head={"kid": kid}) for kid in ("x", "new", "y")]
    _, identity, _ = await asyncio.gather(*map(tokens.verify, made), return_exceptions=True)
    assert isinstance(identity, Identity)
    assert issuer.asked == 3
    with pytest.raises(TokenFault):  # the issuer took this one back
        await tokens.verify(token(RSA, "RS256", head={"kid": "old"}, sub="bob"))


async def test_key_that_is_published_while_a_fetch_is_on_its_way_is_waited_for(
    issuer: Issuer, verifier: Verifier, eventually: Eventually
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="old")]
    tokens = verifier("RS256")
    await tokens.verify(token(RSA, "RS256", head={"kid": "old"}))
    issuer.go.clear()
    tasks = Tasks(expected=(TokenFault,))
    strange = token(STRANGER, "RS256", head={"kid": "x"})
    stranger = tasks.start(tokens.verify(strange), "a stranger")
    await eventually(lambda: issuer.asked == 2)
    made = token(STRANGER, "RS256", head={"kid": "new"})
    rotated = tasks.start(tokens.verify(made), "who has the new key")
    await asyncio.sleep(0)
    issuer.go.set()
    with pytest.raises(TokenFault):
        await stranger
    issuer.keys = [jwk(STRANGER, "RS256", kid="new")]

    assert (await rotated).user == "ann"


async def test_held_keys_do_not_wait_for_a_slow_issuer(
    issuer: Issuer, verifier: Verifier, clock: HandClock, eventually: Eventually
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="r")]
    tokens = verifier("RS256")
    await tokens.verify(token(RSA, "RS256", head={"kid": "r"}))
    clock.forward(3600)
    issuer.go.clear()

    for number in range(20):
        await tokens.verify(token(RSA, "RS256", head={"kid": "r"}, sub=f"{number}"))
        await tokens.verify(token(RSA, "RS256", sub=f"{number} without a kid"))
    await eventually(lambda: issuer.asked == 2)
    issuer.go.set()
    await tokens.close()


async def test_without_keys_it_is_no_fault_of_the_token_and_the_issuer_is_asked_again_soon(
    issuer: Issuer, verifier: Verifier, clock: HandClock
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="r")]
    working, issuer.answer = issuer.answer, BROKEN["error"]
    tokens, made = verifier("RS256"), token(RSA, "RS256", head={"kid": "r"})

    for asked, wait_s in enumerate((1, 2, 4, 8, 16, 30, 30), 1):
        for _ in range(3):
            with pytest.raises(KeysAway) as away:
                await tokens.verify(made)
            assert away.value.refusal().status == 503
            assert away.value.retry_after_s == pytest.approx(wait_s)
        assert issuer.asked == asked
        clock.forward(wait_s)
    issuer.answer = working
    assert (await tokens.verify(made)).user == "ann"


async def test_issuer_that_is_away_does_not_keep_the_tokens_of_another_out(
    issuer: Issuer, clock: HandClock
) -> None:
    issuer.keys = [jwk(RSA, "RS256", kid="r")]
    upstreams = Upstreams(AddressPolicy([Allowed.parse("127.0.0.1")]))
    gone = TrustedKey("RS256", jwks_url=issuer.url.replace("/jwks", "/gone"))
    tokens = Tokens(RULES, [gone, *issuer.trusted("RS256")], upstreams.fetch, clock)

    for head in ({"kid": "r"}, None):
        assert (await tokens.verify(token(RSA, "RS256", head=head))).user == "ann"
        with pytest.raises(KeysAway):  # it may be the other one's
            await tokens.verify(token(STRANGER, "RS256", head=head and {"kid": "x"}))
    await upstreams.close()


BROKEN: dict[str, Callable[[], web.Response]] = {
    "error": lambda: web.Response(status=500),
    "redirect": lambda: web.Response(status=302, headers={"Location": "/jwks"}),
    "no JSON": lambda: web.Response(text="<html>"),
    "no keys": lambda: web.json_response({}),
    "a list": lambda: web.json_response([]),
    "keys that are text": lambda: web.json_response({"keys": 5}),
    "an empty set": lambda: web.json_response({"keys": []}),
    "a set of other keys": lambda: web.json_response({"keys": [jwk(EC, "ES256", kid="r")]}),
    "a set for encryption": lambda: web.json_response({"keys": [jwk(RSA, "RS256", use="enc")]}),
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
    clock.forward(3600)
    for sub in ("bob", "cat"):
        await tokens.verify(token(RSA, "RS256", head={"kid": "r"}, sub=sub))
    await tokens.close()


async def test_each_algorithm_takes_its_keys_from_a_mixed_set(
    issuer: Issuer, verifier: Verifier, clock: HandClock
) -> None:
    issuer.keys = [
        "text", None, {}, {"kty": "XX", "kid": "x"}, {"kty": "RSA", "kid": "half", "n": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "off"},
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXg", "kid": "oct", "alg": "HS256"},
        jwk(STRANGER, "RS256", kid="enc", use="enc"), jwk(STRANGER, "RS256", kid="signs", key_ops=["sign"]),
        jwk(STRANGER, "RS256", kid="text", key_ops="verify"), jwk(STRANGER, "RS256", kid="none", use=None), jwk(STRANGER, "RS256", kid="512", alg="RS512"),
        jwk(ED, "EdDSA", kid="d"), jwk(EC, "ES256", kid="e", use="sig", key_ops=["verify"]), jwk(RSA, "RS256", kid="r", alg="RS256"),
    ]  # fmt: skip
    tokens = verifier("RS256", "ES256", "EdDSA")

    for key, algorithm, kid in ((RSA, "RS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "d")):
        await tokens.verify(token(key, algorithm, head={"kid": kid}, sub=kid))
        await tokens.verify(token(key, algorithm, sub=f"{kid} without a kid"))
    for kid in ("enc", "512", "signs", "text", "none", "r", "e"):
        clock.forward(1)
        with pytest.raises(TokenFault):
            await tokens.verify(token(STRANGER, "RS256", head={"kid": kid}))
    with pytest.raises(TokenFault):
        await tokens.verify(token("secret-secret-secret-secret-x-xx", "HS256", head={"kid": "oct"}))
    assert issuer.asked == 7  # the first time, and for each key of another algorithm or use


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

    clock.forward(301)
    await tokens.verify(made)

    unknown = token(STRANGER, "RS256", head={"kid": "unknown"})
    for one in (unknown, made):  # the first waits for the fetch that the other began
        with pytest.raises(TokenFault):
            await tokens.verify(one)
