"""From the caller's request to the upstream's: what passes, what is put in, what can't be smuggled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.exchange import Body, Exchange, Outgoing
from gateway.model import ConnectorDefinition, EndpointDefinition
from gateway.problems import Rejected
from gateway.transform.compiling import compile_connector
from gateway.transform.request import AuthFault, MappingFault, compile_mapping, secret_names

BASE = "https://api.example.com/v1"
SECRETS = {"token": "s3cr3t-t0ken", "username": "ann", "password": "p4ss", "extra": "3xtra"}
NONE: Mapping[str, Any] = {}


def send(
    path: str = "/x",
    *,
    pattern: str = "",
    query: str = "",
    headers: Sequence[tuple[bytes, bytes]] = (),
    method: str = "GET",
    connector: Mapping[str, Any] = NONE,
    endpoint: Mapping[str, Any] = NONE,
    secrets: Mapping[str, str] = SECRETS,
    guards_origin: bool = False,
) -> Outgoing:
    """What goes to the upstream for a request that goes through the router."""
    own = {"id": "e", "name": "e", "method": "GET", "path": pattern or path, "definition": endpoint}
    definition = {"upstream_base_url": BASE, **connector}
    snapshot = {"id": "c", "slug": "c", "definition": definition, "endpoints": [own]}
    found = compile_connector(snapshot, team="t", secrets=secrets).router.match(method, path)
    fields = CIMultiDict((n.decode(), v.decode("utf-8", "surrogateescape")) for n, v in headers)
    exchange = Exchange(
        method, f"/c{path}", query, fields, tuple(headers), Body.of(b""),
        client_address="192.0.2.1", request_id="an-id", traceparent="00-a-b-00",
    )  # fmt: skip
    exchange.params, exchange.guards_origin = found.params, guards_origin
    return found.route.mapped.outgoing(exchange)


def passed(outgoing: Outgoing) -> list[tuple[bytes, bytes]]:
    """The fields without the three that the gateway always adds, which must be there once."""
    ours = [
        (b"X-Request-Id", b"an-id"),
        (b"traceparent", b"00-a-b-00"),
        (b"Via", b"1.1 service-gateway"),
    ]
    assert outgoing.headers[-3:] == ours
    return outgoing.headers[:-3]


@given(
    st.one_of(
        st.text(min_size=1, max_size=5).filter(lambda t: t.isprintable()), st.just("a/b?c#d&e=f;g")
    )
)
def test_parameters_never_leave_their_segment(value: str) -> None:
    octets = f"x{value}".replace("/", "-").replace("\\", "-").encode()
    path = f"/u/{quote(octets, safe='')}"
    upstream = {"upstream_path": "/v2/:id/end/{id}.json?id={id}&b=1"}
    target = send(path, pattern="/u/:id", query="a=1", endpoint=upstream).target

    path, _, query = target.partition("?")
    expected = [b"", b"v1", b"v2", octets, b"end", octets + b".json"]
    assert list(map(unquote_to_bytes, path.split("/"))) == expected
    assert parse_qsl(query) == [("a", "1"), ("id", octets.decode()), ("b", "1")]
    assert "#" not in target


@pytest.mark.parametrize(
    ("pattern", "upstream", "path"),
    [
        ("/m/:sid.json", "/m/:sid", "/m/...json"),
        ("/m/:sid.json", "/m/:sid", "/m/%2e%2e.json"),
        ("/m/:sid:go", "/:sid/keys", "/m/.:go"),
        ("/:a.x/:b.x", "/{a}{b}/keys", "/..x/..x"),
        ("/:a.x", "/.{a}", "/..x"),
        ("/:a.x", "/%2e{a}", "/..x"),
    ],
)
def test_no_dot_segment_is_put_together_from_parameters(
    pattern: str, upstream: str, path: str
) -> None:
    with pytest.raises(Rejected) as caught:
        send(path, pattern=pattern, endpoint={"upstream_path": upstream})
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    ("pattern", "path", "target"),
    [
        ("/", "/", "/v1/"),
        ("/a/:b", "/a/%7Eme", "/v1/a/~me"),
        ("/a/:b", "/a/x%2By+z", "/v1/a/x%2By+z"),
        ("/a/:b*", "/a/b%2Fc/d%20e", "/v1/a/b%2Fc/d%20e"),
        ("/models/:m:run", "/models/x%3Arun", "/v1/models/x:run"),
        ("/.well-known/:x", "/%2Ewell-known/..x", "/v1/.well-known/..x"),
    ],
)
def test_path_is_the_base_and_what_was_matched(pattern: str, path: str, target: str) -> None:
    assert send(path, pattern=pattern).target == target


@pytest.mark.parametrize(
    "query", ["a=1&a=2", "b", "=c", "a=%zz&+", "x=a+b%20c", "&&", "a?b=/", "q='\"<"]
)
def test_query_passes_byte_for_byte(query: str) -> None:
    assert send(query=query).target == f"/v1/x?{query}"


@pytest.mark.parametrize("query", ["#", "a=#b", "a=b#", "é=1", "a=\udcff"])
def test_query_that_could_cut_off_what_is_appended_is_refused(query: str) -> None:
    with pytest.raises(Rejected) as caught:
        send(query=query, endpoint={"upstream_query_params": {"safe": "on"}})
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize(
    "query", ["safe=off", "safe", "s%61fe=off", "safe=off&safe=no", "%73%61%66%65", "safe=%zz"]
)
@pytest.mark.parametrize(
    "endpoint", [{"upstream_query_params": {"safe": "on"}}, {"upstream_path": "/x?safe=on"}]
)
def test_forced_query_parameter_replaces_the_callers(query: str, endpoint: Any) -> None:
    assert send(query=query, endpoint=endpoint).target == "/v1/x?safe=on"
    assert send(query=f"a=1&{query}", endpoint=endpoint).target == "/v1/x?a=1&safe=on"


def test_forced_names_and_values_are_encoded() -> None:
    forced = {"upstream_query_params": {"a b&c": "d=e#f"}}

    for query in ("a+b%26c=1", "a%20b%26c=1"):
        assert send(query=query, endpoint=forced).target == "/v1/x?a%20b%26c=d%3De%23f"


@pytest.mark.parametrize(
    ("query", "target"),
    [("", "a=1"), ("a=2", "a=2"), ("%61", "%61"), ("b=2", "b=2&a=1"), ("a=2&a=3", "a=2&a=3")],
)
def test_default_query_parameter_counts_where_the_caller_gives_none(
    query: str, target: str
) -> None:
    assert (
        send(query=query, endpoint={"default_query_params": {"a": "1"}}).target == f"/v1/x?{target}"
    )


def test_forced_query_parameter_beats_a_default_of_its_name() -> None:
    endpoint = {"default_query_params": {"token": "x"}}
    connector = {"auth_type": "query", "auth_config": {"param_name": "token"}}

    assert send(endpoint=endpoint, connector=connector).target == "/v1/x?token=s3cr3t-t0ken"


NEVER_PASSED = [
    "Authorization", "Proxy-Authorization", "X-API-Key", "X-Goog-Api-Key", "Cookie",
    "X-Team-Id", "X-Request-Id", "Connection", "Keep-Alive", "Proxy-Connection",
    "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
    "Content-Length", "Host", "Expect",
    "traceparent", "Forwarded", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Host",
    "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-User",
    "X-Forwarded-Client-Cert", "X-Forwarded-Ssl", "X-Forwarded-Anything",
]  # fmt: skip


@pytest.mark.parametrize("name", NEVER_PASSED)
def test_credentials_hops_and_spoofable_fields_never_pass(name: str) -> None:
    spellings = [
        name,
        name.lower(),
        name.upper(),
        name.replace("-", "_"),
        name.replace("-", "_", 1),
    ]
    headers = [(spelling.encode(), b"x") for spelling in spellings]

    assert passed(send(headers=headers)) == []


def test_way_of_a_request_is_kept_and_one_that_goes_in_circles_is_ended() -> None:
    ours, others = (b"Via", b"1.1 service-gateway"), (b"via", b"1.0 fred, 1.1 p.example")
    headers = [others, ours, ours]

    assert passed(send(headers=headers)) == headers
    for looped in ([ours, *headers], [(b"VIA", b", ".join([ours[1]] * 3))]):
        with pytest.raises(Rejected) as caught:
            send(headers=looped)
        assert (caught.value.code, caught.value.status) == ("loop_detected", 508)


def test_other_fields_pass_in_their_order_and_none_is_invented() -> None:
    headers = [
        (b"Accept", b"a"), (b"X-A", b"1"), (b"accept", b"b"), (b"x-a", b"\xff\xfe"), (b"x_b", b""),
        (b"Content-Encoding", b"gzip"), (b"Range", b"bytes=0-"), (b"Accept-Encoding", b"br"),
    ]  # fmt: skip

    assert passed(send(headers=headers)) == headers
    assert passed(send()) == []


@pytest.mark.parametrize(
    "connection",
    [
        [b"X-Hop"], [b"x-hop"], [b"close, X-HOP ,"], [b"keep-alive", b"X-Hop"],
        [b"\xff", b"X-Hop"], ["ā, x-hop".encode()], [b",,x-hop,,"],
    ],
)  # fmt: skip
def test_fields_that_connection_nominates_end_here(connection: list[bytes]) -> None:
    headers = [(b"Connection", value) for value in connection]
    kept = [(b"X-Hopper", b"2")]

    assert passed(send(headers=[*headers, (b"X-Hop", b"1"), (b"X_Hop", b"1"), *kept])) == kept


@pytest.mark.parametrize("name", [b"Content-Type", b"content-language", b"CACHE-CONTROL", b"Date"])
def test_connection_takes_no_field_away_that_is_for_all(name: bytes) -> None:
    headers = [(b"Connection", b"close, %b" % name.lower()), (name, b"a")]

    assert passed(send(headers=headers)) == [(name, b"a")]


def test_set_replaces_add_adds_and_remove_removes() -> None:
    endpoint = {
        "set_headers": {"X-Set": "set", "X-Key": "k-{{secrets.extra}}"},
        "add_headers": {"X-Add": "added"},
        "remove_headers": ["x-gone"],
    }
    names = [b"x-set", b"X_Set", b"X-Key", b"X-Add", b"X-Gone", b"x_gone"]

    assert passed(send(headers=[(name, b"caller") for name in names], endpoint=endpoint)) == [
        (b"X-Add", b"caller"), (b"X-Set", b"set"), (b"X-Key", b"k-3xtra"), (b"X-Add", b"added"),
    ]  # fmt: skip


def test_max_forwards_is_for_methods_that_never_go_on() -> None:
    """RFC 9110 7.6.2 has it counted down for OPTIONS and TRACE alone, which no endpoint takes."""
    assert passed(send(headers=[(b"Max-Forwards", b"0")])) == [(b"Max-Forwards", b"0")]


def test_cookies_pass_only_where_the_connector_says_so() -> None:
    cookie = [(b"Cookie", b"a=1")]

    assert passed(send(headers=cookie)) == []
    assert passed(send(headers=cookie, connector={"pass_cookies": True})) == cookie
    ours = [(b"Cookie", b"a=1; gateway_session=x"), (b"cookie", b"gateway_session=x")]
    assert passed(send(headers=ours, connector={"pass_cookies": True})) == cookie
    guarded = send(headers=ours, connector={"pass_cookies": True}, guards_origin=True)
    assert passed(guarded) == []


@pytest.mark.parametrize("where", ["connector", "endpoint"])
def test_envelope_asks_for_an_answer_that_can_be_read(where: str) -> None:
    place: dict[str, Any] = {where: {"response_mode": "envelope"}}
    headers = [(b"Accept-Encoding", b"gzip"), (b"accept_encoding", b"br"), (b"Range", b"bytes=0-")]

    assert passed(send(headers=headers, **place)) == [(b"Accept-Encoding", b"identity")]


def test_static_body_does_not_keep_the_encoding_of_the_callers() -> None:
    endpoint = {
        "body_transform": "static",
        "upstream_static_body": '{"é": 1}',
        "upstream_content_type": "application/json",
    }
    headers = [(b"Content-Type", b"text/xml"), (b"Content-Encoding", b"gzip")]
    outgoing = send(headers=headers, endpoint=endpoint)

    assert outgoing.body == '{"é": 1}'.encode()
    assert passed(outgoing) == [(b"Content-Type", b"application/json")]
    assert send().body is None


def test_method_is_the_callers_unless_the_endpoint_sets_one() -> None:
    assert send(method="HEAD").method == "HEAD"
    assert send(endpoint={"upstream_method": "PUT"}).method == "PUT"


@pytest.mark.parametrize("gone", ["token", "extra"])
@pytest.mark.parametrize("value", [None, ""])
def test_secret_that_is_not_set_stops_the_request_and_is_named(
    gone: str, value: str | None
) -> None:
    secrets = {name: kept for name, kept in SECRETS.items() if name != gone}
    secrets |= {} if value is None else {gone: value}
    uses = {"set_headers": {"X-Key": "{{secrets.extra}}"}}

    with pytest.raises(Rejected, match=f'"{gone}"') as caught:
        send(endpoint=uses, connector={"auth_type": "bearer"}, secrets=secrets)
    assert (caught.value.code, caught.value.status) == ("secret_missing", 503)


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\n", "a\rb", "a\x00b", "a\x7f", "\udcff"])
@pytest.mark.parametrize(
    "uses", [{"auth_type": "bearer"}, {"auth_type": "header", "auth_config": {"headers": {"X": "{{secrets.token}}"}}}]
)  # fmt: skip
def test_secret_that_would_split_the_message_is_refused_unseen(bad: str, uses: Any) -> None:
    definition = ConnectorDefinition(upstream_base_url=BASE, **uses)

    with pytest.raises(AuthFault) as caught:
        compile_mapping(definition, EndpointDefinition(), {"path": "/"}, {"token": f"hush{bad}"})
    assert "hush" not in str(caught.value)


def test_secret_with_reserved_characters_stays_one_query_parameter() -> None:
    target = send(connector={"auth_type": "query"}, secrets={"token": "a&b=c#d?e\r\n%"}).target

    assert target == "/v1/x?key=a%26b%3Dc%23d%3Fe%0D%0A%25"


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"upstream_path": "x"}, "begins with a slash"), ({"upstream_path": "/:b"}, '"b"'),
        ({"upstream_path": "/x?y={b}"}, '"b"'), ({"upstream_path": "/é"}, "printable ASCII"),
        ({"upstream_path": "/a b"}, "printable ASCII"), ({"upstream_path": "/a#b"}, "without #"),
        ({"upstream_path": "/a\r\nX: y"}, "printable ASCII"), ({"upstream_path": "/x?a#"}, "without #"),
        ({"upstream_path": "/a/../b"}, "dot"), ({"upstream_path": "/%2E%2e/b"}, "dot"),
        ({"body_transform": "magic"}, "magic"),
    ],
)  # fmt: skip
def test_endpoint_that_cannot_be_mapped_says_why(own: Any, reason: str) -> None:
    definition = ConnectorDefinition(upstream_base_url=BASE)

    with pytest.raises(MappingFault, match=reason):
        compile_mapping(definition, EndpointDefinition(**own), {"path": "/:a"}, {})


def test_every_secret_that_is_used_is_known_by_name() -> None:
    definition = ConnectorDefinition(upstream_base_url=BASE, auth_type="basic")
    own = EndpointDefinition(
        set_headers={"A": "{{secrets.x}}"}, add_headers={"B": "{{ secrets.y }}"}
    )

    assert secret_names(definition, [own, own]) == ("username", "password", "x", "y")


def test_no_repr_shows_a_secret() -> None:
    headers = {"X-Key": "{{secrets.extra}}"}
    definition = ConnectorDefinition(upstream_base_url=BASE, auth_type="query")
    own = EndpointDefinition(set_headers=headers)
    mapped = compile_mapping(definition, own, {"path": "/"}, SECRETS)
    outgoing = send(endpoint={"set_headers": headers}, connector={"auth_type": "query"})

    assert b"3xtra" in dict(outgoing.headers).values()
    assert not any(value in repr((mapped, outgoing)) for value in SECRETS.values())


def test_fields_that_are_dropped_for_all_endpoints_are_kept_once() -> None:
    secrets = {"token": "s3cret"}
    one, other = (
        compile_mapping(
            ConnectorDefinition("http://u.example.com", auth_type="bearer"),
            EndpointDefinition(remove_headers=("Host",)),
            {"method": "GET", "path": path},
            secrets,
        ).dropped
        for path in ("/a", "/b")
    )

    assert one is other
