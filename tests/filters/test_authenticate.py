"""Keys and tokens of every kind, good and bad, with real keys and a real directory."""

from __future__ import annotations

import dataclasses
import time
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from filters.authenticate import Authenticate, Options
from gateway.exchange import Exchange
from gateway.identity import keys
from gateway.identity.jwts import TokenRules, Tokens, TrustedKey
from gateway.lifecycle.wiring import Worker
from gateway.options import OptionFaults, load
from gateway.runtime import Runtime
from tests.dataplane import TEAM, Rows, answering, assert_honest, exchange, refusal_of
from tests.loopback import Fields

SECRET = "a signing key that is long enough for HS256"


def stage(runtime: Runtime, **options: Any) -> Authenticate:
    return Authenticate(load(Options, options), runtime)


def asking(*fields: tuple[str, str]) -> Exchange:
    return exchange(fields=fields)


def bearing(credential: str, *fields: tuple[str, str]) -> Exchange:
    return asking(("Authorization", f"Bearer {credential}"), *fields)


def token(**claims: Any) -> str:
    now = int(time.time())
    usual = {"iss": "tests", "aud": "gateway", "iat": now, "exp": now + 60, "sub": "ana"}
    return jwt.encode(usual | {"teams": [TEAM], "role": "viewer"} | claims, SECRET, "HS256")


@pytest.fixture
def trusting(worker: Worker) -> Runtime:
    """A runtime that knows the key which `token` signs with."""
    tokens = Tokens(TokenRules("tests", "gateway"), [TrustedKey("HS256", SECRET)])
    return dataclasses.replace(worker.runtime, tokens=tokens)


def test_options_are_checked() -> None:
    assert load(Options, {}).key_headers == ("X-API-Key", "X-Goog-Api-Key")
    with pytest.raises(OptionFaults, match="key_headers"):
        load(Options, {"key_headers": "X-Key"})


async def test_key_gives_its_team_plan_and_bindings(worker: Worker, rows: Rows) -> None:
    plan = await rows.plan("gold", rate_limit=7)
    value = await rows.key(plan_id=plan, allowed_endpoints=["a"], allowed_ips=["10.0.0.0/8"])
    request = bearing(value)

    await stage(worker.runtime)(request, answering())

    caller = request.caller
    assert (caller.kind, caller.team, caller.name) == ("key", TEAM, value[3:11])
    assert (caller.plan.name, caller.plan.rate_limit) == ("gold", 7)
    assert caller.allowed_endpoints == {"a"}
    assert [str(network) for network in caller.allowed_networks] == ["10.0.0.0/8"]


@pytest.mark.parametrize(
    "name", ["Authorization: Bearer", "Authorization: bEARER", "X-API-Key:", "x-goog-api-key:"]
)
async def test_key_may_come_in_these_fields(worker: Worker, rows: Rows, name: str) -> None:
    field, _, scheme = name.partition(":")
    request = asking((field, f"{scheme} {await rows.key()}".strip()))

    await stage(worker.runtime)(request, answering())

    assert request.caller.team == TEAM


@pytest.mark.parametrize(
    "for_the_upstream", ["Basic dTpw", "Bearer eyJhbGciOiJub25lIn0.e30.", "AWS4-HMAC-SHA256 x", ""]
)
async def test_key_beside_an_authorization_for_the_upstream_counts(
    trusting: Runtime, rows: Rows, for_the_upstream: str
) -> None:
    request = asking(("Authorization", for_the_upstream), ("X-API-Key", await rows.key()))

    await stage(trusting)(request, answering())

    assert request.caller.kind == "key"


async def test_token_counts_before_a_key(trusting: Runtime, rows: Rows) -> None:
    request = bearing(token(), ("X-API-Key", await rows.key()))
    foreign = bearing(token(teams=["blue"]), ("x-team-id", TEAM), ("X-API-Key", await rows.key()))

    await stage(trusting)(request, answering())

    assert request.caller.kind == "user"
    assert (await refusal_of(stage(trusting), foreign)).code == "forbidden"


async def test_configured_field_is_asked_and_goes_no_further(worker: Worker, rows: Rows) -> None:
    value = await rows.key()
    request = asking(("X-Own-Key", value), ("X-Else", "stays"), ("X_Own_Key", value))

    await stage(worker.runtime, key_headers=["X-Own-Key"])(request, answering())

    assert request.caller.team == TEAM
    assert request.raw_headers == ((b"X-Else", b"stays"),)


async def test_every_bad_credential_is_refused_alike(trusting: Runtime, rows: Rows) -> None:
    good = await rows.key()
    past = datetime.fromtimestamp(time.time() - 1, UTC)
    old = keys.make()
    await rows.key(previous_digest=old.digest, previous_until=past)
    stranger = keys.make(good[3:11]).value  # the right id, another secret
    mistyped = good[:20] + ("a" if good[20] != "a" else "b") + good[21:]
    bad: list[Fields] = [
        [],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", f"Basic {good}")],
        [("Authorization", f"Bearer {stranger}"), ("X-API-Key", good)],
        [("Authorization", "Bearer for.the.upstream"), ("X-API-Key", "not a key")],
        [("Authorization", good)],
        [("X-API-Key", "")],
        *(
            [("Authorization", f"Bearer {value}")]
            for value in (
                *("gw_", good[:-1], good + "0", stranger, mistyped, keys.make().value, old.value),
                *(await rows.key(revoked_at=past), await rows.key(expires_at=past)),
                *("gw_\udcff" + good[4:], "\udcff\udcfe", "a.b.c", "..", token()[:-4], "\u0130"),
                *(token(exp=1), token(sub=""), token(aud="else"), token(teams=None)),
            )
        ),
    ]
    refused = []
    for fields in bad:
        request = asking()
        request.headers = type(asking().headers)(fields)  # type: ignore[call-arg] # a CIMultiDict
        refused.append((await refusal_of(stage(trusting, failures_per_minute=0), request), fields))

    alike = {(r.code, r.status, r.detail, tuple(r.headers)) for r, _ in refused}
    challenge = (b"WWW-Authenticate", b'Bearer realm="service-gateway"')
    text = "Send a valid gateway key or token as Authorization: Bearer."
    assert alike == {("unauthenticated", 401, text, (challenge,))}


async def test_value_before_a_rotation_works_until_its_moment(worker: Worker, rows: Rows) -> None:
    new = keys.make()
    old = keys.make(new.public_id)
    until = datetime.fromtimestamp(time.time() + 60, UTC)
    await rows.key(public_id=new.public_id, digest=new.digest, previous_digest=old.digest,
                   previous_until=until)  # fmt: skip

    for value in (old.value, new.value):
        request = bearing(value)
        await stage(worker.runtime)(request, answering())
        assert request.caller.name == new.public_id


async def test_token_gives_its_user_and_role_in_the_one_team(trusting: Runtime, rows: Rows) -> None:
    await rows.plan("default", rate_limit=9)
    request = bearing(token(role="editor"))

    await stage(trusting)(request, answering())

    caller = request.caller
    assert (caller.kind, caller.id, caller.team, caller.role) == ("user", "ana", TEAM, "editor")
    assert caller.plan.rate_limit == 9


async def test_token_of_several_teams_needs_the_team_named(trusting: Runtime) -> None:
    both = token(teams={"red": "viewer", "blue": "admin"})
    named = bearing(both, ("x-team-id", "blue"))

    await stage(trusting)(named, answering())
    unnamed = await refusal_of(stage(trusting), bearing(both))
    foreign = await refusal_of(stage(trusting), bearing(both, ("x-team-id", "green")))

    assert (named.caller.team, named.caller.role) == ("blue", "admin")
    assert (unnamed.code, foreign.code) == ("forbidden", "forbidden")


async def test_key_that_cannot_be_looked_up_is_503_and_a_mistyped_one_needs_no_look_up(
    runtime: Runtime,
) -> None:
    value = keys.make().value
    refused = await refusal_of(stage(runtime), bearing(value))
    mistyped = await refusal_of(
        stage(runtime), bearing(f"{value[:-1]}{'a' if value[-1] != 'a' else 'b'}")
    )

    assert (refused.code, refused.headers) == ("store_unavailable", [(b"Retry-After", b"1")])
    assert mistyped.code == "unauthenticated"


async def test_it_reads_and_fills_what_it_says(worker: Worker, rows: Rows) -> None:
    await assert_honest(stage(worker.runtime), bearing(await rows.key()))


async def test_failures_of_an_address_are_limited_and_good_keys_from_it_are_not(
    worker: Worker, rows: Rows
) -> None:
    good = bearing(await rows.key())
    filter_ = stage(worker.runtime, failures_per_minute=3)

    refused = [await refusal_of(filter_, bearing("gw_nobody")) for _ in range(5)]
    await filter_(good, answering())

    assert [one.code for one in refused] == ["unauthenticated"] * 3 + ["rate_limited"] * 2
    assert dict(refused[-1].headers)[b"Retry-After"] == b"20"
    assert good.caller.team == TEAM


async def test_addresses_of_one_ipv6_network_count_as_one(worker: Worker) -> None:
    filter_ = stage(worker.runtime, failures_per_minute=1)
    codes = []
    for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1"):
        request = bearing("gw_nobody")
        request.client_address = address
        codes.append((await refusal_of(filter_, request)).code)

    assert codes == ["unauthenticated", "rate_limited", "unauthenticated", "unauthenticated"]


async def test_addresses_of_ipv4_count_apart_also_where_they_came_in_ipv6(worker: Worker) -> None:
    filter_ = stage(worker.runtime, failures_per_minute=1)
    codes = []
    for address in ("::ffff:192.0.2.1", "::ffff:192.0.2.2", "192.0.2.2"):
        request = bearing("gw_nobody")
        request.client_address = address
        codes.append((await refusal_of(filter_, request)).code)

    assert codes == ["unauthenticated", "unauthenticated", "rate_limited"]


async def test_failures_need_not_be_limited(worker: Worker) -> None:
    filter_ = stage(worker.runtime, failures_per_minute=0)

    refused = [await refusal_of(filter_, bearing("gw_nobody")) for _ in range(20)]

    assert {one.code for one in refused} == {"unauthenticated"}


def offering(*subprotocols: str) -> Exchange:
    return asking(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))


async def test_keys_that_cannot_be_fetched_are_503_and_no_failure_and_a_key_beside_counts(
    worker: Worker, rows: Rows
) -> None:
    async def fetch(_url: str) -> bytes:
        raise ConnectionError

    tokens = Tokens(
        TokenRules("tests", "gateway"), [TrustedKey("HS256", jwks_url="https://a.test")], fetch
    )
    filter_ = stage(dataclasses.replace(worker.runtime, tokens=tokens), failures_per_minute=1)
    fields = [("Authorization", f"Bearer {token()}")]
    for _ in range(3):
        refused = await refusal_of(filter_, exchange(fields=fields))
        assert (refused.code, refused.status) == ("store_unavailable", 503)
        assert refused.headers == [(b"Retry-After", b"1")]

    key = await rows.key()
    beside = exchange(fields=[*fields, ("X-API-Key", key)])
    await filter_(beside, answering())
    assert beside.caller.name == key[3:11]
    assert (await refusal_of(filter_, exchange())).code == "unauthenticated"


async def test_credential_may_be_a_subprotocol(trusting: Runtime, rows: Rows) -> None:
    for credential in (await rows.key(), token()):
        request = offering("chat", f"service-gateway.key.{credential}")
        await stage(trusting)(request, answering())

        assert request.caller.team == TEAM
        assert request.raw_headers == ((b"Sec-WebSocket-Protocol", b"chat"),)


async def test_credential_may_be_in_the_query_where_an_option_names_the_parameter(
    trusting: Runtime, rows: Rows
) -> None:
    for credential in (await rows.key(), token()):
        request = exchange(path=f"/up/x?a=1&api_key={credential}")
        await stage(trusting, query_parameter="api_key")(request, answering())

        assert (request.caller.team, request.query) == (TEAM, "a=1")
    request = exchange(path=f"/up/x?api_key={await rows.key()}")
    assert (await refusal_of(stage(trusting), request)).code == "unauthenticated"


async def test_fields_come_first_and_the_others_are_taken_out_as_well(
    worker: Worker, rows: Rows
) -> None:
    subprotocol = ("Sec-WebSocket-Protocol", "service-gateway.key.gw_other")
    credential = ("Authorization", f"Bearer {await rows.key()}")
    request = exchange(path="/up/x?key=gw_another&b", fields=[credential, subprotocol])
    await stage(worker.runtime, query_parameter="key")(request, answering())

    assert request.query == "b"
    assert [name for name, _ in request.raw_headers] == [b"Authorization"]


async def test_bad_credential_is_taken_out_before_it_is_refused(worker: Worker) -> None:
    request = exchange(
        path="/up/x?key=gw_bad", fields=[("Sec-WebSocket-Protocol", "service-gateway.key.gw_bad")]
    )
    refused = await refusal_of(stage(worker.runtime, query_parameter="key"), request)

    assert refused.code == "unauthenticated"
    assert (request.query, request.raw_headers) == ("", ())


async def test_subprotocol_stands_beside_an_authorization_that_is_for_the_upstream(
    worker: Worker, rows: Rows
) -> None:
    offered = ("Sec-WebSocket-Protocol", f"service-gateway.key.{await rows.key()}")
    request = asking(("Authorization", "Basic dXA="), offered)
    await stage(worker.runtime)(request, answering())

    assert request.caller.team == TEAM


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a&b"])
def test_parameter_has_a_name_that_needs_no_encoding(name: str) -> None:
    with pytest.raises(OptionFaults, match="query_parameter"):
        load(Options, {"query_parameter": name})
