"""JSON Web Tokens: the attacks of RFC 8725, and what makes a token good."""

from __future__ import annotations

import base64
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.identity.jwts import Identity, TokenFault, TokenRules, Tokens, TrustedKey, check_key

RULES = TokenRules("https://issuer.example", "gateway", longest_life_s=3600)
SECRET = "a secret that is long enough for every HMAC there is: 64 bytes, x"
RSA = rsa.generate_private_key(65537, 2048)
STRANGER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
EC384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


Eventually = Callable[[Callable[[], object]], Awaitable[None]]


def pem(key: Any) -> str:
    octets: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return octets.decode()


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with changes; `...` takes one out."""
    now = int(time.time())
    good = {"iss": RULES.issuer, "aud": "gateway", "iat": now, "exp": now + 60, "sub": "ann"}
    made = {**good, "teams": {"maps": "editor"}, **changes}
    return {name: value for name, value in made.items() if value is not ...}


def token(key: Any = SECRET, algorithm: str = "HS256", *, head: Any = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=head)


def part(content: Any) -> str:
    octets = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def forged(head: dict[str, Any], secret: bytes | None = None, **changes: Any) -> str:
    """A token as no library makes it: any header, signed with HMAC-SHA-256 or not at all."""
    signed = f"{part(head)}.{part(claims(**changes))}"
    if secret is None:
        return f"{signed}."
    algorithm = jwt.get_algorithm_by_name("HS256")
    return f"{signed}.{part(algorithm.sign(signed.encode(), secret))}"


def jwk(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    made: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(
        key.public_key(), as_dict=True
    )
    return {**made, **members}


def tampered(place: int) -> str:
    parts = token().split(".")
    parts[place] = part({**claims(), "sub": "root"} if place == 1 else b"x" * 32)
    return ".".join(parts)


def digits(count: int) -> str:
    """A good signature over an `exp` that Python does not even read."""
    exp = int(time.time()) + 60
    body = json.dumps(claims(exp=exp)).replace(f"{exp}", "9" * count, 1).encode()
    signed = f"{part({'alg': 'HS256'})}.{part(body)}"
    algorithm = jwt.get_algorithm_by_name("HS256")
    return f"{signed}.{part(algorithm.sign(signed.encode(), SECRET.encode()))}"


ODD = {
    "NUL": "\0",
    "half a pair": "\ud800",
    "the other half": "\udfff",
    "too many bytes": "é" * 257,
}
PEM = pem(RSA)
OURS = [TrustedKey("HS256", SECRET), TrustedKey("RS256", PEM), TrustedKey("ES256", pem(EC))]
ATTACKS: dict[str, Callable[[], str]] = {
    **{f"alg {alg!r}": partial(forged, {"alg": alg}) for alg in ("none", "None", "NONE", "", None, 5, ["HS256"])},
    "no alg": lambda: forged({}),
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "alg none with a signature": lambda: forged({"alg": "none"}, SECRET.encode()),
    "public key as secret": lambda: forged({"alg": "HS256"}, PEM.encode()),
    "public key as secret, stripped": lambda: forged({"alg": "HS256"}, PEM.strip().encode()),
    "algorithm not configured": lambda: token(algorithm="HS512"),
    "PS256 with the key for RS256": lambda: token(RSA, "PS256"),
    "ES384": lambda: token(EC384, "ES384"),
    "another secret": lambda: token(SECRET[::-1]),
    "empty secret": lambda: forged({"alg": "HS256"}, b""),
    "another RSA key": lambda: token(STRANGER, "RS256"),
    "key in the header": lambda: token(STRANGER, "RS256", head={"jwk": jwk(STRANGER, "RS256")}),
    "certificate in the header": lambda: token(STRANGER, "RS256", head={"x5c": [part(b"x")]}),
    "changed claims": lambda: tampered(1),
    "changed signature": lambda: tampered(2),
    "critical extension": lambda: token(head={"crit": ["x"], "x": 1}),
    "unencoded payload": lambda: token(head={"crit": ["b64"], "b64": False}),
    "kid that is no text": lambda: forged({"alg": "HS256", "kid": 1}, SECRET.encode()),
    "kid that is a path": lambda: forged({"alg": "HS256", "kid": "../../../dev/null"}, b""),
    **{f"no {name}": partial(token, **cast("Any", {name: ...})) for name in ("exp", "iat", "sub", "iss", "aud")},
    **{f"null {name}": partial(forged, {"alg": "HS256"}, SECRET.encode(), **{name: None}) for name in ("exp", "iat", "sub", "iss", "aud")},
    "expired": lambda: token(exp=int(time.time()) - 31),
    "not yet valid": lambda: token(nbf=int(time.time()) + 40),
    "issued in the future": lambda: token(iat=int(time.time()) + 40, exp=int(time.time()) + 90),
    "too long a life": lambda: token(exp=int(time.time()) + 3601),
    "too long a life by an early iat": lambda: token(iat=1),
    "endless": lambda: forged({"alg": "HS256"}, SECRET.encode(), exp=float("inf")),
    "exp that is no number": lambda: forged({"alg": "HS256"}, SECRET.encode(), exp="soon"),
    "exp of a hundred digits": lambda: token(exp=10**100),
    "exp of 4000 digits": lambda: token(exp=10**4000), "exp of 5000 digits": lambda: digits(5000),
    "iat of 4000 digits below zero": lambda: token(iat=-(10**4000)),
    "exp that is not a number": lambda: forged({"alg": "HS256"}, SECRET.encode(), exp=float("nan")),
    "endless from the beginning": lambda: forged({"alg": "HS256"}, SECRET.encode(), iat=float("-inf")),
    **{f"user with {name}": partial(token, sub=f"ann{odd}") for name, odd in ODD.items()},
    **{f"team with {name}": partial(token, teams={f"maps{odd}": "viewer"}) for name, odd in ODD.items()},
    **{f"one team of two with {name}": partial(token, teams=["maps", odd]) for name, odd in ODD.items()},

    "header nested deeply and whole": lambda: f"{part(b'[' * 1500 + b']' * 1500)}.{part({})}.x",
    "iat that is no number": lambda: forged({"alg": "HS256"}, SECRET.encode(), iat=[]),
    "another issuer": lambda: token(iss="https://issuer.example.evil"),
    "issuer in a list": lambda: forged({"alg": "HS256"}, SECRET.encode(), iss=[RULES.issuer]),
    "another audience": lambda: token(aud="gateways"),
    "audiences without ours": lambda: token(aud=["a", "b"]),
    "audience in a map": lambda: forged({"alg": "HS256"}, SECRET.encode(), aud={"gateway": 1}),
    "subject that is no text": lambda: forged({"alg": "HS256"}, SECRET.encode(), sub=7),
    "empty user": lambda: token(sub=""),
    "no teams": lambda: token(teams=...),
    "teams that are text": lambda: token(teams="maps"),
    "teams that are numbers": lambda: token(teams=[1]),
    "unknown role": lambda: token(teams={"maps": "root"}),
    "unknown role among others": lambda: token(teams={"maps": "viewer", "more": "Admin"}),
    "role that is no text": lambda: token(teams={"maps": ["admin"]}),
    "unknown role for a list": lambda: token(teams=["maps"], role="owner"),
    "encrypted": lambda: f"{token()}.a.b",
    "two parts": lambda: token().rpartition(".")[0],
    "trailing text": lambda: token() + "=x",
    "empty": lambda: "", "dots": lambda: "..", "garbage": lambda: "a.b.c",
    "not ASCII": lambda: "é.é.é", "half a surrogate pair": lambda: "\udcff.a.b",
    "header that is a list": lambda: f"{part([])}.{part({})}.x",
    "header that is not UTF-8": lambda: f"{part(bytes([255, 254]))}.{part({})}.x",
    "header nested deeply": lambda: f"{part(b'[' * 6000)}.{part({})}.x",
    "claims that are a list": lambda: ".".join([part({"alg": "HS256"}), part([]), part(b"x" * 32)]),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_attack_is_refused(attack: Callable[[], str]) -> None:
    tokens = Tokens(RULES, OURS)
    for _ in range(2):  # a refusal is not remembered as anything else
        with pytest.raises(TokenFault):
            await tokens.verify(attack())


@pytest.mark.parametrize(
    ("algorithm", "key", "known"),
    [
        ("HS256", SECRET, SECRET), ("HS384", SECRET, SECRET), ("HS512", SECRET, SECRET),
        ("RS256", RSA, pem(RSA)), ("RS512", RSA, pem(RSA)), ("PS256", RSA, pem(RSA)),
        ("ES256", EC, pem(EC)), ("ES384", EC384, pem(EC384)), ("EdDSA", ED, pem(ED)),
    ],
)  # fmt: skip
async def test_good_token_is_accepted_with_each_algorithm(
    algorithm: str, key: Any, known: str
) -> None:
    tokens = Tokens(RULES, [TrustedKey(algorithm, known)])
    made = token(key, algorithm)

    for _ in range(2):
        identity = await tokens.verify(made)
        assert (identity.user, identity.teams) == ("ann", {"maps": "editor"})


@pytest.mark.parametrize(
    ("changes", "teams"),
    [
        ({"teams": {"a": "viewer", "b": "admin"}}, {"a": "viewer", "b": "admin"}),
        ({"teams": ["a", "b"], "role": "editor"}, {"a": "editor", "b": "editor"}),
        ({"teams": ["a"]}, {"a": "viewer"}), ({"teams": []}, {}), ({"teams": {}}, {}),
        ({"teams": {"a": "viewer"}, "role": "admin"}, {"a": "viewer"}),
        ({"aud": ["other", "gateway"], "teams": ["a"]}, {"a": "viewer"}),
    ],
)  # fmt: skip
async def test_teams_are_a_list_or_a_map_of_roles(changes: Any, teams: dict[str, str]) -> None:
    assert (await Tokens(RULES, OURS).verify(token(**changes))).teams == teams


@pytest.mark.parametrize("changes", [{"exp": -20}, {"nbf": 20}, {"iat": 20, "exp": 60}])
async def test_clocks_may_differ_by_the_leeway(changes: dict[str, int]) -> None:
    moments: Any = {name: int(time.time()) + shift for name, shift in changes.items()}

    assert (await Tokens(RULES, OURS).verify(token(**moments))).user == "ann"


async def test_claims_may_have_other_names() -> None:
    rules = TokenRules(
        RULES.issuer, "gateway", user_claim="mail", teams_claim="groups", role_claim="level"
    )
    identity = await Tokens(rules, OURS).verify(
        token(mail="a@b", groups=["x"], level="admin", teams=...)
    )

    assert (identity.user, identity.teams) == ("a@b", {"x": "admin"})


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
async def test_type_is_checked_where_it_is_configured(typ: str) -> None:
    tokens = Tokens(replace(RULES, token_type=typ), OURS)

    for told in ("at+jwt", "At+Jwt", "application/at+jwt"):
        assert (await tokens.verify(token(head={"typ": told}, sub=told))).user == told
    for odd in ("JWT", "", None, "id+jwt", "at+jwt2", "text/at+jwt"):
        with pytest.raises(TokenFault, match="type"):
            await tokens.verify(token(head={"typ": odd}, sub=f"{odd}"))
    with pytest.raises(TokenFault, match="type"):
        await tokens.verify(forged({"alg": "HS256", "typ": ["at+jwt"]}, SECRET.encode()))
    minted = tokens.mint(team="maps", role="admin", user="bob", life_s=600)
    assert (await tokens.verify(minted)).user == "bob"


async def test_several_keys_of_one_algorithm_all_count_and_a_kid_chooses() -> None:
    other = SECRET[::-1]
    tokens = Tokens(
        RULES, [TrustedKey("HS256", SECRET, kid="one"), TrustedKey("HS256", other, kid="two")]
    )

    for key, kid in ((SECRET, "one"), (other, "two"), (SECRET, None), (other, None)):
        await tokens.verify(token(key, head={"kid": kid} if kid else None, sub=f"{kid}"))
    for key, kid in ((SECRET, "two"), (other, "one"), (SECRET, "three")):
        with pytest.raises(TokenFault):
            await tokens.verify(token(key, head={"kid": kid}))


async def test_accepted_token_is_refused_once_it_has_expired(eventually: Eventually) -> None:
    exp = int(time.time())
    rules = TokenRules(RULES.issuer, "gateway", leeway_s=time.time() - exp + 0.1)
    tokens, made = Tokens(rules, OURS), token(exp=exp)

    await tokens.verify(made)
    await eventually(lambda: time.time() > exp + rules.leeway_s)
    with pytest.raises(TokenFault, match="expired"):
        await tokens.verify(made)


async def test_minted_token_is_for_one_team_and_accepted() -> None:
    tokens = Tokens(RULES, [TrustedKey("RS256", PEM), TrustedKey("HS256", SECRET, kid="k")])
    made = tokens.mint(team="maps", role="admin", user="ann", life_s=600)
    identity = await tokens.verify(made)

    assert jwt.get_unverified_header(made) == {"alg": "HS256", "typ": "JWT", "kid": "k"}
    assert identity == Identity("ann", {"maps": "admin"}, identity.expires_at)
    assert 590 < identity.expires_at - time.time() <= 600


@pytest.mark.parametrize(
    ("keys", "changes", "reason"),
    [
        ([TrustedKey("RS256", PEM)], {}, "HMAC key only"), (OURS, {"role": "root"}, "a role is one of"),
        (OURS, {"life_s": 3601}, "at most 3600 s"),
    ],
)  # fmt: skip
def test_token_that_would_not_be_accepted_is_not_minted(
    keys: Any, changes: Any, reason: str
) -> None:
    with pytest.raises(TokenFault, match=reason):
        Tokens(RULES, keys).mint(
            **{"team": "t", "role": "admin", "user": "u", "life_s": 60, **changes}
        )


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("HS256", "x" * 31), ("HS512", "x" * 63), ("HS256", PEM), ("RS256", "hush"), ("ES256", PEM), ("ES256", pem(EC384))],
)  # fmt: skip
def test_key_that_fits_no_token_is_refused_unseen(algorithm: str, key: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        check_key(algorithm, key)
    assert key not in str(caught.value)


def test_no_repr_shows_a_key() -> None:
    shown = repr((Tokens(RULES, OURS), OURS[0]))

    assert "HS256" in shown
    assert SECRET not in shown


async def test_tokens_that_name_many_teams_stay_within_a_bound() -> None:
    tokens = Tokens(RULES, OURS)
    made = [
        token(teams={f"team-{number}-{n}": "viewer" for n in range(1_500)}) for number in range(100)
    ]
    tracemalloc.start()
    for each in made:
        await tokens.verify(each)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 8 << 20 < grown < 17 << 20
    assert "team-0-0" in (await tokens.verify(made[0])).teams
