"""Templates: a value stays a value, whatever is in it, and what can't be right isn't saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.exchange import Body, Exchange
from gateway.problems import Rejected
from gateway.transform.body_template import TemplateFault, compile_template

NONE: Mapping[str, str] = {}
HOSTILE = (
    '"', "\\", '\\"', '","admin":true,"x":"', "}\n{", "\x00\x1f\x7f", "\u2028é\U0001f600", "{{body.b}}",
    "{{secrets.token}}", "{{", "}}", "${x}", "\\u0022", "'", "</script>", "\r\nX: y",
)  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def made(
    text: str,
    body: bytes = b"{}",
    *,
    media_type: str | None = None,
    params: Mapping[str, str] = NONE,
    query: str = "",
) -> bytes:
    """What a template makes of a request."""
    exchange = Exchange(
        "POST", "/x", query, CIMultiDict(), (), Body.of(body), client_address="", request_id="r"
    )
    exchange.params = params
    return compile_template(text, media_type, params.keys()).make(exchange)


@given(VALUES)
@example("{{secrets.token}}")
def test_whole_value_is_exactly_the_callers(value: Any) -> None:
    content = made('{"a": {{ body.v }}, "b": [{{body.v}}]}', json.dumps({"v": value}).encode())

    assert json.loads(content) == {"a": value, "b": [value]}


@given(st.text() | st.sampled_from(HOSTILE))
@example('"}')
def test_text_inside_a_string_is_exactly_the_callers(value: str) -> None:
    content = made(
        r'{"a": "<{{body.v}}|{{body.v}}>", "b\"{": "\\{{body.v}}"}',
        json.dumps({"v": value}).encode(),
    )

    assert json.loads(content) == {"a": f"<{value}|{value}>", 'b"{': f"\\{value}"}


@given(VALUES)
def test_anything_inside_a_string_stays_inside(value: Any) -> None:
    document = json.loads(made('{"a": "{{body}}", "z": 1}', json.dumps(value).encode()))
    text = document.pop("a")

    assert document == {"z": 1}
    if isinstance(value, str) or value is None:
        assert text == (value or "")
    else:
        assert json.loads(text) == value


@pytest.mark.parametrize("value", HOSTILE)
def test_parameters_and_query_are_values_too(value: str) -> None:
    encoded = quote(value, safe="")
    content = made(
        '{"p": "{{params.p}}", "q": {{query.q}}}', params={"p": encoded}, query=f"q={encoded}&q=2"
    )

    assert json.loads(content) == {"p": value, "q": value}


def test_types_are_kept_outside_strings_and_written_inside() -> None:
    body = (
        b'{"n":1.10,"big":123456789012345678901234567890,"t":true,"o":{"x":[1]},"z":null,"s":"x"}'
    )
    names = ("n", "big", "t", "o", "z", "s", "gone", "o.x.0", "o.x.1", "s.x")
    places = [f"{{{{body.{name}}}}}" for name in names]
    whole = made(f"[{','.join(places)}]", body)
    inside = made('["{}"]'.format('","'.join(places)), body)

    assert whole == (
        b'[1.10,123456789012345678901234567890,true,{"x":[1]},null,"x",null,1,null,null]'
    )
    assert json.loads(inside) == [
        "1.10", "123456789012345678901234567890", "true", '{"x":[1]}', "", "x", "", "1", "", ""
    ]  # fmt: skip


def test_value_is_never_looked_at_again() -> None:
    body = json.dumps({"a": "{{body.b}}{{query.q}}", "b": "hush"}).encode()

    assert made('"{{body.a}}"', body, query="q=1") == b'"{{body.b}}{{query.q}}"'


def test_query_takes_the_first_and_names_with_anything_in_them() -> None:
    text = '["{{query.a.b}}", "{{query.plus}}", {{query.bare}}, {{query.none}}]'

    assert json.loads(made(text, query="a%2Eb=1&a.b=2&plus=a+b%2B&bare")) == ["1", "a b+", "", None]


def test_body_is_asked_for_only_where_it_is_named() -> None:
    assert compile_template('"{{body.a}}"', None, ()).needs_body
    assert not compile_template('"{{query.a}}{{params.b}}"', None, ("b",)).needs_body
    assert made('{"a": "{{query.a}}"}', b"not JSON", query="a=1") == b'{"a": "1"}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": {{body.a}}', "not JSON"), ("", "not JSON"), ("{{body.a}}{{body.b}}", "not JSON"),
        ('{"a": 1{{body.a}}}', "not JSON"), ('{"a": -{{body.a}}}', "not JSON"),
        ('{{{body.a}}: 1}', "none of"), ('{ {{body.a}}: 1}', "not JSON"),
        ('"a\\{{body.a}}"', "not JSON"), ('"a\\{{body.a}}n"', "not JSON"),
        ('"\\u00{{body.a}}22"', "not JSON"), ('"\\u{{body.a}}0022"', "not JSON"),
        ('{"a": "{{body.a}}}', "not JSON"), ("tr{{body.a}}ue", "not JSON"), ('"{{body.a}}" x', "not JSON"),
        ("'{{body.a}}'", "not JSON"), ('["a" {{body.a}}]', "not JSON"),
        ('"{{secrets.token}}"', "none of"), ('"{{a}}"', "none of"), ('"{{}}"', "none of"),
        ('"{{body.}}"', "none of"), ('"{{params}}"', "none of"), ('"{{query.}}"', "none of"),
        ('"{{env.HOME}}"', "none of"), ('"{{body.a b}}"', "not a path"), ('"{{body.a..b}}"', "not a path"),
        ('"{{body.a[0]}}"', "not a path"), ('"{{params.other}}"', 'no parameter "other"'),
    ],
)  # fmt: skip
def test_template_that_could_go_wrong_does_not_compile(text: str, why: str) -> None:
    for media_type in (None, "application/json; charset=utf-8", "application/vnd.api+json"):
        with pytest.raises(TemplateFault, match=why):
            compile_template(text, media_type, ("id",))


@given(st.lists(st.sampled_from(['"', "\\", "{", "}", "[", "]", ",", ":", "1", "a", "u", "{{body.v}}", " "]), max_size=12).map("".join))  # fmt: skip
def test_what_compiles_is_json_whatever_comes(text: str) -> None:
    try:
        compile_template(text, None, ())
    except TemplateFault:
        return
    plain = json.loads(made(text, b'{"v": "MARK"}'))
    for value in HOSTILE:
        assert json.loads(made(text, json.dumps({"v": value}).encode())) == _with(plain, value)


NAMES = st.sampled_from(['"a"', '"{{body.v}}"', '"\\"{{body.v}}"'])
LEAVES = st.sampled_from(
    [
        "{{body.v}}",
        '"{{body.v}}"',
        r'"\\{{body.v}}\""',
        r'"\u0041{{body.v}}{{ body.v }}"',
        "1",
        '"{"',
    ]
)
TEMPLATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(NAMES, inner).map(":".join), max_size=3).map(
            lambda parts: f"{{ {' , '.join(parts)} }}"
        )
    ),
    max_leaves=6,
)


@given(TEMPLATES, TEXTS | st.sampled_from(HOSTILE))
def test_values_never_become_structure(text: str, value: str) -> None:
    plain = json.loads(made(text, b'{"v": "MARK"}'))

    assert json.loads(made(text, json.dumps({"v": value}).encode())) == _with(plain, value)


def _with(document: Any, value: str) -> Any:
    """The document with the value in place of each MARK in its strings and names."""
    if isinstance(document, dict):
        return {_with(name, value): _with(inner, value) for name, inner in document.items()}
    if isinstance(document, list):
        return [_with(inner, value) for inner in document]
    return document.replace("MARK", value) if isinstance(document, str) else document


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b"[" * 100_000])
def test_body_that_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected, match="not JSON") as caught:
        made('"{{body.a}}"', body)
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize("template", ['"{{body.a}}"', "{{body.a}}", '"{{body}}"'])
def test_half_a_surrogate_pair_is_refused(template: str) -> None:
    with pytest.raises(Rejected) as caught:
        made(template, b'{"a": "\\ud800"}')
    assert caught.value.code == "bad_request"


@pytest.mark.parametrize("query", ["q=%ff", "%ff=1", "q=%e2%82"])
def test_query_that_is_not_text_is_refused(query: str) -> None:
    with pytest.raises(Rejected) as caught:
        made('"{{query.q}}"', query=query)
    assert caught.value.code == "bad_request"


@given(TEXTS)
def test_form_template_keeps_each_value_in_its_field(value: str) -> None:
    content = made(
        "a={{body.v}}&b={{body.n}}&c={{body.gone}}",
        json.dumps({"v": value, "n": 1}).encode(),
        media_type="application/x-www-form-urlencoded",
    )

    pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True)
    assert pairs == [("a", value), ("b", "1"), ("c", "")]


@pytest.mark.parametrize("value", ["<b>&amp;</b>", '" x="', "'", "]]>", "{{body.v}}"])
def test_xml_template_keeps_each_value_in_its_element(value: str) -> None:
    text = '<r><a b="{{body.v}}">{{body.v}}</a></r>'
    content = made(text, json.dumps({"v": value}).encode(), media_type="application/soap+xml")
    element = Xml.fromstring(content)[0]  # noqa: S314 - of our own making

    assert (element.text, element.get("b"), len(element)) == (value, value, 0)


def test_other_text_gets_values_as_they_are() -> None:
    content = made("a {{body.v}} é {{body.o}}", b'{"v": "\\"<", "o": [1]}', media_type="text/plain")

    assert content == 'a "< é [1]'.encode()


def test_content_type_is_json_where_nothing_else_is_said() -> None:
    assert compile_template("{{body}}", None, ()).content_type == "application/json"
    assert compile_template("{{body}}", "text/plain", ()).content_type is None
