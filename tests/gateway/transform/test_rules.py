"""The rules of an endpoint: what compiles, what passes, and where a refusal points."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from gateway.problems import Fault, Rejected
from gateway.transform.rules import (
    RuleFault,
    Rules,
    compile_pattern,
    compile_schema,
    compile_words,
    pointer,
)

PERSON = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "tags": {"type": "array", "items": {"type": "string"}},
        "a/b~c": {"type": "integer"},
    },
    "additionalProperties": False,
}


def refusal(rules: Rules, body: bytes) -> Rejected:
    with pytest.raises(Rejected) as caught:
        rules.check_body(body)
    return caught.value


def header_refusal(rules: Rules, headers: Mapping[str, str]) -> Rejected:
    with pytest.raises(Rejected) as caught:
        rules.check_headers(CIMultiDict(headers))
    return caught.value


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({"name": "Ann"}, []),
        ({"name": "Ann", "tags": ["a", "b"]}, []),
        ({}, [""]),
        ([], [""]),
        ({"name": 5}, ["/name"]),
        ({"name": "Ann", "tags": ["a", 1, "b", 2]}, ["/tags/1", "/tags/3"]),
        ({"name": "Ann", "a/b~c": "x"}, ["/a~1b~0c"]),
        ({"name": "Ann", "more": 1}, [""]),
        ({"name": "too long", "tags": 1}, ["/name", "/tags"]),
    ],
)
def test_schema_names_each_place_by_its_pointer(body: Any, places: list[str]) -> None:
    rules = Rules(schema=compile_schema(PERSON))

    if not places:
        rules.check_body(orjson.dumps(body))
        return
    rejected = refusal(rules, orjson.dumps(body))
    assert rejected.code == "validation_failed"
    assert [fault.pointer for fault in rejected.errors] == places


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"\xff", b'{"name": NaN}', b"[" * 5000])
def test_body_that_is_not_json_is_a_bad_request(body: bytes) -> None:
    assert refusal(Rules(schema=compile_schema(PERSON)), body).code == "bad_request"


def test_refusal_does_not_repeat_values_of_the_body() -> None:
    schema = compile_schema(
        {
            "properties": {
                "a": {"type": "integer"}, "b": {"enum": [1]}, "c": {"maxLength": 2},
                "d": {"pattern": "^x"}, "e": {"const": 1}, "f": {"items": {"minimum": 5}},
            }
        }
    )  # fmt: skip
    body = {**dict.fromkeys("abcde", "hush-hush"), "f": [1]}
    rejected = refusal(Rules(schema=schema), orjson.dumps(body))

    assert len(rejected.errors) == 6
    assert "hush" not in repr(rejected.errors)


def test_refusal_is_short_whatever_the_body() -> None:
    schema = compile_schema({"items": {"type": "integer"}, "properties": {"x" * 999: False}})
    many = refusal(Rules(schema=schema), orjson.dumps(["hush"] * 1000))
    long = refusal(Rules(schema=schema), orjson.dumps({"x" * 999: 1}))

    assert len(many.errors) == 20
    assert all(len(fault.detail) <= 200 for fault in long.errors)


@pytest.mark.parametrize(
    "schema",
    [
        5, "x", None, [], {"type": 5}, {"type": "nope"}, {"required": "name"}, {"pattern": "(?=a)"},
        {"pattern": "("}, {"$ref": "#/nowhere"}, {"minimum": "1"},
        {"$ref": "http://127.0.0.1/schema"}, {"$ref": "other.json"}, {"$ref": "//host/x"},
        {"$dynamicRef": "http://127.0.0.1/schema"}, {"items": [{"$ref": "file:///etc/passwd"}]},
        {"$id": "http://127.0.0.1/", "properties": {"a": {"$ref": "x"}}},
    ],
    ids=str,
)  # fmt: skip
def test_schema_that_does_not_compile_or_leads_elsewhere_is_refused(schema: Any) -> None:
    with pytest.raises(RuleFault, match=r"\S"):
        compile_schema(schema)


def test_schema_nested_too_deeply_is_refused_and_not_a_crash() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}

    with pytest.raises(RuleFault):
        compile_schema(schema)


async def test_compiling_a_schema_asks_nobody() -> None:
    asked = []

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(1)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/schema"
        schema = {"$schema": url, "$id": url, "$comment": url, "type": "integer"}
        rules = Rules(schema=await asyncio.to_thread(compile_schema, schema))
        rules.check_body(b"1")

    assert not asked


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, True])
def test_schema_that_refers_to_itself_ends(schema: Any) -> None:
    Rules(schema=compile_schema(schema)).check_body(b'{"a": [1]}')


def test_schema_false_refuses_everything() -> None:
    assert refusal(Rules(schema=compile_schema(False)), b"{}").code == "validation_failed"


@pytest.mark.parametrize(
    ("pattern", "body", "passes"),
    [
        ("^a+$", b"aaa", True), ("^a+$", b"", False), ("^a*$", b"", True), ("b", b"abc", True),
        ("(?i)É", "é".encode(), True), (r"\d{3}", b"12", False),
    ],
)  # fmt: skip
def test_pattern_is_searched_for_in_the_body(pattern: str, body: bytes, passes: bool) -> None:
    rules = Rules(pattern=compile_pattern(pattern))

    if passes:
        rules.check_body(body)
    else:
        assert refusal(rules, body).errors == (Fault("", "does not match the pattern"),)


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "a{1001}", "[", "(?P<a>x", "*"])
def test_pattern_that_is_not_linear_or_not_a_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(RuleFault, match=r"^not an RE2 pattern: (?!b')\S"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(.*)*$x", "(x+x+)+y"])
def test_no_body_makes_a_pattern_slow(pattern: str) -> None:
    rules = Rules(pattern=compile_pattern(pattern))
    begun = time.process_time()

    refusal(rules, b"a" * 100_000 + b"!\n")
    assert time.process_time() - begun < 1


def test_body_that_is_not_text_is_a_bad_request_where_text_is_looked_at() -> None:
    assert refusal(Rules(pattern=compile_pattern("a")), b"\xff").code == "bad_request"
    assert refusal(Rules(words=compile_words(["a"])), b"\xff").code == "bad_request"
    Rules().check_body(b"\xff")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("drop", "drop"), ("DROP it", "DROP"), ("please, drop!", "drop"), ("a\ndrop\nb", "drop"),
        ("two words", "two words"), ("use c++.", "c++"), ("«été»", "été"), ("ÉTÉ", "ÉTÉ"),
        ("drops", None), ("raindrop", None), ("drop_it", None), ("drop2", None), ("", None),
        ("twowords", None), ("xc++", None), ("étés", None), ("éfen", None), ("fenêtre", None),
        ("dropé", None), ("дrop drop", "drop"),
    ],
)  # fmt: skip
def test_forbidden_words_are_found_as_whole_words(text: str, found: str | None) -> None:
    rules = Rules(words=compile_words(["drop", "two words", "c++", "été", "fen"]))

    if found is None:
        rules.check_body(text.encode())
    else:
        assert refusal(rules, text.encode()).errors == (
            Fault("", f"the word {found} is forbidden"),
        )


@pytest.mark.parametrize("value", [None, "", "  ", "\t"])
def test_required_header_must_say_something(value: str | None) -> None:
    headers = {"x-one": "1"} | ({} if value is None else {"x-two": value})
    rejected = header_refusal(Rules(required_headers=("x-one", "x-two", "x-three")), headers)

    assert rejected.code == "validation_failed"
    assert [fault.pointer for fault in rejected.errors] == ["x-two", "x-three"]


def test_required_header_is_found_in_any_case() -> None:
    Rules(required_headers=("x-one",)).check_headers(CIMultiDict({"X-ONE": "1"}))


MEDIA = Rules(media_types=frozenset({"application/json", "text/csv"}))


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Content-Length": "0"}, {"Content-Type": "application/json"},
        {"Content-Type": "Application/JSON ; charset=utf-8", "Content-Length": "2"},
        {"Content-Type": "text/csv;header=present", "Transfer-Encoding": "chunked"},
    ],
)  # fmt: skip
def test_media_type_on_the_list_passes_and_no_body_needs_none(headers: dict[str, str]) -> None:
    MEDIA.check_headers(CIMultiDict(headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/xml"}, {"Content-Type": ""}, {"Content-Type": "application/json5"},
        {"Content-Type": "text/xml; a=application/json"}, {"Content-Length": "2"},
        {"Transfer-Encoding": "chunked"},
    ],
)  # fmt: skip
def test_other_media_types_and_a_body_without_one_are_refused(headers: dict[str, str]) -> None:
    assert header_refusal(MEDIA, headers).status == 415


@pytest.mark.parametrize(
    ("rules", "needed"),
    [
        (Rules(), False),
        (Rules(required_headers=("a",), media_types=frozenset({"b"})), False),
        (Rules(schema=compile_schema(True)), True),
        (Rules(pattern=compile_pattern("a")), True),
        (Rules(words=compile_words(["a"])), True),
    ],
    ids=["none", "headers", "schema", "pattern", "words"],
)
def test_body_is_read_only_where_a_rule_needs_it(rules: Rules, needed: bool) -> None:
    assert rules.need_body is needed


@pytest.mark.parametrize(
    ("path", "text"),
    [([], ""), (["foo", 0], "/foo/0"), ([""], "/"), (["a/b"], "/a~1b"), (["m~n"], "/m~0n"), (["~1"], "/~01")],
)  # fmt: skip
def test_pointers_are_those_of_rfc_6901(path: list[str | int], text: str) -> None:
    assert pointer(path) == text
