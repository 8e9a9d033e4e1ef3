"""Path patterns: what is refused, who wins, and that what was matched is what is sent."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.problems import Rejected
from gateway.transform.routes import MOST_SEGMENTS, PatternFault, Router, parse, segments_of


def quote_all(octets: bytes) -> str:
    return quote(octets, safe="")


def router(*patterns: str) -> Router[str]:
    """Routes that are called by their own text; `POST /a` or `/a` for GET."""
    split = [text.rpartition(" ") for text in patterns]
    return Router(
        (method or "GET", parse(path), f"{method or 'GET'} {path}") for method, _, path in split
    )


def refusal(routes: Router[str], method: str, path: str) -> Rejected:
    with pytest.raises(Rejected) as caught:
        routes.match(method, path)
    return caught.value


EVERYTHING = router("/:a", "/:a/:b", "/:a/:b/:c", "/:all*")
DOTS = [".", "..", "%2e", "%2E", ".%2e", "%2e.", "%2E%2e", "%2e%2E"]


@pytest.mark.parametrize("segment", DOTS)
@pytest.mark.parametrize("path", ["/{}", "/{}/a", "/a/{}", "/a/{}/b", "/a/b/{}/c/d"])
def test_dot_segments_are_refused_in_every_encoding(path: str, segment: str) -> None:
    assert refusal(EVERYTHING, "GET", path.format(segment)).code == "bad_request"


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param("..;", id="path parameter"),
        pytest.param("..;x=1", id="path parameter with a value"),
        pytest.param(".;x", id="one dot"),
        pytest.param("%2e%2e%3bx", id="encoded"),
        pytest.param("a%2F..%2Fb", id="between encoded slashes"),
        pytest.param("..%2fb", id="before an encoded slash"),
        pytest.param("a%2f%2e%2e", id="after an encoded slash"),
        pytest.param("%c0%ae%c0%ae", id="overlong of two bytes"),
        pytest.param("%e0%80%ae", id="overlong of three bytes"),
        pytest.param("%f0%80%80%ae", id="overlong of four bytes"),
        pytest.param("%c0%af", id="overlong slash"),
        pytest.param("..%5c", id="backslash"),
        pytest.param("..\\", id="raw backslash"),
    ],
)
def test_what_some_servers_read_as_dots_or_slashes_is_refused(segment: str) -> None:
    assert refusal(EVERYTHING, "GET", f"/a/{segment}/b").code == "bad_request"


@pytest.mark.parametrize("path", ["//", "/a/", "/a//b", "//a", "/a/b//", "///"])
def test_empty_segments_are_refused(path: str) -> None:
    assert refusal(EVERYTHING, "GET", path).code == "bad_request"


@pytest.mark.parametrize("octet", [*range(0x20), 0x7F])
def test_control_characters_are_refused(octet: int) -> None:
    assert refusal(EVERYTHING, "GET", f"/a%{octet:02x}b").code == "bad_request"
    assert refusal(EVERYTHING, "GET", f"/a{chr(octet)}b").code == "bad_request"


@pytest.mark.parametrize("path", ["/%", "/%4", "/%zz", "/%u002e", "/a%2", "/é", "/\udcff", "/a#b"])
def test_what_is_not_percent_encoded_is_refused(path: str) -> None:
    assert refusal(EVERYTHING, "GET", path).code == "bad_request"


@pytest.mark.parametrize("slash", ["%2f", "%2F"])
def test_encoded_slash_is_refused_in_one_segment_and_kept_in_many(slash: str) -> None:
    assert refusal(router("/files/:id"), "GET", f"/files/a{slash}b").code == "bad_request"
    assert refusal(router("/files/:id.txt"), "GET", f"/files/a{slash}b.txt").code == "bad_request"

    match = router("/files/:path*").match("GET", f"/files/a{slash}b/c")
    assert match.params == {"path": "a%2Fb/c"}


@pytest.mark.parametrize("count", [MOST_SEGMENTS + 1, 4000])
def test_paths_of_too_many_segments_are_refused(count: int) -> None:
    assert refusal(EVERYTHING, "GET", "/a" * count).code == "bad_request"
    assert EVERYTHING.match("GET", "/a" * MOST_SEGMENTS).route == "GET /:all*"


@pytest.mark.parametrize(
    "path", ["/users/me", "/users/%6de", "/%75sers/m%65", "/%75%73%65%72%73/%6d%65"]
)
def test_needless_encoding_does_not_slip_past_a_more_specific_literal(path: str) -> None:
    routes = router("/users/me", "/users/:id", "/:all*")

    assert routes.match("GET", path).route == "GET /users/me"


@pytest.mark.parametrize(
    "path", ["/models/m:run", "/models/m%3Arun", "/models/m%3arun", "/models/%6d:ru%6e"]
)
def test_encoding_a_reserved_character_does_not_slip_past_a_literal(path: str) -> None:
    literal = router("/models/m:run", "/models/:model")
    ended = router("/models/:model:run", "/models/:model")

    assert literal.match("GET", path).route == "GET /models/m:run"
    assert ended.match("GET", path) == ("GET /models/:model:run", {"model": "m"})


@pytest.mark.parametrize(
    ("path", "winner"),
    [
        ("/a/b", "/a/b"),
        ("/a/x", "/a/:id"),
        ("/a/x.json", "/a/:id.json"),
        ("/a/x.min.json", "/a/:id.min.json"),
        ("/a/x:run", "/a/:id:run"),
        ("/a/.json", "/a/:id"),
        ("/a/x/y", "/a/:rest*"),
        ("/a/b/c", "/a/b/c"),
        ("/a/b/d", "/a/:rest*"),
        ("/x/y/z", "/:first/y/z"),
        ("/x/y/q", "/:all*"),
        ("/", "/"),
        ("", "/"),
    ],
)
def test_most_specific_pattern_wins_whatever_the_order(path: str, winner: str) -> None:
    patterns = [
        "/:all*", "/a/:rest*", "/a/:id", "/a/:id.json", "/a/:id.min.json", "/a/:id:run", "/a/b",
        "/a/b/c", "/:first/y/z", "/",
    ]  # fmt: skip

    assert router(*patterns).match("GET", path).route == f"GET {winner}"
    assert router(*reversed(patterns)).match("GET", path).route == f"GET {winner}"


def test_literal_that_leads_nowhere_falls_back_to_a_parameter() -> None:
    routes = router("/a/b/c", "/:x/b/d", "/a/:y/e", "/a/:rest*")

    assert routes.match("GET", "/a/b/d") == ("GET /a/:rest*", {"rest": "b/d"})
    assert routes.match("GET", "/a/b/e") == ("GET /a/:y/e", {"y": "b"})
    assert routes.match("GET", "/z/b/d") == ("GET /:x/b/d", {"x": "z"})


def test_many_takes_one_or_more_segments_but_not_none() -> None:
    routes = router("/files/:path*")

    assert routes.match("GET", "/files/a").params == {"path": "a"}
    assert routes.match("GET", "/files/a/b/c").params == {"path": "a/b/c"}
    assert refusal(routes, "GET", "/files").code == "endpoint_not_found"


def test_each_method_has_its_own_names_for_the_parameters() -> None:
    routes = router("GET /u/:id", "PUT /u/:name")

    assert routes.match("GET", "/u/7").params == {"id": "7"}
    assert routes.match("PUT", "/u/7").params == {"name": "7"}


def test_head_works_where_get_does_unless_it_has_an_endpoint() -> None:
    assert router("GET /a").match("HEAD", "/a").route == "GET /a"
    assert router("GET /a", "HEAD /a").match("HEAD", "/a").route == "HEAD /a"
    assert refusal(router("POST /a"), "HEAD", "/a").code == "method_not_allowed"


@pytest.mark.parametrize(
    ("patterns", "allow"),
    [
        (["GET /a"], b"GET, HEAD"),
        (["POST /a", "DELETE /a"], b"DELETE, POST"),
        (["GET /a", "PUT /:x"], b"GET, HEAD, PUT"),
        (["GET /a", "PUT /:x", "PATCH /:x*", "POST /b"], b"GET, HEAD, PATCH, PUT"),
    ],
)
def test_wrong_method_is_told_which_ones_there_are(patterns: list[str], allow: bytes) -> None:
    rejected = refusal(router(*patterns), "TRACE", "/a")

    assert (rejected.code, rejected.headers) == ("method_not_allowed", [(b"Allow", allow)])


def test_unknown_path_is_not_found() -> None:
    assert refusal(router("/a", "/b/:c"), "GET", "/c").code == "endpoint_not_found"
    assert refusal(router(), "GET", "/").code == "endpoint_not_found"


def steps(call: Callable[[], object]) -> int:
    """How many function calls something takes, those in C counted."""
    counted = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal counted
        counted += event in {"call", "c_call"}

    gc.disable()  # what is told of a collection would count, too
    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted


@pytest.mark.parametrize(
    "shape", ["/r{:03}", "/r{:03}/:id", "/items/:id/r{:03}", "/items/:id:r{:03}", "/r{:03}/:rest*"]
)
def test_500_endpoints_cost_the_steps_of_5(shape: str) -> None:
    few, many = (router(*map(shape.format, range(count))) for count in (5, 500))
    path = shape.format(4).replace(":id", "x").replace(":rest*", "x")

    assert steps(lambda: few.match("GET", path)) == steps(lambda: many.match("GET", path))
    assert steps(lambda: missed(few)) == steps(lambda: missed(many))


def missed(routes: Router[str]) -> Rejected:
    return refusal(routes, "GET", "/items/none/of/them")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a", "begins with a slash"), ("", "begins with a slash"), ("/a/", "no empty"),
        ("//", "no empty"), ("/a/../b", "no dot"), ("/.", "no dot"), ("/:a*/b", "only the last"),
        ("/:a/:a", "used once"), ("/:a*x", "neither"), ("/:a*.json", "nothing may follow"),
        ("/:", "neither"), ("/:1", "neither"), ("/a b", "neither"), ("/a?b", "neither"),
        ("/a%20b", "neither"), ("/é", "neither"), ("/a*", "neither"), ("/{a}", "neither"),
        ("/:a.", "neither"), ("/a\n", "neither"), ("/a" * 65, "at most 64"),
    ],
)  # fmt: skip
def test_patterns_that_cannot_be_used_say_why(text: str, reason: str) -> None:
    with pytest.raises(PatternFault, match=reason):
        parse(text)


@pytest.mark.parametrize(
    ("one", "other"), [("/a/:b", "/a/:c"), ("/:a*", "/:b*"), ("/:a.json", "/:b.json"), ("/a", "/a")]
)
def test_ties_are_refused(one: str, other: str) -> None:
    assert parse(one).shape == parse(other).shape
    with pytest.raises(PatternFault, match="same paths"):
        router(one, other)
    assert router(one, f"PUT {other}") is not None


OCTETS = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.text(min_size=1, max_size=4).map(lambda text: text.encode("utf-8", "replace")),
    st.text("aZ0-._~!$&'()*+,;=:@/%?# ", min_size=1, max_size=4).map(str.encode),
)
ENCODINGS = st.sampled_from([quote, quote_all, lambda o: "".join(f"%{octet:02x}" for octet in o)])
PATH_CHARACTERS = frozenset(quote_all(bytes(range(128))) + "-._~!$&'()*+,;=:@/")


@given(st.lists(st.tuples(OCTETS, ENCODINGS), min_size=1, max_size=5))
def test_whatever_matches_is_sent_as_segments_that_decode_to_what_came(parts: list[Any]) -> None:
    path = "".join(f"/{encode(octets)}" for octets, encode in parts)
    with suppress(Rejected):
        match = router("/:first/:rest*", "/:only").match("GET", path)
        sent = "/".join(match.params.values())

        came = map(unquote_to_bytes, path[1:].split("/"))
        assert list(map(unquote_to_bytes, sent.split("/"))) == list(came)
        assert set(sent) <= PATH_CHARACTERS


@given(st.lists(st.text("aZ0-._~!$&'()*+,;=:@%é ", min_size=2).map(quote), min_size=1, max_size=5))
def test_unambiguous_paths_match(segments: list[str]) -> None:
    unambiguous = [f"x{segment}" for segment in segments]

    assert EVERYTHING.match("GET", "/" + "/".join(unambiguous)).params


@pytest.mark.parametrize("octet", b"!$&'()*+,;=:@")
def test_encoded_reserved_characters_stay_encoded_and_raw_ones_raw(octet: int) -> None:
    """`a+b` and `a%2Bb` are different names to some servers (RFC 3986 2.2)."""
    compared, sent = segments_of(f"/x{chr(octet)}y/x%{octet:02x}y")

    assert compared[0] == compared[1] == f"x{chr(octet)}y"
    assert sent == [f"x{chr(octet)}y", f"x%{octet:02X}y"]
